"""A sentence encoder as IKE and SERAC ask it: what a question says is text."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


def open_sentences(folder: Path, device: torch.device) -> SentenceTransformer:
    """Reads an encoder; a literal `[SEP]` or `</s>` in a text stands for its characters."""
    sentences = SentenceTransformer(str(folder), device=str(device), local_files_only=True)
    sentences.tokenizer.split_special_tokens = True
    return sentences
