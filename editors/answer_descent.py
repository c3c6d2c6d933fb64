"""Descent on the edit's own answer, whatever the weight delta is made of.

    theta_e <- argmin NLL(answer_e | question_e; W + D(theta_e)),  one theta for each edit

An edit that several questions teach descends on the mean of their NLL.

FT has D(theta) = theta (`editors.ft.descent`), LoRA D(theta) = s B A. Each edit starts from the
same theta and is optimised alone; B of them run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from editors.answering import AtWork, activation_bytes, answering, whole_layers
from editors.descent import descend
from editors.options import DescentOptions
from editors.teaching import Lessons, Teaching
from models.deltas import Delta, Site
from models.editable import EditableModel

AsDeltas = Callable[[Sequence[Tensor]], Mapping[Site, Delta]]
# moves (A, *S) of the edits at work, their places (A,) -> their logits and answers
MovedAnswers = Callable[[Sequence[Tensor], Tensor], tuple[Tensor, Lessons]]
MOST_AT_ONCE = 32  # more do not make a step cheaper


def fit_answers(
    model: EditableModel,
    teaching: Teaching,
    start: Sequence[Tensor],
    as_deltas: AsDeltas,
    options: DescentOptions,
) -> list[Tensor]:
    """Fits every edit's parameters to its answer.

    Args:
        model: the base model, never changed.
        teaching: the edits, entering the lowest edited layer or below.
        start: the parameters that all edits start from, each of any shape S.
        as_deltas: moves (A, *S) of A edits from the start -> their weight deltas.
        options: steps, step size and early stop.

    Returns:
        Per parameter the edits' moves from the start: (B, *S) in float32 or better.

    Raises:
        ModelError: an edit's loss is not finite.
    """
    sites = as_deltas([parameter[None] for parameter in start]).keys()

    def answers_under(edits: Tensor) -> MovedAnswers:
        answers = AtWork(answering(model, teaching.select(edits), sites))

        def moved(moves: Sequence[Tensor], at_work: Tensor) -> tuple[Tensor, Lessons]:
            now, numbers = answers(at_work), torch.arange(len(at_work), device=at_work.device)
            return now.logits(as_deltas(moves), numbers), now.lessons

        return moved

    return fit(model, teaching, start, answers_under, options, sites)


def fit(
    model: EditableModel,
    teaching: Teaching,
    start: Sequence[Tensor],
    answers_under: Callable[[Tensor], MovedAnswers],
    options: DescentOptions,
    sites: Collection[Site],
) -> list[Tensor]:
    """Fits every edit's parameters to its answer, whatever they are parameters of.

    Args:
        model: the base model, never changed.
        teaching: the edits, entering the lowest of `sites` or below.
        start: the parameters that all edits start from, each of any shape S.
        answers_under: numbers of edits -> what answers them.
        options: steps, step size and early stop.
        sites: the maps that the parameters act on.

    Returns:
        Per parameter the edits' moves from the start: (B, *S) in float32 or better.

    Raises:
        ModelError: an edit's loss is not finite.
    """
    order, parts = teaching.by_length(), []
    for edits in order.split(edits_at_once(model, start, teaching, sites)):
        answers = answers_under(edits)

        def judge(
            moves: Sequence[Tensor], at_work: Tensor, answers: MovedAnswers = answers
        ) -> tuple[Tensor, Tensor]:
            return losses_of(*answers(moves, at_work), options)

        parts.append(descend(start, len(edits), judge, steps=options.steps, lr=options.lr))
    back = order.argsort()
    return [torch.cat(pieces)[back] for pieces in zip(*parts, strict=True)]


def losses_of(logits: Tensor, lessons: Lessons, options: DescentOptions) -> tuple[Tensor, Tensor]:
    """Losses of the edits at work, and which of them are done.

    Args:
        logits: (N, V).
        lessons: of the edits (A,).
        options: say when an edit is done: where both conditions are set both must hold, of each of
            its rows; where none is, all steps are taken.

    Returns:
        Losses (A,), whether done (A,).
    """
    at = lessons.at
    losses = at.row_mean(F.cross_entropy(logits, at.target, reduction="none"))
    stop_loss, by_argmax = options.stop_loss, options.stop_when_argmax
    done = torch.full_like(losses, by_argmax or stop_loss is not None).bool()
    if stop_loss is not None:
        done &= losses < stop_loss
    if by_argmax:
        wrong = (logits.argmax(-1) != at.target).to(losses.dtype)
        done &= at.row_mean(wrong) == 0
    return lessons.mean(losses), lessons.every(done)


def edits_at_once(
    model: EditableModel, start: Sequence[Tensor], teaching: Teaching, sites: Collection[Site]
) -> int:
    """How many edits are optimised side by side.

    Each holds a move, its gradient and two moments in float32 for every parameter, and what the
    layers that run at all tokens keep for their backward pass.

    Raises:
        ModelError: the moments of one edit alone are more than the device has.
    """
    optimiser = optimiser_bytes(model, start)
    activations = activation_bytes(teaching, whole_layers(model, sites))
    return min(MOST_AT_ONCE, model.budget.fit(optimiser + activations))


def optimiser_bytes(model: EditableModel, start: Sequence[Tensor]) -> int:
    """Bytes of one edit's moves from some parameters, their gradients and moments in float32.

    Raises:
        ModelError: they alone are more than the device has.
    """
    needed = sum(16 * parameter.numel() for parameter in start)
    model.budget.check(
        needed,
        f"the descent of one edit (a move, a gradient and two moments of {len(start)} tensors)",
        "Lower editor.layers, take an editor of few parameters (editor=lora), a smaller form of "
        "the model (model.quantise=4bit) or a device with more memory.",
    )
    return needed
