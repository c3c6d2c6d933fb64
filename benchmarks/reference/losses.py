"""Outer losses one edit and one question after the other, and MEND's edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.reference.passes import Reference, Row, rows_of
from editors.mend.editor import Mend
from editors.objective import Objective
from metrics.functional import kl_divergence
from models.rows import EditBatch

Answer = Callable[[int], tuple[Tensor, Tensor]]
"""Number of a row -> logits at its answer tokens before and after the edit, (n, V) each."""


def outer_loss(
    batch: EditBatch,
    rows: Sequence[Row],
    objective: Objective,
    edited: Callable[[int], Answer],
) -> Tensor:
    """The objective over a batch of edits.

    Args:
        batch: the edits.
        rows: all rows of it.
        objective: terms and weights.
        edited: number of an edit -> what answers a row under it; a row is asked once.
    """
    edit_of = batch.rows.edit_index.tolist()
    losses: dict[str, list[Tensor]] = {term.name: [] for term in objective.terms}
    for edit in range(len(batch)):
        answer, answered = edited(edit), dict[int, tuple[Tensor, Tensor]]()
        for term in objective.terms:
            for number in _rows_of_term(batch, term.probes):
                if edit_of[number] != edit:
                    continue
                if number not in answered:
                    answered[number] = answer(number)
                before, after = answered[number]
                losses[term.name].append(
                    kl_divergence(before, after).mean()
                    if term.kl
                    else F.cross_entropy(after, rows[number].target)
                )
    terms = [
        objective.weights[name] * torch.stack(values).mean()
        for name, values in losses.items()
        if values
    ]
    return torch.stack(terms).sum()


def mend_weights(reference: Reference, editor: Mend, row: Row) -> dict[str, Tensor]:
    """MEND's edit of one row as dense weights, in the graph of the editor's networks."""
    deltas = editor.deltas(reference.capture(editor.sites, row))
    return reference.weights({site: delta.dense()[0] for site, delta in deltas.items()})


def mend_loss(reference: Reference, editor: Mend, batch: EditBatch, objective: Objective) -> Tensor:
    """MEND's outer loss."""
    rows = rows_of(batch)
    compared = {
        number
        for term in objective.terms
        if term.kl
        for number in _rows_of_term(batch, term.probes)
    }

    def edited(edit: int) -> Answer:
        weights = mend_weights(reference, editor, rows[int(batch.edit_rows[edit])])

        def answer(number: int) -> tuple[Tensor, Tensor]:
            after = reference.ask(rows[number], weights)
            if number not in compared:
                return after.detach(), after
            with torch.no_grad():
                return reference.ask(rows[number]), after

        return answer

    return outer_loss(batch, rows, objective, edited)


def _rows_of_term(batch: EditBatch, probes: Sequence[str]) -> list[int]:
    return [
        row for probe in probes if probe in batch.probes for row in batch.probes[probe].tolist()
    ]
