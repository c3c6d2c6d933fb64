"""Passes over the layers of a frozen decoder, from the state that enters one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from errors import ModelError
from models.decoder import Decoder
from models.deltas import Deltas, Groups, Site, apply_deltas
from models.head import head_logits
from models.hooks import StopForwardError, pre_hook, stoppable
from models.rows import Answers
from models.sites import ATTENTION_ROLES, MLP_ROLES, ROLES, Role
from models.state import LayerState, PrefixState


class DecoderPasses(nn.Module):
    """A decoder whose layers run over states, under per-edit deltas.

    Attributes:
        family: the name of the base models that are read so.
        decoder: the parts of its language model.
    """

    family: str
    decoder: Decoder

    @property
    def n_layers(self) -> int:
        return len(self.decoder.layers)

    def layer_kind(self, layer: int) -> str:
        """Layers of one kind are handed the same masks and rotary tables; here all are."""
        return ""

    def linear(self, site: Site) -> nn.Module:
        """The linear map at a site.

        Raises:
            ModelError: the layer is not there, or has no such map.
        """
        if not 0 <= site.layer < self.n_layers:
            raise ModelError(
                f"layer {site.layer} was asked for, and this {self.family} model has decoder "
                f"layers 0 to {self.n_layers - 1}. Give a layer in that range."
            )
        self.check_roles([site.role])
        return self.decoder.layers[site.layer].get_submodule(self.decoder.sites[site.role])

    def check_roles(self, roles: Iterable[Role]) -> None:
        """Refuses roles that no linear map of the decoder has.

        Raises:
            ModelError: naming those that there are.
        """
        if missing := [role for role in roles if role not in self.decoder.sites]:
            raise ModelError(
                f"{' and '.join(missing)} of a decoder layer was asked for, and the linear maps of "
                f"this {self.family} model that can be edited are "
                f"{', '.join(role for role in ROLES if role in self.decoder.sites)}. Set "
                "editor.matrices to some of them."
            )

    def last_sites(self, n_layers: int, roles: Collection[Role] = MLP_ROLES) -> list[Site]:
        """Linear maps of the last `n_layers` decoder layers, in layer order.

        Args:
            n_layers: how many.
            roles: which maps of a layer, in any order: of each layer the last one that it goes
                through comes first. By default the first and second matrix of its MLP.

        Raises:
            ModelError: the model has fewer layers, or none of a role; or `n_layers` is not
                positive.
        """
        if not 1 <= n_layers <= self.n_layers:
            raise ModelError(
                f"the last {n_layers} decoder layers were asked for, and this {self.family} model "
                f"has {self.n_layers}. Set editor.layers to a number from 1 to {self.n_layers}."
            )
        self.check_roles(roles)
        layers = range(self.n_layers - n_layers, self.n_layers)
        return [Site(layer, role) for layer in layers for role in reversed(ROLES) if role in roles]

    def sites_of(self, layers: Mapping[Role, Collection[int]]) -> list[Site]:
        """Linear maps that are named one by one, in the order of `last_sites`.

        Args:
            layers: role -> decoder layers, counted from 0, in which the map of this role is meant.

        Raises:
            ModelError: the model has no such layer, or no map of a role.
        """
        sites = [Site(layer, role) for role in reversed(ROLES) for layer in layers.get(role, ())]
        for site in sites:
            self.linear(site)
        return sorted(sites, key=lambda site: site.layer)

    def is_at_answers(self, site: Site) -> bool:
        """Whether passes that predict some tokens run a map at these alone: the last block's MLP.

        Its attention reads all tokens, whatever is predicted.
        """
        return site.layer == self.n_layers - 1 and site.role not in ATTENTION_ROLES

    def head_logits(self, hidden: Tensor) -> Tensor:
        """The head on what comes out of the body: (..., d) -> (..., V) in float32 or better."""
        return head_logits(self.decoder.head, hidden)

    def up_to_answers(
        self,
        part: LayerState,
        layer: int,
        at: Answers,
        deltas: Deltas,
        edit_index: Tensor | None,
    ) -> Tensor:
        """What enters the last block's MLP at answer tokens, under deltas below it: (N, d)."""
        below = {s: delta for s, delta in deltas.items() if not self.is_at_answers(s)}
        with self._edited(part, below, edit_index):
            hidden = self._layers(part, layer, self.n_layers - 1)
            hidden = self._before_last_mlp(hidden, part)
        return hidden[part.where(at.row, at.position)]

    def everywhere(self, state: PrefixState, deltas: Deltas, edit_index: Tensor | None) -> Tensor:
        """Logits at all tokens of rows, (R, T, V)."""
        parts = []
        for part in state.parts:
            with self._edited(part, deltas, edit_index):
                hidden = self._layers(part, state.layer, self.n_layers)
            rows = part.rows
            parts.append((rows, self.predicted(part.by_row(hidden, rows))))
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return torch.cat([logits for _, logits in parts])[order]

    @torch.no_grad()
    def advance(
        self,
        state: PrefixState,
        layer: int,
        *,
        deltas: Deltas | None = None,
        edit_index: Tensor | None = None,
    ) -> PrefixState:
        """The state on entering a later layer, under per-row edits of the layers between.

        What is read of it (`EditableModel.read`, `PrefixState.hidden`) is what a model with these
        edits in place would show there.

        Args:
            state: at or below the lowest edited layer.
            layer: the one that is entered; `n_layers` for what leaves the last one.
            deltas: one delta per edited site, all of them below `layer`; None: unedited.
            edit_index: (R,) the edit of each row, needed with `deltas`.

        Raises:
            ModelError: a layer lies below the state, or a delta where it could have no effect.
        """
        deltas, between = deltas or {}, range(state.layer, layer)
        outside = [site.layer for site in deltas if site.layer not in between]
        if layer < state.layer or outside:
            raise ModelError(
                f"a state at layer {state.layer} cannot enter layer {layer}"
                + (f" under deltas of layer {outside[0]}." if outside else ", which is below it.")
            )
        parts = []
        for part in state.parts:
            with self._edited(part, deltas, edit_index):
                parts.append(replace(part, hidden=self._layers(part, state.layer, layer)))
        return PrefixState(tuple(parts), layer)

    @contextmanager
    def _edited(
        self, part: LayerState, deltas: Deltas, edit_index: Tensor | None
    ) -> Iterator[None]:
        """Deltas are in place, for the edit of each sequence."""
        linears = {site: self.linear(site) for site in deltas}
        groups = None
        if edit_index is not None:
            groups = groups_of(deltas, part.of_sequences(edit_index))
        with apply_deltas(linears, deltas, groups):
            yield

    def _layers(self, part: LayerState, start: int, stop: int) -> Tensor:
        """Whole layers from one up to another one: (S, L, d)."""
        hidden = part.hidden
        for layer in range(start, stop):
            hidden = self._layer(layer, hidden, part)
        return hidden.to(part.hidden.device)

    def top(self, hidden: Tensor, deltas: Deltas, items: Groups | None) -> Tensor:
        """The last block's MLP, norm and head, under those of the deltas that are there."""
        return self.predicted(self.last_mlp(hidden, deltas, items))

    def last_mlp(self, hidden: Tensor, deltas: Deltas, items: Groups | None) -> Tensor:
        """What the last block puts out of what enters its MLP, under those of the deltas there."""
        linears = {site: self.linear(site) for site in deltas if self.is_at_answers(site)}
        with apply_deltas(linears, deltas, items):
            moved = self.decoder.mlp(self.decoder.layers[-1], hidden)
            return hidden + moved.to(hidden.device)

    def predicted(self, hidden: Tensor) -> Tensor:
        """Final norm and head on what the last block puts out: (..., d) -> (..., V) logits."""
        return self.head_logits(self.decoder.norm(hidden))

    def _layer(self, number: int, hidden: Tensor, part: LayerState) -> Tensor:
        kwargs = part.kwargs[self.layer_kind(number)]
        output = self.decoder.layers[number](hidden, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _before_last_mlp(self, hidden: Tensor, part: LayerState) -> Tensor:
        """The residual stream between attention and MLP of the last block: (S, L, d)."""
        norm = self.decoder.layers[-1].get_submodule(self.decoder.mlp_norm)
        stream: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Tensor, ...], _kwargs: object) -> None:
            stream.append(args[0])
            raise StopForwardError

        with pre_hook(norm, stop), stoppable():
            self._layer(self.n_layers - 1, hidden, part)
        return stream[0].reshape(hidden.shape).to(hidden.device)


def groups_of(deltas: Deltas, edit_index: Tensor | None, of: Tensor | None = None) -> Groups | None:
    """Items by their edits; None where there is nothing to apply.

    Args:
        deltas: what is applied.
        edit_index: the edit of each item, or of each row.
        of: (I,) the row of each item.
    """
    if not deltas or edit_index is None:
        return None
    edit_index = edit_index if of is None else edit_index[of]
    return Groups(edit_index, next(iter(deltas.values())).n_edits, present=True)
