"""Which training facts are nearest to an edit, by a sentence encoder's cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sentence_transformers import SentenceTransformer

from datamodules.records import Record
from editors.encoders import encoder_folder


class Retriever:
    """Nearest training records of an edit.

    Args:
        encoder: name or folder of the sentence encoder.
        records: where demonstrations come from; embedded once.
        device: where to embed.

    Raises:
        ModelError: the encoder is on no disk.
    """

    def __init__(self, encoder: str, records: Sequence[Record], device: torch.device) -> None:
        folder = encoder_folder(encoder, key="editor.encoder")
        self._records = records
        self._model = SentenceTransformer(str(folder), device=str(device), local_files_only=True)
        facts = [fact(r.knowledge_edit.question, r.knowledge_edit.answer_new) for r in records]
        self._facts = self._embed(facts)  # (n, d)

    def nearest(self, facts: Sequence[str], k: int) -> list[list[Record]]:
        """The k nearest records of each fact, nearest first; ties go by the records' order.

        Facts are embedded one by one: in a batch, padding would change the last digits, and with
        them the order of near equals.
        """
        found = []
        for one in facts:
            similarity = self._facts @ self._embed([one])[0]
            order = similarity.sort(descending=True, stable=True).indices[:k]
            found.append([self._records[place] for place in order.tolist()])
        return found

    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, d) in float64, so that equal facts are equally similar."""
        embedded = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
        )
        return embedded.cpu().double().round(decimals=5)


def fact(question: str, answer: str) -> str:
    """A fact as it is embedded."""
    return f"{question} {answer}"
