"""The gradient that an edit begins with, as factor pairs of the tokens that have one.

    dL/dW = sum_t g_t k_t^T

over the tokens t of the rows that teach an edit: k_t is what enters a linear map there (the key),
g_t the gradient of the edit's own loss at its output (the value gradient). MEND takes the pairs of
all tokens, the editors that solve for an update those of the tokens that predict the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editors.turn import Turn
from errors import ModelError
from models.budget import layer_values, logit_bytes
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.factors import Factors
from models.finite import check_own_logits, number_type, question_at, remedy
from models.rows import EditBatch


@dataclass(frozen=True)
class EditTokens:
    """What the tokens of some edits say at one linear map; tokens that say nothing are left out.

    Attributes:
        keys: K (T, d_in).
        gradients: G (T, d_out).
        edit: (T,) the edit of each token, ascending.
    """

    keys: Tensor
    gradients: Tensor
    edit: Tensor

    def __len__(self) -> int:
        return len(self.edit)

    @classmethod
    def of(cls, factors: Factors) -> EditTokens:
        """Those of padded factors."""
        alive = factors.mask & surviving(factors.x, factors.delta)  # (E, n)
        edit, token = alive.nonzero(as_tuple=True)
        return cls(factors.x[edit, token], factors.delta[edit, token], edit)


def teaching_factors(
    editor: str,
    model: EditableModel,
    sites: Sequence[Site],
    batch: EditBatch,
    state: PrefixState,
    *,
    answers_only: bool = False,
) -> dict[Site, Factors]:
    """Factors of the gradients that B single edits begin with, each those that it has alone.

    Args:
        editor: its name, for errors.
        model: the base model.
        sites: the maps.
        batch: the edits.
        state: the base model's state for all rows of the batch, at or below the lowest site.
        answers_only: those of the tokens that predict the answer alone.

    Raises:
        ModelError: the model's logits, or the gradients of its loss, are no numbers.
    """
    rows = batch.rows.select(batch.edit_rows)
    at, edit = rows.answers(), rows.edit_index
    factors, logits = model.capture(
        state.select(batch.edit_rows), sites, at, edit=edit, answers_only=answers_only
    )
    if not _are_finite(factors):  # asked first: the device is waited for once a step
        check_own_logits(model, logits.amax(-1), question_at(rows.questions, at))
        raise ModelError(
            f"the gradients that {editor.upper()} makes edits from are not finite, though the "
            f"model's logits are; {number_type(model)}. {remedy(model)}"
        )
    return factors


def capture_bytes(model: EditableModel, batch: EditBatch, lowest: int) -> int:
    """Bytes of a capture's graph over the rows that teach a batch, and of their logits.

    Args:
        model: the base model.
        batch: the edits.
        lowest: the lowest layer of a captured map.
    """
    tokens = batch.rows.attention_mask[batch.edit_rows].numel()
    values = (model.n_layers - lowest) * layer_values(model.hf.config.get_text_config())
    logits = 2 * logit_bytes(model, answer_count(batch))
    return tokens * values * model.dtype.itemsize + logits


def answer_count(batch: EditBatch) -> int:
    """Answer tokens of the rows that teach a batch."""
    return int(batch.rows.answer_mask[batch.edit_rows].sum())


def answer_tokens(
    editor: str,
    model: EditableModel,
    sites: Sequence[Site],
    batch: EditBatch,
    state: PrefixState,
) -> dict[Site, EditTokens]:
    """Keys and value gradients of the tokens that predict the answers of B single edits.

    Args: as of `teaching_factors`.
    """
    factors = teaching_factors(editor, model, sites, batch, state, answers_only=True)
    return {site: EditTokens.of(of_site) for site, of_site in factors.items()}


def turn_tokens(
    editor: str, model: EditableModel, sites: Sequence[Site], turn: Turn
) -> dict[Site, EditTokens]:
    """The same of all edits of a turn, part by part; edits are counted through."""
    parts, n_edits = list[Mapping[Site, EditTokens]](), 0
    for batch, state in turn:
        of_part = answer_tokens(editor, model, sites, batch, state)
        parts.append(
            {s: EditTokens(t.keys, t.gradients, t.edit + n_edits) for s, t in of_part.items()}
        )
        n_edits += len(batch)
    return {
        site: EditTokens(
            torch.cat([part[site].keys for part in parts]),
            torch.cat([part[site].gradients for part in parts]),
            torch.cat([part[site].edit for part in parts]),
        )
        for site in sites
    }


def largest(x: Tensor, delta: Tensor) -> Tensor:
    """The largest number in each factor of a token, either sign: one look at all of them.

    Zero where a factor says nothing, and no finite number where one of its numbers is none.

    Args:
        x: (..., d_in).
        delta: (..., d_out).

    Returns:
        (2, ...).
    """
    return torch.stack([side.abs().amax(-1).to(x.dtype) for side in (x, delta)])


def surviving(x: Tensor, delta: Tensor) -> Tensor:
    """True on tokens that say something: (..., d_in), (..., d_out) -> (...).

    Tokens with an all-zero input or gradient are left out: padding, and in the last layer's MLP
    every token that predicts no answer.
    """
    return (largest(x, delta) != 0).all(0)


def _are_finite(factors: Mapping[Site, Factors]) -> bool:
    """Whether all factors are; infinite ones would stay in the statistics of an editor for good."""
    finite = [(largest(of.x, of.delta).isfinite() | ~of.mask).all() for of in factors.values()]
    return bool(torch.stack(finite).all())
