"""Facts on their way through the edited layers: what asks for them, and what should be said.

z = h_L + d is the state of the residual stream behind the last edited layer L, at the subject's
last token, under which the model says the new object; d is found as ROME finds it (Meng et al.
2023, eq. 16; `editors.rome.values`). What enters a layer is kept under the updates of the layers
below, so that no layer is passed again for the next one; of a turn whose prompts are too many for
that, the rest are read anew for each layer, a few layers beside the descent that found their z.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.memit.config import MemitOptions
from editors.rome.prompts import mean_keys, prompts_in_parts
from editors.rome.values import Prompts, Values, optimise
from models.context import rest, until
from models.deltas import Deltas, Site
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, Rows


@dataclass(frozen=True)
class Memories:
    """E facts, each asked for by C prompts that end with its subject, the plain one first.

    Attributes:
        rows: the prompts up to the subject's last token, E * C rows.
        state: what enters a layer at the prompts, the first edited one or where they were led
            to; None: they are read when they are led to one.
        lookup: (E * C,) the subject's last token.
        z: (E, d) what the stream should be behind the last edited layer.
        edit: (E * C,) the edit of each prompt, among those that are made side by side.
    """

    rows: Rows
    state: PrefixState | None
    lookup: Tensor
    z: Tensor
    edit: Tensor

    @property
    def n_edits(self) -> int:
        return len(self.z)

    def keys(self, model: EditableModel, site: Site) -> Tensor:
        """The mean input of a map over the prompts of each fact: (E, d_in)."""
        every = torch.arange(len(self.lookup), device=self.lookup.device)
        return mean_keys(model, self._entered, site, every, self.lookup, self.n_edits)

    def residuals(self, model: EditableModel, last: int) -> Tensor:
        """What the stream at the plain prompts lacks behind the last layer, z - h_L: (E, d)."""
        rows = len(self.lookup)
        plain = torch.arange(0, rows, rows // self.n_edits, device=self.lookup.device)
        leaving = model.advance(self._entered.select(plain), last + 1).hidden
        every = torch.arange(self.n_edits, device=plain.device)
        return self.z - leaving[every, self.lookup[plain]].to(self.z.dtype)

    def entering(
        self, model: EditableModel, first: int, layer: int, deltas: Deltas, *, together: bool
    ) -> Memories:
        """The same with the state before a layer, under updates of the layers below.

        Args:
            model: the base model, with earlier edits in place.
            first: the lowest edited layer, where prompts are read to that are not held.
            layer: the one that is entered.
            deltas: of the edited layers below, of each fact, or one of all of them.
            together: whether they are one of all.
        """
        under = torch.zeros_like(self.edit) if together else self.edit
        state = model.prefix(self.rows, first) if self.state is None else self.state
        above = {site: delta for site, delta in deltas.items() if site.layer >= state.layer}
        state = model.advance(state, layer, deltas=above, edit_index=under)
        return replace(self, state=state)

    @property
    def _entered(self) -> PrefixState:
        assert self.state is not None
        return self.state


def memories_of(
    model: EditableModel,
    batch: EditBatch,
    encoder: PromptEncoder,
    prefixes: Sequence[str],
    options: MemitOptions,
) -> Iterator[Memories]:
    """The facts of a batch before the first edited layer, as many at once as fit into memory.

    Args:
        model: the base model, with earlier edits in place.
        batch: the edits.
        encoder: the run's prompt function.
        prefixes: texts before a prompt.
        options: of the descent.

    Raises:
        DataError: an edit prompt does not contain its subject, or is too long for the model.
        ModelError: a descent's loss is not finite.
    """
    first, last = options.layers[0], options.layers[-1]
    parts = prompts_in_parts(model, batch, encoder, prefixes, options, last)
    for edits, rows, prompts in parts:
        asking = prompts.rewriting
        lookup = prompts.lookup[asking]
        up_to_lookup = until(rows.select(asking), lookup)
        z = _targets(model, rows, prompts, last, options)
        state = model.prefix(up_to_lookup, first)
        yield Memories(up_to_lookup, state, lookup, z, edits[prompts.edit[asking]])


def held(model: EditableModel, parts: Iterable[Memories]) -> Iterator[Memories]:
    """The same without the states that a device has no room for beside a descent.

    Args:
        model: the base model.
        parts: with their states.
    """
    room = model.budget.kept
    for part in parts:
        room -= 0 if part.state is None else part.state.nbytes
        yield replace(part, state=None) if room < 0 else part


def _targets(
    model: EditableModel, rows: Rows, prompts: Prompts, layer: int, options: MemitOptions
) -> Tensor:
    """What the stream should be behind the last edited layer, z: (E, d)."""
    # Nothing changes before the lookup token, and nothing after an answer's last is looked at.
    state, cut = rest(model, rows, layer, prompts.lookup, prompts.last)
    site, prompts = Site(layer, "mlp_out"), prompts.without(cut)
    values = Values(model, state, site, prompts, options, stream=True)
    return values.v_0 + optimise(values)
