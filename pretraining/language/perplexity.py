r"""Perplexity of a language model on running text, $\exp(-\frac1n \sum_i \log p(t_i | t_{<i}))$.

`paragraphs.txt` was written for this project, so that no model has read it; other files can be
added. The begin token stands before each paragraph and is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch.nn.functional import cross_entropy

from errors import DataError
from models.language_model import LanguageModel
from pretraining.language.asking import head

PARAGRAPHS = Path(__file__).with_name("paragraphs.txt")
LONGEST = 1024  # tokens of a paragraph that are read; the rest of it is left out


class Perplexity(TypedDict):
    """Of the texts of one file: the number, and over how many tokens."""

    perplexity: float
    tokens: int


def read_paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, which blank lines separate; lines of one are joined.

    Raises:
        DataError: the file cannot be read as UTF-8, or has no text.
    """
    try:
        blocks = path.read_text(encoding="utf-8").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"recipe.probing.texts: {path} cannot be read as UTF-8 text ({error}). Name a text "
            "file whose paragraphs are separated by blank lines."
        ) from error
    paragraphs = [text for block in blocks if (text := " ".join(block.split()))]
    if not paragraphs:
        raise DataError(f"recipe.probing.texts: {path} has no text. Leave it out.")
    return paragraphs


@torch.no_grad()
def perplexity(language: LanguageModel, paragraphs: Sequence[str]) -> Perplexity:
    """How surprised a model is by each next token of some paragraphs, all tokens counting alike."""
    model, loss, count = language.model, 0.0, 0
    for text in paragraphs:
        ids = language.tokenizer(text, return_tensors="pt").input_ids[:, :LONGEST].to(model.device)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        scores = head(model, hidden[0, :-1]).float()
        loss += float(cross_entropy(scores, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return {"perplexity": round(math.exp(loss / count), 4), "tokens": count}
