"""The reference engine: what published code does for the same numbers, and no slower than it must.

A batch of one row, a whole forward pass for every question, the vision tower in each of them,
logits at every position, edited weights as dense matrices that a functional call puts in place, and
autograd over the edited parameters. It shares with the engine the base model's modules and the
editors' own networks; how rows, gradients and edits go through the base model is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from editors.ft.config import FtOptions
from editors.mend.editor import Mend
from editors.objective import Objective
from metrics.functional import kl_divergence
from models.deltas import Site
from models.editable import EditableModel, Factors
from models.hooks import forward_hooks
from models.rows import EditBatch

Weights = Mapping[str, Tensor]  # parameter of the transformers model -> what stands in its place


@dataclass(frozen=True)
class Row:
    """One row, without padding.

    Attributes:
        ids: (1, T) tokens.
        pixels: (1, C, H, W), or None for a text row.
        position: (n,) where its answer tokens are predicted.
        target: (n,) their ids.
    """

    ids: Tensor
    pixels: Tensor | None
    position: Tensor
    target: Tensor


def rows_of(batch: EditBatch) -> list[Row]:
    """The rows of a batch, one by one."""
    rows = batch.rows
    alone = []
    for number in range(len(rows)):
        real = rows.attention_mask[number]
        ids, answer = rows.input_ids[number][real], rows.answer_mask[number][real]
        token = answer.nonzero().squeeze(1)
        picture = int(rows.image_index[number])
        pixels = rows.pixel_values
        shown = None if picture < 0 or pixels is None else pixels[picture : picture + 1]
        alone.append(Row(ids[None], shown, token - 1, ids[token]))
    return alone


class Reference:
    """The base model, asked row by row.

    Args:
        model: its transformers model is used, and where its matrices are; no other method.
    """

    def __init__(self, model: EditableModel) -> None:
        self._hf, self._model = model.hf, model
        names = {id(module): name for name, module in model.hf.named_modules()}
        self._name = {
            site: f"{names[id(model.linear(site))]}.weight"
            for site in model.last_sites(model.n_layers)
        }

    def ask(self, row: Row, weights: Weights | None = None) -> Tensor:
        """Logits at the answer tokens of a row, (n, V), by a whole forward pass."""
        kwargs = {"input_ids": row.ids, "use_cache": False}
        if row.pixels is not None:
            kwargs["pixel_values"] = row.pixels
        logits = functional_call(self._hf, dict(weights or {}), (), kwargs).logits[0]
        answers: Tensor = logits[row.position]
        return answers

    def answers(self, rows: Sequence[Row], weights: Weights | None = None) -> Tensor:
        """The likeliest token at every answer token of some rows, (N,)."""
        with torch.no_grad():
            return torch.cat([self.ask(row, weights).argmax(-1) for row in rows])

    def weights(self, deltas: Mapping[Site, Tensor]) -> dict[str, Tensor]:
        """Dense edited weights: site -> (d_out, d_in) becomes parameter -> W + D."""
        return {
            self._name[site]: self._model.linear(site).get_parameter("weight").detach() + delta
            for site, delta in deltas.items()
        }

    def capture(self, sites: Sequence[Site], row: Row) -> dict[Site, Factors]:
        """Inputs and output gradients of some matrices, whose weights' gradients are made too."""
        inputs, outputs = dict[Site, Tensor](), dict[Site, Tensor]()

        def keep(site: Site) -> Callable[..., None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                inputs[site], outputs[site] = args[0].detach(), output
                output.retain_grad()

            return hook

        leaves = {
            self._name[site]: self._model.linear(site).get_parameter("weight").detach().clone()
            for site in sites
        }
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        hooks = [(self._model.linear(site), keep(site)) for site in sites]
        with forward_hooks(hooks), torch.enable_grad():
            F.cross_entropy(self.ask(row, leaves), row.target).backward()
        factors = {}
        for site in sites:
            gradient = outputs[site].grad
            assert gradient is not None
            ones = torch.ones(gradient.shape[:2], dtype=torch.bool, device=gradient.device)
            factors[site] = Factors(inputs[site], gradient, ones)
        return factors

    def fit(self, sites: Sequence[Site], row: Row, options: FtOptions) -> dict[str, Tensor]:
        """FT: descent on whole copies of some matrices, a whole forward pass a step."""
        leaves = {
            self._name[site]: self._model.linear(site).get_parameter("weight").detach().clone()
            for site in sites
        }
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        kind = torch.optim.AdamW if options.decoupled else torch.optim.Adam
        optimizer = kind(leaves.values(), lr=options.lr, weight_decay=options.weight_decay)
        for _ in range(options.steps):
            loss = F.cross_entropy(self.ask(row, leaves), row.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: leaf.detach() for name, leaf in leaves.items()}


def mend_weights(reference: Reference, editor: Mend, row: Row) -> dict[str, Tensor]:
    """MEND's edit of one row as dense weights, in the graph of the editor's networks."""
    deltas = editor.deltas(reference.capture(editor.sites, row))
    return reference.weights({site: delta.dense()[0] for site, delta in deltas.items()})


def mend_loss(reference: Reference, editor: Mend, batch: EditBatch, objective: Objective) -> Tensor:
    """The outer loss of a batch of edits, one edit and one question after the other."""
    rows = rows_of(batch)
    edit_of = batch.rows.edit_index.tolist()
    before = {}
    for term in objective.terms:
        for number in _rows_of_term(batch, term.probes) if term.kl else ():
            if number not in before:
                with torch.no_grad():
                    before[number] = reference.ask(rows[number])
    losses: dict[str, list[Tensor]] = {term.name: [] for term in objective.terms}
    for edit, edit_row in enumerate(batch.edit_rows.tolist()):
        weights = mend_weights(reference, editor, rows[edit_row])
        answered: dict[int, Tensor] = {}
        for term in objective.terms:
            for number in _rows_of_term(batch, term.probes):
                if edit_of[number] != edit:
                    continue
                if number not in answered:
                    answered[number] = reference.ask(rows[number], weights)
                logits = answered[number]
                losses[term.name].append(
                    kl_divergence(before[number], logits).mean()
                    if term.kl
                    else F.cross_entropy(logits, rows[number].target)
                )
    terms = [
        objective.weights[name] * torch.stack(values).mean()
        for name, values in losses.items()
        if values
    ]
    return torch.stack(terms).sum()


def _rows_of_term(batch: EditBatch, probes: Sequence[str]) -> list[int]:
    return [
        row for probe in probes if probe in batch.probes for row in batch.probes[probe].tolist()
    ]
