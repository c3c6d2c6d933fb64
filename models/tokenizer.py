"""Reading a base model's tokenizer."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from errors import ModelError


def load_tokenizer(
    path: str, revision: str | None, config: PretrainedConfig
) -> PreTrainedTokenizerBase:
    """The tokenizer as its tokenizer.json says.

    For a Llama's files, in a folder or of the hub, AutoTokenizer rebuilds normaliser and
    pre-tokeniser and ignores those of tokenizer.json, so that words split differently from what
    the model was trained on.

    Raises:
        OSError: there is none.
        ValueError: it cannot be read.
    """
    reader: Any = AutoTokenizer
    is_llama = config.get_text_config().model_type == "llama"
    if is_llama and _is_there(path, revision, "tokenizer.json"):
        reader = PreTrainedTokenizerFast
    return reader.from_pretrained(path, revision=revision or "main")


def named_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of the hub, with or without a model around it.

    Raises:
        ModelError: there is none that can be read.
    """
    try:
        if not _is_there(path, revision, "config.json"):
            return PreTrainedTokenizerFast.from_pretrained(path, revision=revision or "main")
        config = AutoConfig.from_pretrained(path, revision=revision or "main")
        return load_tokenizer(path, revision, config)
    except (OSError, ValueError) as error:
        why = next(iter(str(error).splitlines()), "").rstrip(".")
        raise ModelError(
            f"no tokenizer can be read from {path!r} ({why}). Name an option of configs/model, a "
            "folder with a tokenizer.json, or a repository of the hub that is in its cache."
        ) from error


def _is_there(path: str, revision: str | None, name: str) -> bool:
    """Whether a folder has a file, or a repository of the hub or of its cache does."""
    try:
        return cached_file(path, name, revision=revision or "main") is not None
    except OSError:
        return False
