"""FT's descent: the gradients of all edits from one backward pass, each matrix moved on its own.

The pass backward ends at the outputs of the edited maps. What enters a map and the gradient at its
output are all that a step needs (`editors.ft.matrices`); no matrix is in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editors.answer_descent import AnswersOf, answers_of, edits_at_once, losses_of
from editors.descent import check_losses, tell
from editors.ft.matrices import Matrices, Rule
from editors.options import DescentOptions
from editors.teaching import Teaching
from models.deltas import DenseDelta, Site
from models.editable import EditableModel
from models.hooks import capture_linears


def fit_matrices(
    model: EditableModel,
    teaching: Teaching,
    sites: Sequence[Site],
    options: DescentOptions,
    rule: Rule,
) -> dict[Site, DenseDelta]:
    """Fits every edit's matrices to its answer.

    Args:
        model: the base model, never changed.
        teaching: the edits, entering the lowest of the sites' layers or below.
        sites: the maps that are edited.
        options: steps and early stop.
        rule: how a matrix moves.

    Returns:
        One delta of all edits for each site.

    Raises:
        ModelError: an edit's loss is not finite, or one edit is more than the device has.
    """
    matrices = {site: Matrices(model.weight(site), teaching.n_edits, rule) for site in sites}
    forward = answers_of(model, teaching, sites, deltas_of="all edits")
    start = [moved.moves[0] for moved in matrices.values()]
    at_once = edits_at_once(model, start, teaching, sites)
    for edits in teaching.by_length().split(at_once):
        _descend(model, forward, matrices, edits.sort().values, options, rule)
    return {site: DenseDelta(moved.moves) for site, moved in matrices.items()}


def _descend(
    model: EditableModel,
    forward: AnswersOf,
    matrices: Mapping[Site, Matrices],
    edits: Tensor,
    options: DescentOptions,
    rule: Rule,
) -> None:
    """Moves the matrices of some edits (A,), ascending, until they are done."""
    linears = {site: model.linear(site) for site in matrices}
    deltas = {site: DenseDelta(moved.moves) for site, moved in matrices.items()}
    for step in range(1, options.steps + 1):
        captured: dict[Site, tuple[Tensor, Tensor]] = {}
        with torch.enable_grad(), capture_linears(linears, captured):
            logits, at_work = forward(deltas, edits)
            losses, done = losses_of(logits, at_work, options)
            gradients = torch.autograd.grad(losses.sum(), [captured[site][1] for site in matrices])
        check_losses(losses, step, rule.lr)
        tell(step, options.steps, len(edits))
        numbers, finished = edits.tolist(), done.tolist()
        for (site, moved), gradient in zip(matrices.items(), gradients, strict=True):
            at_answers = model.is_at_answers(site)
            home = moved.moves.device  # a layer of a model that is spread may be somewhere else
            sides = (gradient.to(home), captured[site][0].to(home))
            of_edits = [_by_edit(side, at_work, at_answers) for side in sides]
            for edit, is_done, delta, x in zip(numbers, finished, *of_edits, strict=True):
                if not is_done:
                    moved.step(edit, delta, x)
        if any(finished):
            for moved in matrices.values():
                moved.finish(edits[done].tolist())
            edits = edits[~done]
        if not len(edits):
            return
    for moved in matrices.values():
        moved.finish(edits.tolist())


def _by_edit(values: Tensor, teaching: Teaching, at_answers: bool) -> Sequence[Tensor]:
    """A map's values, of answer tokens or of all tokens of rows, edit by edit: each (n, d)."""
    n_edits = teaching.n_edits
    if at_answers:
        return values.split(teaching.token_edit.bincount(minlength=n_edits).tolist())
    of_rows = values.reshape(len(teaching.edit), -1, values.shape[-1])
    rows = of_rows.split(teaching.edit.bincount(minlength=n_edits).tolist())
    return [of_edit.flatten(0, 1) for of_edit in rows]
