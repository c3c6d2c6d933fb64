"""Which pictures the unedited model reads, and which facts it knows: asked once each.

What tells whether a picture is read is in `datamodules.reading`. Most of it is not asked anew: rows
of the batch itself were answered already, and so were questions of the filter of known facts and of
earlier batches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.predictions import own_predictions
from models.editable import EditableModel
from models.rows import EditBatch, Rows


class ReadBefore(NamedTuple):
    """What the unedited model made of the picture of a probe; None where it was not asked.

    Attributes:
        named: it named the subject that the picture shows.
        fact: it answered the probe's question with what is true of that subject.
    """

    named: bool | None = None
    fact: bool | None = None


NOT_ASKED = ReadBefore()
OfProbes = Mapping[str, Sequence[ReadBefore]]  # probe -> of each of its rows


class PictureReading:
    """Asks the unedited model about pictures, each question once.

    Args:
        model: with no edit in place when it is asked.
        answered: what it was asked before -> whether it answered right.
    """

    def __init__(self, model: EditableModel, answered: Mapping[Any, bool] | None = None) -> None:
        self._knows = knows(model)
        self._answered: dict[Hashable, bool] = dict(answered or {})

    def __call__(self, batch: EditBatch, own: Tensor) -> OfProbes:
        """What it made of the pictures of a batch; nothing where no probe shows one.

        Args:
            batch: its pictures are encoded.
            own: (R,) bool, whether it answered each row of the batch right.

        Raises:
            ModelError: its logits are no numbers.
        """
        questions = batch.pictures
        if questions is None:
            return {}
        self._ask(batch)
        right = [*own.tolist(), *(self._answered[key] for key in questions.keys)]

        def flag(number: int | None) -> bool | None:
            return None if number is None else bool(right[number])

        return {
            probe: [
                ReadBefore(flag(naming), flag(fact))
                for naming, fact in zip(questions.naming[probe], facts, strict=True)
            ]
            for probe, facts in questions.facts.items()
        }

    def _ask(self, batch: EditBatch) -> None:
        """Asks what is not known yet, all of it at once."""
        questions = batch.pictures
        assert questions is not None
        new = [number for number, key in enumerate(questions.keys) if key not in self._answered]
        if not new or questions.rows is None:
            return
        shown = questions.rows.showing(batch.rows)
        chosen = torch.tensor(new, device=shown.input_ids.device)
        right = self._knows(shown.select(chosen)).tolist()
        self._answered |= zip((questions.keys[number] for number in new), right, strict=True)


def knows(model: EditableModel) -> Callable[[Rows], Tensor]:
    """Whether the unedited model gives every answer token right: rows -> (R,) bool.

    The function raises a ModelError where the model's logits are no numbers, which would count as
    facts that it does not know.
    """

    @torch.no_grad()
    def answers_right(rows: Rows) -> Tensor:
        rows = rows.to(model.device)
        at = rows.answers()
        said = own_predictions(model, rows, at)
        return at.row_mean((said.best == at.target).float()) == 1

    return answers_right
