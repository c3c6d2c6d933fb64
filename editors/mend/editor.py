"""MEND (Mitchell et al., Fast Model Editing at Scale, ICLR 2022): an edit from one gradient.

The edit's own loss gives, at every edited matrix, one factor pair (x_t, delta_t) per token. A
trained network maps the pairs to (x~_t, delta~_t), and the edited matrix is

    W' = W + s alpha sum_t delta~_t x~_t^T

with a learned step size alpha per matrix. The sign s is +1 as published (at the start this climbs
the loss, and training has to turn it round) or -1, gradient descent. The sum is never formed: the
pairs themselves are the edit, a low-rank delta per row. Of many edits at once the update is the sum
of those that each makes alone: the pairs of all of them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.gradients import capture_bytes, surviving, teaching_factors
from editors.mend.config import MendOptions
from editors.mend.transform import GradientTransform
from editors.turn import Turn
from errors import ModelError
from models.deltas import Groups, LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.factors import Factors
from models.rows import EditBatch

_COPIES = 6  # of a token's factors: captured, normalised, a hidden layer's, transformed, by edit


class Mend(nn.Module):
    """The editor: networks, their input statistics and the step sizes; no base model inside.

    Args:
        options: what is edited, and by what networks.
        model: the base model whose matrices are edited; only shapes are read.

    Raises:
        ModelError: the model has fewer layers, or not these matrices.
    """

    name = "mend"

    def __init__(self, options: MendOptions, model: EditableModel) -> None:
        super().__init__()
        self.sites = options.sites_in(model)
        self.sign = 1.0 if options.sign == "published" else -1.0
        self.edit_lr = nn.Parameter(torch.full((len(self.sites),), float(options.edit_lr)))
        self.transforms = nn.ModuleDict()
        self._network: dict[Site, tuple[str, int | None]] = {}
        groups: dict[str, list[Site]] = {}
        for site in self.sites:
            key = _key(site, linear_shape(model.linear(site)), shared=options.shared)
            members = groups.setdefault(key, [])
            self._network[site] = (key, len(members) if options.shared else None)
            members.append(site)
        for key, members in groups.items():
            shape = linear_shape(model.linear(members[0]))
            n_modes = len(members) if options.shared else None
            self.transforms[key] = GradientTransform(*shape, options, n_modes)

    @property
    def ready(self) -> bool:
        """Whether edits can be made: every network's input statistics are there."""
        return all(
            net.statistics is None or net.statistics.ready
            for net in self.transforms.values()
            if isinstance(net, GradientTransform)
        )

    def first_layer(self, model: EditableModel) -> int:
        """The lowest edited layer."""
        return min(site.layer for site in self.sites)

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """Of the edits' own rows: the capture's graph, and factors as a network moves them."""
        tokens = batch.rows.attention_mask[batch.edit_rows].numel()
        widths = sum(sum(linear_shape(model.linear(site))) for site in self.sites)
        factors = tokens * 4 * _COPIES * widths
        return capture_bytes(model, batch, self.first_layer(model)) + factors

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """Edits from the mean loss of the rows that teach each, independent of each other.

        In train mode the batch's tokens enter the input statistics first.

        Raises:
            ModelError: the model's logits, or the gradients of its loss, are no numbers.
        """
        factors = teaching_factors(self.name, model, self.sites, batch, state)
        return DeltaEdit(self.deltas(factors))

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> DeltaEdit:
        """The sum of the updates that each edit makes alone.

        Raises:
            ModelError: as `edit`.
        """
        update = DeltaEdit()
        for batch, state in turn:
            factors = teaching_factors(self.name, model, self.sites, batch, state)
            summed = self.deltas({site: of.of_one_edit() for site, of in factors.items()})
            update = DeltaEdit({s: delta.compact() for s, delta in summed.items()}).after(update)
        return update

    def deltas(self, factors: Mapping[Site, Factors]) -> dict[Site, LowRankDelta]:
        """The edits from their gradient factors, matrix by matrix in the order of `sites`.

        Raises:
            ModelError: the editor has no input statistics, or the sites are other ones.
        """
        if missing := [site for site in self.sites if site not in factors]:
            raise ModelError(f"no gradient factors were captured at {missing}.")
        return {
            site: self._delta(site, step, factors[site])
            for site, step in zip(self.sites, self.sign * self.edit_lr, strict=True)
        }

    def _delta(self, site: Site, step: Tensor, factors: Factors) -> LowRankDelta:
        alive = factors.mask & surviving(factors.x, factors.delta)  # (E, n)
        edit_index, token = alive.nonzero(as_tuple=True)
        key, mode = self._network[site]
        x, delta = self.transforms[key](
            factors.x[edit_index, token], factors.delta[edit_index, token], mode
        )
        tokens = Groups(edit_index, len(alive))
        inputs, outputs = tokens.split(x), tokens.split(step * delta)
        if not tokens.is_full:
            padding = ~tokens.mask[..., None]
            inputs, outputs = inputs.masked_fill(padding, 0), outputs.masked_fill(padding, 0)
        return LowRankDelta(inputs, outputs)


def build(options: MendOptions, model: EditableModel, inputs: EditorInputs) -> Mend:
    """The untrained editor that the options describe, on the model's device."""
    return Mend(options, model).to(model.device)


def _key(site: Site, shape: tuple[int, int], *, shared: bool) -> str:
    """Name of a network in the checkpoint: of its matrices' shape, or of its one matrix."""
    return "{}x{}".format(*shape) if shared else f"{site.role}_{site.layer}"
