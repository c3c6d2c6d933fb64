"""Hard negatives of SERAC's scope: questions that are near an edit and not about it.

Mitchell et al. 2022 (and the authors' sampler): other records' questions by cosine similarity of
sentence embeddings to the edit's question; of the nearest 100 the first 25 are left out, the rest
is drawn with a softmax at temperature 0.1. Half of the steps draw so, the others uniformly. Here
the pool also has the records' questions about other subjects, whatever names the edit's own subject
is left out, and a draw depends on the step and the edit alone, not on the batch or the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from datamodules.records import Record
from editors.encoders import encoder_folder
from editors.serac.config import NegativesOptions


class HardNegatives:
    """Draws questions out of scope for each edit.

    Args:
        options: how.
        records: of the training split.
        seed: of the draws.

    Raises:
        ModelError: the sentence encoder is on no disk.
    """

    def __init__(self, options: NegativesOptions, records: Sequence[Record], seed: int = 0) -> None:
        self.options, self.seed = options, seed
        folder = encoder_folder(options.encoder, key="editor.negatives.encoder")
        self._sentences = SentenceTransformer(str(folder), local_files_only=True)
        self.pool = sorted({question for record in records for question in out_of_scope(record)})
        self._pool = self._embed(self.pool)  # (P, d)
        edits = sorted({record.knowledge_edit.question for record in records})
        self._edits = dict(zip(edits, self._embed(edits), strict=True))

    def hard(self, step: int) -> bool:
        """Whether a step draws hard negatives."""
        share = self.options.share or 0.0
        return bool(np.random.default_rng((self.seed, step)).random() < share)

    def draw(self, step: int, question: str, subject: str) -> list[str]:
        """Questions for one edit at one step: `per_edit`; none where all name the subject.

        Args:
            step: optimiser step.
            question: the edit's; one that the training records do not have draws uniformly.
            subject: the edit's.
        """
        draw = np.random.default_rng([self.seed, step, *f"{subject}\n{question}".encode()])
        others = [p for p, asked in enumerate(self.pool) if subject.lower() not in asked.lower()]
        if not others:
            return []
        chances = None
        if question in self._edits and self.hard(step):
            others, chances = self._nearest(question, others)
        places = draw.choice(others, self.options.per_edit, p=chances)
        return [self.pool[place] for place in places.tolist()]

    def _nearest(self, question: str, others: list[int]) -> tuple[list[int], np.ndarray]:
        """Places in the pool and the chance of each; a small pool keeps at least one."""
        similarity = self._pool[others].double() @ self._edits[question].double()
        order = similarity.sort(descending=True, stable=True).indices[: self.options.top]
        order = order[min(self.options.skip, len(order) - 1) :]
        chances = (similarity[order] / self.options.temperature).softmax(-1)
        return [others[place] for place in order.tolist()], chances.numpy()

    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        embedded = self._sentences.encode(
            list(texts),
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return embedded.cpu()


def out_of_scope(record: Record) -> list[str]:
    """Text questions of a record that its edit must leave alone."""
    far, same = record.locality_question, record.same_type_entity_question
    questions = [far.question, record.text_question_about(same)]
    return questions + [extra.question for extra in record.extra_locality]
