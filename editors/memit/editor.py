"""MEMIT and AlphaEdit: facts written into the second MLP matrices of several layers.

    R_l = (z - h_L) / n_l,    dW_l = R_l^T K_l (lambda C_l + K_l^T K_l)^-1

of the edited layers l in ascending order; n_l counts those from l to the last one, L. z is what the
residual stream behind L should be at the subject's last token; keys K_l and the stream h_L are read
under the updates of the layers below (Meng et al., Mass-Editing Memory in a Transformer, ICLR 2023,
eq. 14 to 20). AlphaEdit (Fang et al., ICLR 2025) projects each update on the null space of C_l and
leaves the keys of earlier turns alone. Edits are made side by side, each by itself, or all of a
turn in one update; no weight is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.memit.config import MemitOptions
from editors.memit.memories import Memories, held, memories_of
from editors.memit.update import Coordinates, Identity, NullSpace, Whitening, update_inputs
from editors.ridge import check_solve
from editors.rome.moments import load_second_moment
from editors.rome.prompts import check_prefixed, sample_prefixes
from editors.turn import Turn
from models.deltas import LowRankDelta, Site
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, RowText


@dataclass(frozen=True)
class KeyedEdit(DeltaEdit):
    """Edits that carry their keys, which later ones leave alone (AlphaEdit).

    Attributes:
        keys: site -> K (E, n, d_in).
    """

    keys: Mapping[Site, Tensor] = field(default_factory=dict)

    def after(self, earlier: DeltaEdit | None) -> KeyedEdit:
        """The sum of the deltas, with the keys of both."""
        keys = dict(self.keys)
        for site, before in earlier.keys.items() if isinstance(earlier, KeyedEdit) else ():
            keys[site] = torch.cat([before, keys[site]], 1) if site in keys else before
        return KeyedEdit(super().after(earlier).deltas, keys)


class Memit:
    """An update of the second MLP matrix of several layers, of each edit or of many together.

    Args:
        prefixes: texts before the prompt that keys and z are averaged over.
        second_moments: layer -> C (d_in, d_in) of its keys; of none: the identity.
    """

    name = "memit"

    def __init__(
        self,
        options: MemitOptions,
        encoder: PromptEncoder,
        prefixes: Sequence[str] = (),
        second_moments: Mapping[int, Tensor] | None = None,
    ) -> None:
        self.options, self.encoder, self.prefixes = options, encoder, tuple(prefixes)
        moments = second_moments or {}
        # Factored once: C of a real model has thousands of rows.
        self.coordinates = {
            Site(layer, "mlp_out"): _coordinates(moments.get(layer), layer, options)
            for layer in options.layers
        }

    def first_layer(self, model: EditableModel) -> int:
        """The lowest edited layer."""
        return self.options.layers[0]

    def check_lengths(self, edit: Sequence[RowText], asked: Sequence[RowText]) -> None:
        """Refuses an edit whose question, behind a prefix, the model could not read.

        Raises:
            DataError: naming the prefix, the question and its tokens.
        """
        check_prefixed(self.encoder, self.prefixes, edit)

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One factor pair per edit and layer.

        Raises:
            DataError: an edit prompt does not contain its subject, or is too long for the model.
            ModelError: a descent's loss is not finite.
        """
        return self._update(model, self._memories(model, batch), {}, together=False)

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> DeltaEdit:
        """One update of all edits of a turn: a factor pair per edit, and layer.

        What enters a layer is held for as many prompts of the turn as have room.

        Raises:
            DataError: an edit prompt does not contain its subject, or is too long for the model.
            ModelError: a descent's loss is not finite.
        """
        every = (part for batch, _ in turn for part in self._memories(model, batch))
        keys = earlier.keys if isinstance(earlier, KeyedEdit) else {}
        return self._update(model, every, keys, together=True)

    def _memories(self, model: EditableModel, batch: EditBatch) -> Iterator[Memories]:
        return memories_of(model, batch, self.encoder, self.prefixes, self.options)

    def _update(
        self,
        model: EditableModel,
        memories: Iterable[Memories],
        earlier: Mapping[Site, Tensor],
        *,
        together: bool,
    ) -> DeltaEdit:
        """The update of all layers, of each fact by itself or of all together.

        Args:
            model: the base model.
            memories: the facts, before the first edited layer.
            earlier: site -> keys of earlier turns (1, m, d_in).
            together: whether the facts are one edit.

        Raises:
            ModelError: the device has no room for so many facts in one edit.
        """
        axis = 0 if together else 1
        deltas: dict[Site, LowRankDelta] = {}
        kept: dict[Site, Tensor] = {}
        sites, parts = list(self.coordinates), list(held(model, memories))
        for number, site in enumerate(sites):
            of_parts, missing = [], []
            for place, part in enumerate(parts):
                entered = part.entering(
                    model, sites[0].layer, site.layer, deltas, together=together
                )
                of_parts.append(entered.keys(model, site))
                missing.append(entered.residuals(model, sites[-1].layer))
                if part.state is not None:  # one after the other: not all of them twice
                    parts[place] = entered
            keys = torch.cat(of_parts).unsqueeze(axis)
            lacks = torch.cat(missing)
            if together:
                known = earlier[site].shape[1] if site in earlier else 0
                n_edits, d_in = keys.shape[1:]
                check_solve(model.budget, n_edits, d_in, n_edits, earlier=known)
            inputs = update_inputs(
                keys, self.options.ridge, self.coordinates[site], earlier.get(site)
            )
            outputs = lacks.unsqueeze(axis) / (len(sites) - number)
            deltas[site], kept[site] = LowRankDelta(inputs, outputs), keys
        return KeyedEdit(deltas, kept) if self.options.null_space else DeltaEdit(deltas)


def build(options: MemitOptions, model: EditableModel, inputs: EditorInputs) -> Memit:
    """The editor that the options describe; writes the prefixes, reads the second moments.

    Raises:
        ModelError: a second moment is another model's or layer's, or of no use.
    """
    moments = {
        layer: load_second_moment(file, model, layer, option="editor.second_moments")
        for layer, file in options.files.items()
    }
    prefixes = sample_prefixes(model, inputs.encoder, options.contexts, options.seed)
    return Memit(options, inputs.encoder, prefixes, moments)


def _coordinates(second_moment: Tensor | None, layer: int, options: MemitOptions) -> Coordinates:
    if second_moment is None:
        return Identity()
    if options.null_space:
        return NullSpace.of(second_moment, options.threshold, layer)
    return Whitening.of(second_moment, layer)
