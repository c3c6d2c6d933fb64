"""ROME (Meng et al., Locating and Editing Factual Associations in GPT, NeurIPS 2022).

The second matrix of one MLP is read as a memory: the subject's last token gives the key k*, and a
rank-one update makes the memory answer with v*, the value under which the model says the new
object. B edits are B factor pairs; no weight is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.base import DeltaEdit, EditorInputs
from editors.rome.config import RomeOptions
from editors.rome.moments import load_second_moment
from editors.rome.prompts import check_prefixed, mean_keys, prompts_in_parts, sample_prefixes
from editors.rome.update import factored, rank_one, unit_direction
from editors.rome.values import Prompts, Values, optimise
from models.context import rest
from models.deltas import LowRankDelta, Site
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, Rows, RowText


class Rome:
    """One rank-one update per edit.

    Args:
        prefixes: texts before the prompt that k* and v* are averaged over.
        second_moment: C (d_in, d_in) of the edited matrix's inputs, or None for the identity.
    """

    name = "rome"

    def __init__(
        self,
        options: RomeOptions,
        encoder: PromptEncoder,
        prefixes: Sequence[str] = (),
        second_moment: Tensor | None = None,
    ) -> None:
        self.options, self.encoder, self.prefixes = options, encoder, tuple(prefixes)
        self.site = Site(options.layer, "mlp_out")
        # Factored once: C of a real model has thousands of rows.
        self.second_moment = None if second_moment is None else factored(second_moment)

    def first_layer(self, model: EditableModel) -> int:
        """The edited layer."""
        return self.site.layer

    def check_lengths(self, edit: Sequence[RowText], asked: Sequence[RowText]) -> None:
        """Refuses an edit whose question, behind a prefix, the model could not read.

        Raises:
            DataError: naming the prefix, the question and its tokens.
        """
        check_prefixed(self.encoder, self.prefixes, edit)

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One factor pair per edit.

        Raises:
            DataError: an edit prompt does not contain its subject, or is too long for the model.
            ModelError: an optimisation's loss is not finite.
        """
        in_parts = prompts_in_parts(
            model, batch, self.encoder, self.prefixes, self.options, self.site.layer
        )
        parts = [self._update(model, rows, prompts) for _, rows, prompts in in_parts]
        delta = LowRankDelta(
            torch.cat([part.inputs for part in parts]), torch.cat([part.outputs for part in parts])
        )
        return DeltaEdit({self.site: delta})

    def _update(self, model: EditableModel, rows: Rows, prompts: Prompts) -> LowRankDelta:
        # Nothing changes before the lookup token, and nothing after an answer's last is looked at.
        state, cut = rest(model, rows, self.site.layer, prompts.lookup, prompts.last)
        prompts = prompts.without(cut)
        values = Values(model, state, self.site, prompts, self.options)
        v_star = values.v_0 + optimise(values)
        rewriting, plain = prompts.rewriting, prompts.plain
        lookup = prompts.lookup[rewriting]
        k_star = mean_keys(model, state, self.site, rewriting, lookup, prompts.n_edits)
        k, output = model.read(state, self.site, plain, prompts.lookup[plain])
        u = unit_direction(k_star, self.second_moment)
        return rank_one(u, k.to(u), output.to(u), v_star)


def build(options: RomeOptions, model: EditableModel, inputs: EditorInputs) -> Rome:
    """The editor that the options describe; writes the prefixes, reads the second moment.

    Raises:
        ModelError: the second moment is another model's.
    """
    second_moment = None
    if options.second_moment is not None:
        second_moment = load_second_moment(options.second_moment, model, options.layer)
    prefixes = sample_prefixes(model, inputs.encoder, options.contexts, options.seed)
    return Rome(options, inputs.encoder, prefixes, second_moment)
