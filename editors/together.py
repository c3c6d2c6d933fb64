"""Descent on all edits of a turn: one set of parameters, which the answers of all of them move.

    theta <- argmin 1/E sum_e NLL(answer_e | question_e; W + D(theta))

A step takes the gradient of all edits or of a mini-batch of them. The edits then come in their
order, the same in every epoch, so that a turn of any size is read part by part; this is the
breadth-first fine-tuning of Yang et al. (Fine-tuning Done Right in Model Editing, ICLR 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Adam

from editors.answer_descent import AsDeltas, losses_of, optimiser_bytes
from editors.answering import Answering, ByLastMLP, answering, whole_layers
from editors.descent import check_losses, tell
from editors.options import DescentOptions
from editors.teaching import Teaching
from editors.turn import Turn
from metrics.precision import single
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch

TeachingOf = Callable[[EditBatch, PrefixState], Teaching]
Piece = tuple[int, Answering]  # the number of a mini-batch, and some of its edits


class Learner(Protocol):
    """Parameters that many edits move."""

    def learn(self, answers: Answering, share: float) -> tuple[Tensor, Tensor]:
        """Adds the gradient of some edits (A,), a share of the sum of their losses.

        Returns:
            Their losses (A,), and whether they are done (A,).
        """
        ...

    def step(self) -> None:
        """Moves along the gradient that was added up, which begins anew."""
        ...

    def forget(self) -> None:
        """Begins the gradient anew."""
        ...


class Minibatches:
    """The edits of a turn, mini-batch by mini-batch, in pieces whose passes fit into memory.

    Where only the last layer's MLP is edited, what enters it at the answer tokens is kept, and
    nothing else of the turn. Otherwise the turn is read anew in every epoch.

    Args:
        model: the base model, with earlier edits in place.
        turn: the edits.
        teaching_of: what of a part of the turn is taught.
        sites: the edited maps.
        size: edits of a mini-batch; None: all of them.
        apart: as of `answering`.
    """

    def __init__(
        self,
        model: EditableModel,
        turn: Turn,
        teaching_of: TeachingOf,
        sites: Collection[Site],
        *,
        size: int | None = None,
        apart: bool = False,
    ) -> None:
        self._model, self._turn, self._teaching_of = model, turn, teaching_of
        self._sites, self._apart = sites, apart
        self.n_edits = len(turn)
        self._size = self.n_edits if size is None else size
        self._kept: list[Piece] | None = None
        if not whole_layers(model, sites):
            parts = [part for part in self._parts() if isinstance(part, ByLastMLP)]
            self._kept = list(self._pieces(ByLastMLP.joined(parts), 0))

    def __iter__(self) -> Iterator[tuple[int, Iterator[Answering]]]:
        """One epoch: of each mini-batch the number of its edits, and its pieces."""
        pieces = self._read() if self._kept is None else iter(self._kept)
        for number, of_minibatch in groupby(pieces, itemgetter(0)):
            n_edits = min(self._size, self.n_edits - number * self._size)
            yield n_edits, (answers for _, answers in of_minibatch)

    def _read(self) -> Iterator[Piece]:
        first = 0
        for part in self._parts():
            yield from self._pieces(part, first)
            first += part.lessons.n_edits

    def _parts(self) -> Iterator[Answering]:
        for batch, state in self._turn:
            teaching = self._teaching_of(batch, state)
            yield answering(self._model, teaching, self._sites, apart=self._apart)

    def _pieces(self, answers: Answering, first: int) -> Iterator[Piece]:
        """A part whose edits are counted from a number on, cut where a mini-batch ends."""
        n_edits, size = answers.lessons.n_edits, self._size
        at_once = self._model.budget.fit(answers.pass_bytes)
        numbers = torch.arange(n_edits, device=answers.lessons.edit.device)
        for start, stop in pairwise(sorted({0, *range(-first % size, n_edits, size), n_edits})):
            for edits in numbers[start:stop].split(at_once):
                yield (first + start) // size, answers.select(edits)


def descend_together(minibatches: Minibatches, learner: Learner, options: DescentOptions) -> None:
    """Steps until every edit is done.

    A mini-batch whose edits are all done moves nothing; an epoch in which nothing moves is the
    last one.

    Args:
        minibatches: the edits.
        learner: the parameters, which are moved.
        options: how many steps each edit takes part in at most, and when it is done.

    Raises:
        ModelError: an edit's loss is not finite.
    """
    step = 1
    for epoch in range(1, options.steps + 1):
        before = step
        for n_edits, pieces in minibatches:
            all_done = []
            for answers in pieces:
                losses, done = learner.learn(answers, 1 / n_edits)
                check_losses(losses, step, options.lr)
                all_done.append(done.all())
            if bool(torch.stack(all_done).all()):
                learner.forget()
            else:
                learner.step()
                step += 1
        tell(epoch, options.steps, minibatches.n_edits)
        if step == before:
            return


def fit_answers_together(
    model: EditableModel,
    minibatches: Minibatches,
    start: Sequence[Tensor],
    as_deltas: AsDeltas,
    options: DescentOptions,
) -> list[Tensor]:
    """Fits one set of parameters to the answers of all edits of a turn.

    Args:
        model: the base model, never changed.
        minibatches: the edits, whose deltas are at the sites of `as_deltas`.
        start: the parameters at the start, each of any shape S.
        as_deltas: moves (1, *S) from the start -> the weight deltas of one edit.
        options: steps, step size and early stop.

    Returns:
        Per parameter the move from the start: (1, *S) in float32 or better.

    Raises:
        ModelError: an edit's loss is not finite, or the parameters are more than the device has.
    """
    optimiser_bytes(model, start)
    learner = SharedParameters(start, as_deltas, options)
    descend_together(minibatches, learner, options)
    return [move.detach() for move in learner.moves]


class SharedParameters:
    """Parameters of any kind, moved by Adam: a `Learner`.

    Args: as of `fit_answers_together`.

    Attributes:
        moves: per parameter the move from its start, (1, *S) in float32 or better.
    """

    def __init__(
        self, start: Sequence[Tensor], as_deltas: AsDeltas, options: DescentOptions
    ) -> None:
        self.moves = [
            torch.zeros(1, *of.shape, dtype=single(of.dtype), device=of.device).requires_grad_()
            for of in start
        ]
        self._as_deltas, self._options = as_deltas, options
        self._adam = Adam(self.moves, lr=options.lr, fused=True)

    def learn(self, answers: Answering, share: float) -> tuple[Tensor, Tensor]:
        lessons = answers.lessons
        under = lessons.edit.new_zeros(lessons.n_edits)
        with torch.enable_grad():
            logits = answers.logits(self._as_deltas(self.moves), under)
            losses, done = losses_of(logits, lessons, self._options)
            gradients = torch.autograd.grad(losses.sum(), self.moves)
        for move, gradient in zip(self.moves, gradients, strict=True):
            gradient = share * gradient  # in float32: float16 would lose it on its way back
            gradient = gradient.contiguous()  # fused Adam reads memory order, whatever the strides
            move.grad = gradient if move.grad is None else move.grad + gradient
        return losses.detach(), done

    def step(self) -> None:
        self._adam.step()
        self.forget()

    def forget(self) -> None:
        self._adam.zero_grad()
