"""FT's descent: the gradients of all edits from one backward pass, each matrix moved on its own.

The pass backward ends at the outputs of the edited maps. What enters a map and the gradient at its
output are all that a step needs (`editors.ft.matrices`); no matrix is in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from editors.answer_descent import edits_at_once, losses_of, optimiser_bytes
from editors.answering import Answering, AtWork, ByLastMLP, answering
from editors.descent import check_losses, tell
from editors.ft.config import FtOptions
from editors.ft.matrices import Matrices, Rule
from editors.ft.tie import tied_losses
from editors.teaching import Lessons, Teaching
from editors.together import Minibatches, descend_together
from metrics.precision import single
from models.deltas import Delta, Deltas, DenseDelta, LowRankDelta, Site, join_deltas
from models.editable import EditableModel
from models.hooks import capture_linears


def fit_matrices(
    model: EditableModel,
    teaching: Teaching,
    sites: Sequence[Site],
    options: FtOptions,
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
    answers = answering(model, teaching, sites, apart=True)
    start = [moved.moves[0] for moved in matrices.values()]
    at_once = edits_at_once(model, start, teaching, sites)
    for edits in teaching.by_length().split(at_once):
        _descend(model, AtWork(answers), matrices, edits.sort().values, options, rule)
    return {site: DenseDelta(moved.moves) for site, moved in matrices.items()}


def fit_matrices_together(
    model: EditableModel,
    minibatches: Minibatches,
    sites: Sequence[Site],
    options: FtOptions,
    rule: Rule,
) -> dict[Site, DenseDelta]:
    """Fits matrices to the answers of all edits of a turn.

    Args:
        model: the base model, never changed.
        minibatches: the edits, whose deltas are at these sites.
        sites: the maps that are edited.
        options: steps and early stop.
        rule: how a matrix moves.

    Returns:
        One delta for each site, E = 1.

    Raises:
        ModelError: an edit's loss is not finite, or the matrices are more than the device has.
    """
    matrices = {site: Matrices(model.weight(site), 1, rule) for site in sites}
    optimiser_bytes(model, [moved.moves[0] for moved in matrices.values()])
    descend_together(minibatches, _Together(model, matrices, options), options)
    return {site: DenseDelta(moved.moves) for site, moved in matrices.items()}


def _descend(
    model: EditableModel,
    at_work: AtWork,
    matrices: Mapping[Site, Matrices],
    edits: Tensor,
    options: FtOptions,
    rule: Rule,
) -> None:
    """Moves the matrices of some edits (A,), ascending, until they are done."""
    for step in range(1, options.steps + 1):
        answers = at_work(edits)
        losses, done, gradients = _gradients(model, answers, edits, matrices, options)
        check_losses(losses, step, rule.lr)
        tell(step, options.steps, len(edits))
        numbers, finished = edits.tolist(), done.tolist()
        for (site, moved), pairs in zip(matrices.items(), gradients, strict=True):
            at_answers = model.is_at_answers(site)
            of_edits = [_by_edit(side, answers.lessons, at_answers) for side in pairs]
            for edit, is_done, delta, x in zip(numbers, finished, *of_edits, strict=True):
                if not is_done:
                    moved.step(edit, LowRankDelta(x[None], delta[None]))
        if any(finished):
            for moved in matrices.values():
                moved.finish(edits[done].tolist())
            edits = edits[~done]
        if not len(edits):
            return
    for moved in matrices.values():
        moved.finish(edits.tolist())


class _Together:
    """Matrices that all edits of a turn move.

    The gradient is gathered as the pairs of all tokens as long as these are fewer numbers than the
    matrix has, and as a matrix from then on.
    """

    def __init__(
        self, model: EditableModel, matrices: Mapping[Site, Matrices], options: FtOptions
    ) -> None:
        self._model, self._matrices, self._options = model, matrices, options
        self._gradients: dict[Site, Delta] = {}

    def learn(self, answers: Answering, share: float) -> tuple[Tensor, Tensor]:
        under = answers.lessons.edit.new_zeros(answers.lessons.n_edits)
        losses, done, gradients = _gradients(
            self._model, answers, under, self._matrices, self._options
        )
        for site, (delta, x) in zip(self._matrices, gradients, strict=True):
            delta = share * delta.to(single(delta.dtype))
            inputs, outputs = (side.reshape(1, -1, side.shape[-1]) for side in (x, delta))
            pairs, before = LowRankDelta(inputs, outputs), self._gradients.get(site)
            self._gradients[site] = join_deltas(before, pairs) if before else pairs.compact()
        return losses, done

    def step(self) -> None:
        for site, moved in self._matrices.items():
            moved.step(0, self._gradients[site])
        self.forget()

    def forget(self) -> None:
        self._gradients.clear()


def _gradients(
    model: EditableModel,
    answers: Answering,
    under: Tensor,
    matrices: Mapping[Site, Matrices],
    options: FtOptions,
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Of some edits, each under the moves of a number.

    Returns:
        Losses (A,), whether done (A,), and of each matrix the gradients of the losses' sum at its
        output and its inputs: of answer tokens in the last layer's MLP, elsewhere of all tokens
        of rows.
    """
    linears = {site: model.linear(site) for site in matrices}
    deltas = {site: DenseDelta(moved.moves) for site, moved in matrices.items()}
    captured: dict[Site, tuple[Tensor, Tensor]] = {}
    if options.tie is None:
        judge = partial(_untied_losses, answers, deltas, under, options)
    else:
        assert isinstance(answers, ByLastMLP), "the options allow the MLP of the last layer alone"
        # The pass before the edit must not be captured, and is made here.
        judge = partial(tied_losses, answers, answers.before, deltas, under, options)
    with torch.enable_grad(), capture_linears(linears, captured):
        losses, done = judge()
        gradients = torch.autograd.grad(losses.sum(), [captured[site][1] for site in matrices])
    pairs = []
    for (site, moved), gradient in zip(matrices.items(), gradients, strict=True):
        home = moved.moves.device  # a layer of a model that is spread may be somewhere else
        pairs.append((gradient.to(home), captured[site][0].to(home)))
    return losses.detach(), done, pairs


def _untied_losses(
    answers: Answering, deltas: Deltas, under: Tensor, options: FtOptions
) -> tuple[Tensor, Tensor]:
    return losses_of(answers.logits(deltas, under), answers.lessons, options)


def _by_edit(values: Tensor, lessons: Lessons, at_answers: bool) -> Sequence[Tensor]:
    """A map's values, of answer tokens or of all tokens of rows, edit by edit: each (n, d)."""
    n_edits = lessons.n_edits
    if at_answers:
        return values.split(lessons.token_edit.bincount(minlength=n_edits).tolist())
    of_rows = values.reshape(len(lessons.edit), -1, values.shape[-1])
    rows = of_rows.split(lessons.edit.bincount(minlength=n_edits).tolist())
    return [of_edit.flatten(0, 1) for of_edit in rows]
