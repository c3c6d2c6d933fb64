"""MALMEN (Tan et al., Massive Editing for LLMs via Meta Learning, ICLR 2024): edits by one solve.

At every edited matrix each token t that predicts an answer has a key k_t and a value gradient g_t.
A trained network maps the pair to (k~_t, g~_t), and the token asks for the change

    D_t = -eta (k_t . k~_t) g~_t

of the matrix's output, with a learned step size eta per matrix. The update is what gives all tokens
of all edits the most of what they ask for, by ridge least squares with a learned ridge lambda:

    dW^T = (K^T K + lambda I)^-1 K^T D
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.gradients import (
    EditTokens,
    answer_count,
    answer_tokens,
    capture_bytes,
    turn_tokens,
)
from editors.malmen.config import MalmenOptions
from editors.malmen.network import TokenNetwork
from editors.ridge import check_solve, ridge_update
from editors.turn import Turn
from models.deltas import Delta, Groups, LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch

# Of an answer token's factors: captured, normalised, in two blocks, solved for, by edit.
_COPIES = 8


class Malmen(nn.Module):
    """The editor: networks, their input statistics, step sizes and ridges; no base model inside.

    Args:
        options: what is edited, and by what networks.
        model: the base model whose matrices are edited; only shapes are read.

    Attributes:
        log_ridge: the logarithm of lambda, one per matrix.

    Raises:
        ModelError: the model has fewer layers, or no matrix of a role.
    """

    name = "malmen"

    def __init__(self, options: MalmenOptions, model: EditableModel) -> None:
        super().__init__()
        self.net_batch = options.net_batch
        self.sites = options.sites_in(model)
        self.edit_lr = nn.Parameter(torch.full((len(self.sites),), float(options.edit_lr)))
        self.log_ridge = nn.Parameter(torch.full((len(self.sites),), float(options.ridge)).log())
        shapes = {site: linear_shape(model.linear(site)) for site in self.sites}
        members = {
            shape: [s for s in self.sites if shapes[s] == shape] for shape in shapes.values()
        }
        self.networks = nn.ModuleDict(
            {_key(shape): TokenNetwork(*shape, options, len(of)) for shape, of in members.items()}
        )
        self._mode = {s: (_key(shape), of.index(s)) for shape, of in members.items() for s in of}

    @property
    def ready(self) -> bool:
        """Whether edits can be made: every network's input statistics are there."""
        networks = (self._network(site) for site in self.sites)
        return all(network.statistics.ready for network in networks)

    def first_layer(self, model: EditableModel) -> int:
        """The lowest edited layer."""
        return min(site.layer for site in self.sites)

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """Of the edits' own rows: the capture's graph, and factors as they are solved for."""
        widths = sum(sum(linear_shape(model.linear(site))) for site in self.sites)
        factors = answer_count(batch) * 4 * _COPIES * widths
        return capture_bytes(model, batch, self.first_layer(model)) + factors

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """B single edits, each solved for by itself.

        In train mode the batch's tokens enter the input statistics first.

        Raises:
            ModelError: the model's logits, or the gradients of its loss, are no numbers; or the
                editor has no input statistics.
        """
        tokens = answer_tokens(self.name, model, self.sites, batch, state)
        if self.training:
            self.observe(tokens)
        return DeltaEdit({site: self._single(site, tokens[site], len(batch)) for site in tokens})

    @torch.no_grad()
    def edit_together(
        self, model: EditableModel, turn: Turn, earlier: Lasting | None = None
    ) -> DeltaEdit:
        """One update for all edits of a turn, without a graph; otherwise as `edit`.

        Nothing is carried from turn to turn.

        Raises:
            ModelError: as of `edit`; or the device has no room for so many edits in one update.
        """
        del earlier
        tokens = turn_tokens(self.name, model, self.sites, turn)
        if self.training:
            self.observe(tokens)
        self.check_room(model, tokens, len(turn))
        deltas = {}
        for site, of_site in tokens.items():
            deltas[site] = self.update(site, of_site.keys, self.changes_in_parts(site, of_site))
        return DeltaEdit(deltas)

    def check_room(
        self,
        model: EditableModel,
        tokens: Mapping[Site, EditTokens],
        n_edits: int,
        *,
        processes: int = 1,
    ) -> None:
        """Refuses an update that the device has no room for.

        Args:
            model: the base model.
            tokens: of this process.
            n_edits: of this process.
            processes: that have about as many of both, and solve for all of them.

        Raises:
            ModelError: says how many edits there is room for.
        """
        for of_site in tokens.values():
            n_tokens, d_in = processes * len(of_site), of_site.keys.shape[1]
            check_solve(model.budget, n_tokens, d_in, processes * n_edits)

    def observe(self, tokens: Mapping[Site, EditTokens]) -> None:
        """Adds tokens to the input statistics, those of every process where there are several."""
        for site, of_site in tokens.items():
            network = self._network(site)
            network.statistics.update(network.joined(of_site.keys, of_site.gradients))

    def changes(self, site: Site, keys: Tensor, gradients: Tensor) -> Tensor:
        """D, what each token asks for: K (T, d_in), G (T, d_out) -> (T, d_out), with a graph."""
        step = self.edit_lr[self.sites.index(site)]
        k, g = self._network(site)(keys, gradients, self._mode[site][1])
        return -step * torch.linalg.vecdot(keys.to(k.dtype), k)[:, None] * g

    @torch.no_grad()
    def changes_in_parts(self, site: Site, tokens: EditTokens) -> Tensor:
        """D (T, d_out), `net_batch` tokens at a time and without a graph."""
        parts = zip(
            tokens.keys.split(self.net_batch), tokens.gradients.split(self.net_batch), strict=True
        )
        return torch.cat([self.changes(site, *part) for part in parts])

    def update(self, site: Site, keys: Tensor, changes: Tensor) -> Delta:
        """One update of K (T, d_in) and D (T, d_out); gradients pass to D and to the ridge."""
        return ridge_update(keys[None], changes[None], self._ridge(site)).compact()

    def _single(self, site: Site, tokens: EditTokens, n_edits: int) -> LowRankDelta:
        groups = Groups(tokens.edit, n_edits)
        padding = ~groups.mask[..., None]
        changes = self.changes(site, tokens.keys, tokens.gradients)
        keys, changes = (groups.split(v).masked_fill(padding, 0) for v in (tokens.keys, changes))
        return ridge_update(keys, changes, self._ridge(site))

    def _ridge(self, site: Site) -> Tensor:
        return self.log_ridge[self.sites.index(site)].exp()

    def _network(self, site: Site) -> TokenNetwork:
        network = self.networks[self._mode[site][0]]
        assert isinstance(network, TokenNetwork)
        return network


def build(options: MalmenOptions, model: EditableModel, inputs: EditorInputs) -> Malmen:
    """The untrained editor that the options describe, on the model's device."""
    return Malmen(options, model).to(model.device)


def _key(shape: tuple[int, int]) -> str:
    """Name of a network in the checkpoint."""
    return "{}x{}".format(*shape)
