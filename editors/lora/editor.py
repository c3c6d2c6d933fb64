"""LoRA (Hu et al., 2022): an edit is one low-rank adapter per matrix, fitted to its own answer.

    W' = W + alpha / r * B A,    A (r, d_in), B (d_out, r), B = 0 at the start

The base model never holds an adapter: all edits start from the same A, drawn as peft draws it, and
are fitted side by side as low-rank deltas. An edit equals what peft's own training of that one edit
gives (tests/unit/editors/test_lora.py). Many edits in one update share one adapter per matrix,
which is fitted to all of their answers (`editors.together`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from editors.answer_descent import AsDeltas, fit_answers
from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.lora.config import LoraOptions
from editors.teaching import Teaching
from editors.together import Minibatches, fit_answers_together
from editors.turn import Turn
from models.deltas import Delta, LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch


@dataclass(frozen=True)
class Adapter:
    """One matrix's adapter before any step.

    Attributes:
        a: (r, d_in).
        b: (d_out, r), zero.
        scaling: alpha / r.
    """

    a: Tensor
    b: Tensor
    scaling: float

    def delta(self, a_moves: Tensor, b_moves: Tensor) -> LowRankDelta:
        """Moves of A (E, r, d_in) and B (E, d_out, r) from here -> the edits' deltas."""
        return LowRankDelta(inputs=self.a + a_moves, outputs=self.scaling * (self.b + b_moves).mT)


class Lora:
    """Fits adapters on linear maps of the last layers, every edit by itself."""

    name = "lora"

    def __init__(self, options: LoraOptions) -> None:
        self.options = options

    def sites(self, model: EditableModel) -> list[Site]:
        """The adapted matrices, in the order in which peft walks through a model."""
        sites = model.last_sites(self.options.layers or model.n_layers, self.options.matrices)
        inside = [name for name, _ in model.decoder.layers[-1].named_modules()]
        places = {role: inside.index(name) for role, name in model.decoder.sites.items()}
        return sorted(sites, key=lambda site: (site.layer, places[site.role]))

    def first_layer(self, model: EditableModel) -> int:
        """The lowest adapted layer."""
        return self.sites(model)[0].layer

    def adapters(self, model: EditableModel) -> dict[Site, Adapter]:
        """What all edits start from; no random state but an own one is touched, of any device."""
        draw = torch.Generator().manual_seed(self.options.seed)  # on the CPU, as peft draws
        linears = {site: model.linear(site) for site in self.sites(model)}
        return {s: self._adapter(linear, draw, model.device) for s, linear in linears.items()}

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """The moves of A and B in float32, twice while they are put together."""
        shapes = (linear_shape(model.linear(site)) for site in self.sites(model))
        return len(batch) * 2 * 4 * sum(self.options.rank * sum(shape) for shape in shapes)

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One low-rank delta per edit and matrix.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        start, as_deltas = self._start(model)
        teaching = Teaching.of(batch, state)
        return DeltaEdit(as_deltas(fit_answers(model, teaching, start, as_deltas, self.options)))

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> DeltaEdit:
        """One low-rank delta per matrix, on the mean over the edits of their losses.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        start, as_deltas = self._start(model)
        answers = Minibatches(model, turn, Teaching.of, self.sites(model))
        moves = fit_answers_together(model, answers, start, as_deltas, self.options)
        return DeltaEdit(as_deltas(moves))

    def _start(self, model: EditableModel) -> tuple[list[Tensor], AsDeltas]:
        """A and B of every matrix, and what moves of them make of the matrices."""
        adapters = self.adapters(model)

        def as_deltas(moves: Sequence[Tensor]) -> dict[Site, Delta]:
            pairs = zip(adapters.items(), moves[::2], moves[1::2], strict=True)
            return {site: adapter.delta(a, b) for (site, adapter), a, b in pairs}

        return [start for each in adapters.values() for start in (each.a, each.b)], as_deltas

    def _adapter(self, linear: nn.Module, draw: torch.Generator, device: torch.device) -> Adapter:
        """Draws what peft draws, in its order: both layers' own values, then A's again."""
        rank, (d_in, d_out) = self.options.rank, linear_shape(linear)
        a, b = torch.empty(rank, d_in), torch.empty(d_out, rank)
        for matrix in (a, b, a):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=draw)
        nn.init.zeros_(b)
        weight = linear.get_parameter("weight")
        dtype = weight.dtype if weight.is_floating_point() else a.dtype
        precision = torch.promote_types(dtype, torch.float32)
        a, b = (matrix.to(device, dtype).to(precision) for matrix in (a, b))
        return Adapter(a, b, self.options.alpha / rank)


def build(options: LoraOptions, model: EditableModel, inputs: EditorInputs) -> Lora:
    """The editor; its options are all that it needs."""
    return Lora(options)
