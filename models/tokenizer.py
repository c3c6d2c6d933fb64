"""Reading a base model's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)


def load_tokenizer(
    path: str, revision: str | None, config: PretrainedConfig
) -> PreTrainedTokenizerBase:
    """The tokenizer as its tokenizer.json says.

    For a Llama's folder AutoTokenizer rebuilds normaliser and pre-tokeniser and ignores those in
    the file, so that words split differently from what the model was trained on.

    Raises:
        OSError: there is none.
        ValueError: it cannot be read.
    """
    reader: Any = AutoTokenizer
    is_llama = config.get_text_config().model_type == "llama"
    if is_llama and (Path(path) / "tokenizer.json").is_file():
        reader = PreTrainedTokenizerFast
    return reader.from_pretrained(path, revision=revision or "main")
