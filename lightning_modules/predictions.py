"""Top tokens of a pass, and those of the unedited model for rows that it was asked before.

What the unedited model predicts depends neither on the editor nor on the layer at which its pass is
cut in two, so a second editor on the same records runs no unedited suffix: the predictions are in
the model's cache. With fewer digits than float32's (`Scope.is_exact`) two batches may decide
differently between tokens that are nearly equal; there they hold good in one and the same batch
alone, which a second run makes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from caching.entries import Tensors, digest
from models.editable import EditableModel, PrefixState
from models.finite import check_own_logits, question_at
from models.row_keys import row_keys
from models.rows import Answers, Rows

POSITIONAL_K = 10  # ranks that the published picture locality compares
Logits = Callable[[Tensor | None, Answers], Tensor]  # some rows (None: all), where -> (N, V)


@dataclass(frozen=True)
class Predictions:
    """Top tokens of one pass at some positions.

    Attributes:
        top: (N, K) ids, likeliest first.
        values: (N, K) their logits; the first is nan where any logit of the position is.
    """

    top: Tensor
    values: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Predictions:
        """The ten likeliest tokens (fewer in a smaller vocabulary)."""
        values, ids = logits.topk(min(POSITIONAL_K, logits.shape[-1]))  # nan comes first
        return cls(ids, values)

    @property
    def best(self) -> Tensor:
        """(N,) the likeliest tokens."""
        return self.top[:, 0]

    @property
    def largest(self) -> Tensor:
        """(N,) their logits; nan where any logit is."""
        return self.values[:, 0]


def base_predictions(
    model: EditableModel, rows: Rows, state: PrefixState, at: Answers, *, where: str = "answers"
) -> Predictions:
    """What the unedited model predicts at some tokens of rows.

    Args:
        model: no edit is in place.
        rows: those of `state`.
        state: entering any layer.
        at: which tokens; the same ones of a row whenever `where` is the same.
        where: a name for them.
    """

    def logits(numbers: Tensor | None, at: Answers) -> Tensor:
        return model.unedited(state if numbers is None else state.select(numbers), at)

    return cached_predictions(model, rows, at, logits, where)


def own_predictions(model: EditableModel, rows: Rows, at: Answers) -> Predictions:
    """What the unedited model predicts at answer tokens of rows that belong to no edit's state.

    Args:
        model: no edit is in place.
        rows: on its device.
        at: `rows.answers()`.

    Raises:
        ModelError: its logits are no numbers.
    """
    predictions = cached_predictions(model, rows, at, partial(_logits, model, rows), "answers")
    check_own_logits(model, predictions.largest, question_at(rows.questions, at))
    return predictions


def _logits(model: EditableModel, rows: Rows, numbers: Tensor | None, at: Answers) -> Tensor:
    """Logits of all rows, or of some of them."""
    return model(rows if numbers is None else rows.select(numbers), at=at)


def cached_predictions(
    model: EditableModel, rows: Rows, at: Answers, logits: Logits, where: str
) -> Predictions:
    """The same by any function that gives logits: from the cache, or computed and stored.

    With an edit in place nothing is read, and nothing stored.
    """
    if model.is_edited or not model.cache.holds("answers"):
        return Predictions.of(logits(None, at))

    keys = row_keys(rows)
    assert model.cache.scope is not None
    is_exact = model.cache.scope.is_exact
    batch = b"" if is_exact else digest(*keys)

    def compute(numbers: list[int]) -> list[Tensors]:
        if not is_exact or len(numbers) == len(set(keys)):
            every = _by_row(Predictions.of(logits(None, at)), at)
            return [every[number] for number in numbers]
        some = torch.tensor(numbers, device=rows.input_ids.device)
        part = at.select(some)
        return _by_row(Predictions.of(logits(some, part)), part)

    full = [digest(where, str(POSITIONAL_K), batch, key) for key in keys]
    values = model.cache.through("answers", full, compute)
    return _joined(values, rows.input_ids.device)


def _by_row(predictions: Predictions, at: Answers) -> list[Tensors]:
    """Predictions of each row; `at` stands in the order of rows."""
    counts = at.row.bincount(minlength=at.n_rows).tolist()
    tops, values = predictions.top.to(torch.int32).split(counts), predictions.values.split(counts)
    return [{"top": top, "values": value} for top, value in zip(tops, values, strict=True)]


def _joined(values: Sequence[Tensors], device: torch.device) -> Predictions:
    """Predictions of all rows, one behind the other."""
    top = torch.cat([value["top"].to(device) for value in values])
    return Predictions(top.long(), torch.cat([value["values"].to(device) for value in values]))
