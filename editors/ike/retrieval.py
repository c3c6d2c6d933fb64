"""Which facts are nearest to an edit or a question, by a sentence encoder's cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from sentence_transformers import SentenceTransformer

from datamodules.records import Record
from editors.encoders import CutNotice, encoder_folder
from editors.sentences import open_sentences


class Sentences:
    """A sentence encoder, read from disk when the first text comes."""

    def __init__(self, encoder: str, device: torch.device, *, key: str = "editor.encoder") -> None:
        self._encoder, self._device, self._key = encoder, device, key
        self._cut = CutNotice(key)
        self._alone: dict[str, torch.Tensor] = {}

    def together(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, d) in float64, so that equal texts are equally similar.

        Raises:
            ModelError: the encoder is on no disk.
        """
        self._cut.check_texts(self._model.tokenizer, texts, self._model.max_seq_length)
        embedded = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
        )
        return embedded.cpu().double().round(decimals=5)

    def alone(self, texts: Sequence[str]) -> torch.Tensor:
        """The same, each text by itself and once: (n, d).

        In a batch, padding would change the last digits, and with them the order of near equals.
        """
        for text in dict.fromkeys(texts):
            if text not in self._alone:
                self._alone[text] = self.together([text])[0]
        return torch.stack([self._alone[text] for text in texts])

    @cached_property
    def _model(self) -> SentenceTransformer:
        folder = encoder_folder(self._encoder, key=self._key)
        return open_sentences(folder, self._device)


class Retriever:
    """Nearest training records of an edit.

    Args:
        sentences: the sentence encoder.
        records: where demonstrations come from; embedded once.

    Raises:
        ModelError: the encoder is on no disk.
    """

    def __init__(self, sentences: Sentences, records: Sequence[Record]) -> None:
        self._sentences, self._records = sentences, records
        facts = [fact(r.knowledge_edit.wording, r.knowledge_edit.answer_new) for r in records]
        self._facts = sentences.together(facts)  # (n, d)

    def nearest(self, facts: Sequence[str], k: int) -> list[list[Record]]:
        """The k nearest records of each fact, nearest first; ties go by the records' order."""
        nearest = []
        for vector in self._sentences.alone(facts):
            order = (self._facts @ vector).sort(descending=True, stable=True).indices[:k]
            nearest.append([self._records[number] for number in order.tolist()])
        return nearest


def nearest_stored(
    sentences: Sentences, stored: Sequence[str], questions: Sequence[str]
) -> list[int]:
    """Which stored edit each question is nearest to; of equals the one that was made last."""
    newest_first = sentences.alone(stored).flip(0)  # argmax takes the first of equals
    from_the_end = (sentences.alone(questions) @ newest_first.mT).argmax(1)
    return (len(stored) - 1 - from_the_end).tolist()


def fact(question: str, answer: str) -> str:
    """A fact as it is embedded."""
    return f"{question} {answer}"
