"""FT: gradient descent on the edit's own answer, for linear maps of some layers.

    D_e <- argmin NLL(answer_e | question_e; W + D_e),  one dense delta per edit and matrix

An edit that several questions teach descends on the mean of their NLL. Many edits in one update
share one delta per matrix, which descends on the mean over the edits; breadth first it takes a step
for each mini-batch of them, epoch after epoch (LocFT-BF; `editors.together`).

With `tie` the change in text is tied to the one about a picture (`editors.ft.tie`).

FT-L (Meng et al. 2022; Zhu et al. 2020) clips D_e to |D_e| <= eps elementwise after every step.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.ft.config import FtOptions
from editors.ft.descent import fit_matrices, fit_matrices_together
from editors.ft.matrices import Rule
from editors.teaching import Teaching
from editors.together import Minibatches
from editors.turn import Turn
from errors import ModelError
from metrics.precision import single
from models.deltas import Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch


class FineTune:
    """Fine-tunes some matrices, every edit by itself or all edits of a turn together."""

    name = "ft"

    def __init__(self, options: FtOptions) -> None:
        self.options = options

    def sites(self, model: EditableModel) -> list[Site]:
        """The edited matrices: of `layers` layers that end with `layer`."""
        options = self.options
        highest = model.n_layers - 1 if options.layer is None else options.layer
        above = model.n_layers - 1 - highest
        sites = model.last_sites(options.layers + above, options.matrices)
        return [site for site in sites if site.layer <= highest]

    def first_layer(self, model: EditableModel) -> int:
        """The lowest edited layer."""
        return self.sites(model)[0].layer

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """The deltas in float32, twice while they are put together."""
        sites = self.sites(model)
        return len(batch) * 2 * 4 * sum(prod(linear_shape(model.linear(site))) for site in sites)

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One dense delta per edit and matrix.

        Raises:
            ModelError: an edit's loss is not finite; or a tie is asked for in half precision.
        """
        check_precision(self.options, model)
        sites, teaching = self.sites(model), self._teaching(batch, state)
        return DeltaEdit(fit_matrices(model, teaching, sites, self.options, self._rule))

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> DeltaEdit:
        """One dense delta per matrix, on the mean over the edits or mini-batches of their losses.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        check_precision(self.options, model)
        sites, options = self.sites(model), self.options
        size = options.minibatch if options.breadth_first else None
        answers = Minibatches(model, turn, self._teaching, sites, size=size, apart=True)
        return DeltaEdit(fit_matrices_together(model, answers, sites, options, self._rule))

    @property
    def _rule(self) -> Rule:
        options = self.options
        return Rule(options.lr, options.weight_decay, options.decoupled, options.norm_constraint)

    def _teaching(self, batch: EditBatch, state: PrefixState) -> Teaching:
        """The rows that teach, with their answers where the loss looks at them."""
        teaching = Teaching.of(batch, state)
        if self.options.loss_at == "answer":
            return teaching
        return replace(teaching, at=at_prompt_end(teaching.at))


def check_precision(options: FtOptions, model: EditableModel) -> None:
    """Refuses a tie on a model whose numbers are too coarse for it.

    In half precision what an early step changes is smaller than the last digit of the states whose
    difference it is, and the tie would follow the rounding.

    Raises:
        ModelError: the options have a tie, and the model is in half precision.
    """
    if options.ties_picture and single(model.dtype) != model.dtype:
        raise ModelError(
            f"editor.tie={options.tie} on a model in {str(model.dtype).removeprefix('torch.')}: "
            "what an edit changes is smaller there than the rounding of what it is compared in. "
            "Set model.dtype=float32, or editor.tie=null."
        )


def at_prompt_end(at: Answers) -> Answers:
    """The same answer tokens, all predicted at the last token before the answer."""
    return replace(at, position=at.prompt_end[at.row])


def build(options: FtOptions, model: EditableModel, inputs: EditorInputs) -> FineTune:
    """The editor; its options are all that it needs."""
    return FineTune(options)
