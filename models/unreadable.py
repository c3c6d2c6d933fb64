"""What is said where transformers cannot read a model's files: why, and what is not there."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

from huggingface_hub.errors import StrictDataclassError

# What transformers raises for files that are not there, damaged, or of another model.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError)
WORDS = ("tokenizer.json", "tokenizer_config.json")
PICTURES = ("preprocessor_config.json",)
_LONGEST = 300  # characters of another library's message


def absent_files(path: str, *names: str) -> str:
    """A sentence, after a blank, about those files that a local folder lacks; empty if none."""
    folder = Path(path)
    absent = [name for name in names if folder.is_dir() and not (folder / name).is_file()]
    return f" Not in that folder: {', '.join(absent)}." if absent else ""


def reason(error: Exception) -> str:
    """What another library says, in one line that ends as a sentence; a bare key by its kind."""
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    text = shorten(f"{kind}{error}", _LONGEST, placeholder=" ...")
    return text if text.endswith(".") else f"{text}."
