"""Makes a transformers folder of MiniGPT-4 from the authors' files and a Vicuna.

    config.json, model*.safetensors     MiniGPT4ForConditionalGeneration
    tokenizer.json, ..._config.json     Vicuna's tokenizer, as a fast one
    preprocessor_config.json            BLIP's image processor: squashed to a square, bicubic
    manifest.json                       where it came from, and the sha256 of every file

Everything light is checked before Vicuna loads. The folder is written beside its final place and
renamed at the end, so that what stands there is whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from errors import ModelError
from models.folder import MANIFEST, sha256
from models.minigpt4.modeling import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from models.minigpt4.original import (
    Converted,
    Layout,
    Tensors,
    read_projection,
    read_qformer,
    read_vit,
)
from models.minigpt4.tokenizer import check_saved, read_tokenizer
from models.minigpt4.vicuna import (
    Version,
    check_vicuna,
    load_vicuna,
    version_of,
    weight_file_names,
)
from results.files import replacing_folder

log = logging.getLogger(__name__)
Dtype = Literal["float16", "bfloat16", "float32"]
_SHARD = "5GB"
_VICUNA_TEXTS = (
    "config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What MiniGPT-4 is made of.

    Attributes:
        vit, qformer, projection: as in `models.minigpt4.original`.
        vicuna: folder of Vicuna in transformers' form.
    """

    vit: Path
    qformer: Path
    projection: Path
    vicuna: Path


@dataclass(frozen=True)
class _Parts:
    vit: Converted
    qformer: Converted
    projection: Converted

    @property
    def tensors(self) -> Tensors:
        return self.vit.tensors | self.qformer.tensors | self.projection.tensors


def convert(
    sources: Sources,
    output: Path,
    *,
    version: Version = "v0",
    dtype: Dtype = "float16",
    layout: Layout | None = None,
    overwrite: bool = False,
) -> None:
    """Writes the folder.

    Args:
        sources: the four of them.
        output: a folder, new or empty.
        version: which Vicuna it has to be.
        dtype: number type of all weights in the folder.
        layout: what tensors do not show (default: that of MiniGPT-4).
        overwrite: replace what an earlier conversion wrote there.

    Raises:
        ModelError: a source is damaged, of the wrong kind, or does not fit the others, or the
            output is taken. Nothing is left behind.
    """
    _check_output(output, sources, overwrite)
    log.info("checking %s", sources.vicuna)
    text = check_vicuna(sources.vicuna, version)
    tokenizer = read_tokenizer(sources.vicuna, text.vocab_size)
    parts = _read(sources, layout or Layout())
    _check_fit(parts, text.hidden_size, sources.vicuna)
    log.info("loading %s in %s", sources.vicuna, dtype)
    llama = load_vicuna(sources.vicuna, getattr(torch, dtype))
    model = _assemble(parts, llama, tokenizer)
    with _written_beside(output) as folder:
        log.info("writing %s", output)
        _write(model, tokenizer, folder)
        check_saved(folder, sources.vicuna)
        log.info("hashing sources and output")
        manifest = {
            "model": "MiniGPT-4",
            "made_by": "python -m models.minigpt4 convert",
            "dtype": dtype,
            "vicuna_version": version_of(text) or "unknown",
            "sources": _describe(sources),
            "sha256": {path.name: sha256(path) for path in sorted(folder.iterdir())},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _check_output(output: Path, sources: Sources, overwrite: bool) -> None:
    folder = output.resolve()
    for source in vars(sources).values():
        if source.resolve().is_relative_to(folder):
            raise ModelError(f"--output {output} holds {source}, a source; give another folder.")
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"--output {output} is a file; give a folder, new or empty.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise ModelError(
            f"--output {output} is not empty; give another folder, or --overwrite to replace an "
            "earlier conversion."
        )
    if not _is_conversion(folder):
        raise ModelError(
            f"--output {output} holds no conversion of MiniGPT-4, and --overwrite replaces nothing "
            "else; give another folder, or empty this one."
        )


def _is_conversion(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MiniGPT4Config.model_type


def _read(sources: Sources, layout: Layout) -> _Parts:
    log.info("reading %s", sources.projection.name)
    projection = read_projection(sources.projection)
    log.info("reading %s", sources.qformer.name)
    qformer = read_qformer(sources.qformer, layout)
    log.info("reading %s", sources.vit.name)
    parts = _Parts(read_vit(sources.vit, layout), qformer, projection)
    for part in (parts.vit, parts.qformer, parts.projection):
        if part.dropped:
            log.info(
                "%s: %d tensors are not used, as %s",
                part.path.name, len(part.dropped), ", ".join(part.dropped[:3]),
            )  # fmt: skip
    return parts


def _check_fit(parts: _Parts, llama: int, vicuna: Path) -> None:
    """Widths from one source to the next."""
    vit, qformer, projection = parts.vit, parts.qformer, parts.projection
    seams = (
        (vit.path, vit.config["hidden_size"], qformer.path, qformer.config["encoder_hidden_size"]),
        (qformer.path, qformer.config["hidden_size"], projection.path,
         projection.config["in_features"]),
        (projection.path, projection.config["out_features"], vicuna, llama),
    )  # fmt: skip
    for giver, width_out, taker, width_in in seams:
        if width_out != width_in:
            raise ModelError(
                f"{giver} gives features of width {width_out}, and {taker} takes {width_in}: they "
                "belong to models of different sizes (the file of MiniGPT-4 7B goes with a "
                "Vicuna 7B, of width 4096). Use files of one model."
            )


def _assemble(
    parts: _Parts, llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> MiniGPT4ForConditionalGeneration:
    """The model around the loaded tensors: none is copied, and none may be missing."""
    qformer: dict[str, Any] = dict(parts.qformer.config)
    queries = qformer.pop("num_query_tokens")
    text = llama.config.to_dict()
    for name in ("bos", "eos", "pad"):  # early Vicunas have 0, 1 and -1 here
        text[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    config = MiniGPT4Config(
        vision_config=parts.vit.config,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=queries,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = MiniGPT4ForConditionalGeneration(config)
    weights = {name: t.to(llama.dtype).contiguous() for name, t in parts.tensors.items()}
    weights |= {f"language_model.{name}": t for name, t in llama.state_dict().items()}
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"the tensors of {parts.vit.path}, {parts.qformer.path} and {parts.projection.path} "
            f"do not make one model: {' '.join(str(error).split())}"
        ) from error
    return model


def _write(
    model: MiniGPT4ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    model.save_pretrained(folder, max_shard_size=_SHARD)
    tokenizer.save_pretrained(folder)
    side = model.config.vision_config.image_size
    BlipImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)


@contextmanager
def _written_beside(output: Path) -> Iterator[Path]:
    """A folder that takes the output's place if the block ends well, and is gone if it does not."""
    try:
        with replacing_folder(output) as folder:
            yield folder
    except OSError as error:  # a full disk, a folder that may not be written
        raise ModelError(f"--output {output} cannot be written: {error}") from error


def _describe(sources: Sources) -> dict[str, Any]:
    """File names, sizes and hashes of what went in; no paths, which say nothing elsewhere."""
    names = [*_VICUNA_TEXTS, *weight_file_names(sources.vicuna)]
    vicuna = [sources.vicuna / name for name in names]
    return {
        "vit": _facts(sources.vit),
        "qformer": _facts(sources.qformer),
        "projection": _facts(sources.projection),
        "vicuna": [_facts(path) for path in vicuna if path.is_file()],
    }


def _facts(path: Path) -> dict[str, str | int]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
