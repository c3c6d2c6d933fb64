"""Hard negatives of SERAC's scope: questions that are near an edit and not about it.

Mitchell et al. 2022 (and the authors' sampler): other records' questions by cosine similarity of
sentence embeddings to the edit's question; of the nearest 100 the first 25 are left out, the rest
is drawn with a softmax at temperature 0.1. Half of the steps draw so, the others uniformly. Here
the pool also has the records' questions about other subjects, whatever names the edit's own subject
is left out, and a draw depends on seed, step and edit alone, not on the batch or the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from datamodules.records import Record, name_key
from editors.encoders import CutNotice, encoder_folder
from editors.sentences import open_sentences
from editors.serac.config import NegativesOptions

_KEY = "editor.negatives.encoder"


class HardNegatives:
    """Draws questions out of scope for each edit.

    Args:
        records: what is drawn from.
        device: where the sentence encoder runs, once.

    Raises:
        ModelError: the sentence encoder is on no disk.
    """

    def __init__(
        self,
        options: NegativesOptions,
        records: Sequence[Record],
        seed: int = 0,
        *,
        device: torch.device,
    ) -> None:
        self.options, self.seed = options, seed
        folder = encoder_folder(options.encoder, key=_KEY)
        sentences = open_sentences(folder, device)
        cut = CutNotice(_KEY)
        self.pool = sorted({question for record in records for question in out_of_scope(record)})
        self._keys = [name_key(question) for question in self.pool]
        self._pool = _embed(sentences, self.pool, cut)  # (P, d)
        edits = sorted({record.knowledge_edit.wording for record in records})
        self._edits = dict(zip(edits, _embed(sentences, edits, cut), strict=True))
        self._near: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

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
        if question in self._edits and self.hard(step):
            if (question, subject) not in self._near:
                self._near[question, subject] = self._nearest(question, subject)
            numbers, chances = self._near[question, subject]
        else:
            numbers, chances = self._others(subject), None
        if not len(numbers):
            return []
        drawn = draw.choice(numbers, self.options.per_edit, p=chances)
        return [self.pool[number] for number in drawn.tolist()]

    def _others(self, subject: str) -> np.ndarray:
        """Numbers of the questions that do not name a subject, in any spelling of it."""
        name = name_key(subject)
        return np.array([n for n, text in enumerate(self._keys) if name not in text], int)

    def _nearest(self, question: str, subject: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers in the pool and the chance of each; a small pool keeps at least one."""
        others = self._others(subject)
        similarity = self._pool[others] @ self._edits[question]
        order = similarity.sort(descending=True, stable=True).indices[: self.options.top]
        order = order[min(self.options.skip, max(0, len(order) - 1)) :]
        chances = (similarity[order] / self.options.temperature).softmax(-1)
        return others[order.numpy()], chances.numpy()


def _embed(sentences: SentenceTransformer, texts: Sequence[str], cut: CutNotice) -> torch.Tensor:
    """Unit vectors (n, d) in float64."""
    cut.check_texts(sentences.tokenizer, texts, sentences.max_seq_length)
    embedded = sentences.encode(
        list(texts), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
    )
    return embedded.cpu().double()


def out_of_scope(record: Record) -> list[str]:
    """Text questions of a record that its edit must leave alone."""
    far, same = record.locality_question, record.same_type_entity_question
    questions = [] if far is None else [far.question]
    questions += [] if same is None else [record.text_question_about(same)]
    return questions + [extra.question for extra in record.extra_locality]
