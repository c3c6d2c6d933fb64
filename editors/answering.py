"""Some edits and how their answers are predicted under weight deltas, for editors that descend.

Where only the last layer's MLP is edited, what enters it at the answer tokens is computed once, and
a prediction is that MLP, the final norm and the head.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from editors.teaching import Lessons, Teaching
from models.budget import logit_bytes
from models.deltas import Deltas, Site
from models.editable import EditableModel

# Values kept for the backward pass per token, unit of width and layer: 34 bytes in half precision
# (Korthikanti et al. 2022, Reducing Activation Recomputation, section 4.1), hence 17 values.
KEPT_VALUES = 17


class Answering(Protocol):
    """Some edits that are being taught."""

    @property
    def lessons(self) -> Lessons:
        """What teaches them."""
        ...

    @property
    def pass_bytes(self) -> int:
        """Bytes of the passes forward and backward over the largest of them."""
        ...

    def select(self, edits: Tensor) -> Answering:
        """Some of them, ascending, which are numbered anew."""
        ...

    def logits(self, deltas: Deltas, under: Tensor) -> Tensor:
        """Predicts the answers.

        Args:
            deltas: all in the edited layers.
            under: (E,) the number in `deltas` that each edit is answered under.

        Returns:
            (N, V) in the order of `lessons.at`.
        """
        ...


def answering(
    model: EditableModel, teaching: Teaching, sites: Collection[Site], *, apart: bool = False
) -> Answering:
    """How edits are answered whose deltas are at some sites.

    Args:
        model: the base model.
        teaching: the edits, entering the lowest of the sites' layers or below.
        sites: the edited maps.
        apart: whether in a selection every row stands in a sequence of its own, all of them in one
            part.
    """
    if whole := whole_layers(model, sites):
        return ByLayers(model, teaching, whole, apart)
    lessons = Lessons(teaching.at, teaching.edit, teaching.n_edits)  # the state can be let go
    return ByLastMLP(model, lessons, model.answer_state(teaching.state, teaching.at))


@dataclass(frozen=True)
class ByLayers:
    """Answers by a pass over all edited layers."""

    model: EditableModel
    lessons: Teaching
    whole_layers: int
    apart: bool

    @property
    def pass_bytes(self) -> int:
        logits = 2 * logit_bytes(self.model, self.lessons.most_tokens)
        return activation_bytes(self.lessons, self.whole_layers) + logits

    def select(self, edits: Tensor) -> ByLayers:
        return replace(self, lessons=self.lessons.select(edits, apart=self.apart))

    def logits(self, deltas: Deltas, under: Tensor) -> Tensor:
        rows = self.lessons
        return self.model.suffix(rows.state, deltas=deltas, edit_index=under[rows.edit], at=rows.at)


@dataclass(frozen=True)
class ByLastMLP:
    """Answers where only the last layer's MLP is edited: it is all that is passed.

    Attributes:
        hidden: (N, d) what enters that MLP at the answer tokens.
    """

    model: EditableModel
    lessons: Lessons
    hidden: Tensor

    @classmethod
    def joined(cls, parts: Sequence[ByLastMLP]) -> ByLastMLP:
        """The edits of several parts, counted through."""
        lessons = Lessons.joined([part.lessons for part in parts])
        return cls(parts[0].model, lessons, torch.cat([part.hidden for part in parts]))

    @property
    def pass_bytes(self) -> int:
        return 2 * logit_bytes(self.model, self.lessons.most_tokens)

    def select(self, edits: Tensor) -> ByLastMLP:
        tokens = torch.isin(self.lessons.token_edit, edits)
        return ByLastMLP(self.model, self.lessons.select(edits), self.hidden[tokens])

    def logits(self, deltas: Deltas, under: Tensor) -> Tensor:
        return self.model.finish_answers(self.hidden, deltas, under[self.lessons.token_edit])

    def outputs(self, deltas: Deltas, under: Tensor) -> Tensor:
        """What the last layer puts out at the answer tokens: (N, d); arguments as of `logits`."""
        return self.model.answer_output(self.hidden, deltas, under[self.lessons.token_edit])

    @cached_property
    def before(self) -> Tensor:
        """The same without the deltas: (N, d)."""
        with torch.no_grad():
            return self.model.answer_output(self.hidden)


class AtWork:
    """Edits of which some are done after a while, and leave."""

    def __init__(self, answers: Answering) -> None:
        self._all = answers
        self._now: Answering | None = None

    def __call__(self, edits: Tensor) -> Answering:
        """Those that go on (A,), ascending; never one that left before."""
        if self._now is None or len(edits) != self._now.lessons.n_edits:
            self._now = self._all.select(edits)
        return self._now


def whole_layers(model: EditableModel, sites: Collection[Site]) -> int:
    """Layers that run at all tokens where some sites are edited.

    From the lowest of the sites on, and of the last layer its attention.
    """
    above = model.n_layers - 1 - min(site.layer for site in sites)
    return 0 if all(model.is_at_answers(site) for site in sites) else max(1, above)


def activation_bytes(teaching: Teaching, whole_layers: int) -> int:
    """What some layers keep of an edit for their backward pass."""
    return KEPT_VALUES * teaching.state.row_bytes * teaching.most_rows * whole_layers
