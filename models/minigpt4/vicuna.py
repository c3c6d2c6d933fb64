"""The Vicuna below MiniGPT-4: is it the right one, are its weights whole, what is its tokenizer.

MiniGPT-4 (7B) was trained on Vicuna v0; with another version the linear map's features mean nothing
to the Llama, and it babbles (Vision-CAIR/MiniGPT-4, issues 12 and 25). Versions differ in what
config.json says:

    v0    vocab_size 32001, rms_norm_eps 1e-6    LLaMA; one row for a pad token
    v1.1  vocab_size 32000, rms_norm_eps 1e-6    LLaMA; v1.3 too, and LLaMA itself
    v1.5  vocab_size 32000, rms_norm_eps 1e-5    Llama 2
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from errors import ModelError
from models.minigpt4.original import load_pickle
from models.tensor_file import TensorFile

Version = Literal["v0", "v1.1", "v1.5", "any"]

# A trained Llama's last norm is near 1 or above; the difference of two of them is near 0. The norms
# of early layers would not tell: LLaMA's first one is itself small.
_NORM, _SMALLEST_NORM = "model.norm.weight", 0.05
_FETCH = "Fetch it again."
_EMBEDDINGS = "model.embed_tokens.weight"


class _VersionMarks(NamedTuple):
    vocabulary: int
    eps: float

    def __str__(self) -> str:
        return f"vocab_size {self.vocabulary}, rms_norm_eps {self.eps:g}"


VERSIONS: dict[str, _VersionMarks] = {
    "v0": _VersionMarks(32001, 1e-6),
    "v1.1": _VersionMarks(32000, 1e-6),
    "v1.5": _VersionMarks(32000, 1e-5),
}


def check_vicuna(folder: Path, version: Version) -> LlamaConfig:
    """Looks at configuration, file headers and two tensors, before anything heavy loads.

    Args:
        folder: in transformers' form, with .safetensors or .bin weights.
        version: which Vicuna it has to be; `any` accepts every Llama.

    Raises:
        ModelError: no Llama, another version, damaged files, or a delta that was not applied.
    """
    config = _config(folder)
    _check_version(folder, config, version)
    files = _weight_files(folder)
    for path in sorted(set(files.values())):
        _check_whole(path)
    rows = len(_tensor(files, _EMBEDDINGS, folder))
    if rows != config.vocab_size:
        raise ModelError(
            f"{folder}: config.json says vocab_size {config.vocab_size}, and the embedding table "
            f"has {rows} rows. Weights and config.json are of different models (a delta applied "
            "to the wrong base, or a file copied from another version); fetch the folder anew."
        )
    _check_no_delta(folder, files)
    return config


def version_of(config: LlamaConfig) -> str | None:
    """The Vicuna version with these marks; None where no version has them."""
    for name, marks in VERSIONS.items():
        same_eps = math.isclose(config.rms_norm_eps, marks.eps, rel_tol=1e-3)
        if config.vocab_size == marks.vocabulary and same_eps:
            return name
    return None


def load_vicuna(folder: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    """The weights, every one of them from the folder.

    Raises:
        ModelError: they cannot be read, or weights are missing, unknown or of another shape.
    """
    try:
        llama, info = LlamaForCausalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, local_files_only=True
        )
    except Exception as error:  # whatever a damaged shard makes of it
        raise ModelError(
            f"--vicuna {folder}: the weights cannot be loaded: {' '.join(str(error).split())}"
        ) from error
    wrong = {}
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in info.get(kind) or ())  # without old inv_freq
        if keys:
            wrong[kind] = f"{len(keys)} {kind.replace('_', ' ')}, as {keys[:5]}"
    if wrong:
        raise ModelError(
            f"--vicuna {folder}: the weights are not those of a Llama with this config.json: "
            f"{'; '.join(wrong.values())}. Use a complete folder."
        )
    return llama


def weight_file_names(folder: Path) -> list[str]:
    """Names of the files with weights."""
    return sorted({path.name for path in _weight_files(folder).values()})


def _config(folder: Path) -> LlamaConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"--vicuna {folder} has no config.json; give the folder of a Vicuna in transformers' "
            "form (config.json, weights, tokenizer)."
        )
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
        config = LlamaConfig.from_pretrained(folder) if kind == "llama" else None
    except Exception as error:  # not JSON, no mapping, or a value that transformers refuses
        raise ModelError(
            f"{path} cannot be read: {' '.join(str(error).split())} {_FETCH}"
        ) from error
    if config is None:
        raise ModelError(
            f"--vicuna {folder} holds a model of type {kind!r}; MiniGPT-4 stands on a Vicuna, "
            "whose type is 'llama'."
        )
    return config


def _check_version(folder: Path, config: LlamaConfig, version: Version) -> None:
    seen = version_of(config)
    if version in ("any", seen):
        return
    guess = f"Vicuna {seen}" if seen else "no Vicuna version known here"
    accept = seen or "any"
    marks = _VersionMarks(config.vocab_size, config.rms_norm_eps)
    raise ModelError(
        f"--vicuna {folder} looks like {guess} ({marks}); "
        f"wanted is {version} ({VERSIONS[version]}). MiniGPT-4 7B was trained on Vicuna v0 and "
        "answers with garbage on others (Vision-CAIR/MiniGPT-4, issues 12 and 25). If the linear "
        f"map was trained on this model, pass --vicuna-version {accept}."
    )


def _weight_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor by an index, or one file for all (name ""); as transformers picks."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index, single = folder / f"{stem}.index.json", folder / stem
        if single.is_file():
            return {"": single}
        if not index.is_file():
            continue
        try:
            names = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{index} cannot be read: {error!r}. {_FETCH}") from error
        files = {name: folder / file for name, file in names.items()}
        absent = sorted({path.name for path in files.values() if not path.is_file()})
        if absent:
            raise ModelError(f"{folder} lacks {', '.join(absent)}, which {index.name} names.")
        return files
    raise ModelError(
        f"--vicuna {folder} has no weights: neither model.safetensors nor pytorch_model.bin, nor "
        "an index of several."
    )


def _check_whole(path: Path) -> None:
    """Tells a truncated file by its header (safetensors) or its missing directory (zip)."""
    name = f"{path} ({path.stat().st_size} bytes)"
    if path.suffix == ".safetensors":
        TensorFile.of(path, name=name, remedy=_FETCH)
        return
    with path.open("rb") as file:
        starts_as_zip = file.read(2) == b"PK"
    if starts_as_zip and not zipfile.is_zipfile(path):
        raise ModelError(f"{name} is damaged or incomplete. {_FETCH}")


def _tensor(files: dict[str, Path], name: str, folder: Path) -> torch.Tensor:
    path = files.get(name, files.get(""))
    tensor = None
    if path is not None and path.suffix == ".safetensors":
        file = TensorFile.of(path, remedy=_FETCH)
        tensor = file.read([name])[name] if name in file.shapes else None
    elif path is not None:
        content = load_pickle(path, mmap=True)
        tensor = content.get(name) if isinstance(content, dict) else None
    if not isinstance(tensor, torch.Tensor):
        raise ModelError(f"the weights in {folder} have no {name}: they are not a Llama's.")
    return tensor


def _check_no_delta(folder: Path, files: dict[str, Path]) -> None:
    size = float(_tensor(files, _NORM, folder).float().abs().mean())
    if not size >= _SMALLEST_NORM:  # NaN is refused too
        raise ModelError(
            f"--vicuna {folder} holds delta weights, not a model: {_NORM} is {size:.3g} on "
            f"average, and a Llama's is above {_SMALLEST_NORM}. Add them to LLaMA first: python -m "
            "fastchat.model.apply_delta --base LLAMA --target VICUNA --delta DELTA (for v0: of "
            "fschat 0.1.10, since later ones do not know its extra row)."
        )
