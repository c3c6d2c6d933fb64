"""Logits that are no numbers: an error that says whose they are, and never a score.

    best(t) = max_v logits(t)_v        nan where one of them is; no answer where it is not finite

Two models that both say nan agree on every token, and an answer of nan is merely a wrong one:
either would look like a result. float16 ends at 65,504, weights may be damaged, an edit may
diverge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from errors import ModelError
from models.deltas import Site
from models.editable import EditableModel
from models.rows import Answers

Where = Callable[[int], str]  # index of an answer token -> what was asked there


def check_own_logits(model: EditableModel, best: Tensor, where: Where) -> None:
    """Refuses a model whose own logits, before an edit is made on it, are no numbers.

    Args:
        model: the base model.
        best: (N,) the largest logit of each answer token.
        where: says what was asked at one of them.

    Raises:
        ModelError: naming the first one, the model's number type and what to do.
    """
    if found := describe_nonfinite(best, where):
        raise ModelError(
            f"the model's own logits are {found}, before any edit is made; {number_type(model)}. "
            f"Nothing can be edited or scored there. {remedy(model)}"
        )


def question_at(questions: Sequence[str], at: Answers) -> Where:
    """What rows with these questions ask at each of their answer tokens."""
    return lambda index: repr(questions[int(at.row[index])])


def describe_nonfinite(best: Tensor, where: Where) -> str:
    """Which of the largest logits (N,) are no numbers, as part of a sentence; empty if none is."""
    broken = ~best.isfinite()
    if not bool(broken.any()):
        return ""
    indices = broken.nonzero().squeeze(1).tolist()
    value = best[indices[0]].item()
    return f"{value} at {len(indices)} of {len(best)} answer tokens, first at {where(indices[0])}"


def number_type(model: EditableModel) -> str:
    """The number type that a model computes in, as part of a sentence."""
    return f"the model computes in {str(model.dtype).removeprefix('torch.')}"


def remedy(model: EditableModel) -> str:
    """What to do about a model that gives no numbers."""
    if model.dtype == torch.float16:
        return (
            "Numbers in float16 end at 65,504, and larger ones become infinite: set "
            "model.dtype=bfloat16 or float32."
        )
    weight = model.linear(Site(0, "mlp_out")).get_parameter("weight")
    if not weight.is_floating_point():
        return (
            "Layers in 8 bits compute in float16 on a GPU, whatever model.dtype is, and numbers "
            "there end at 65,504: set model.quantise=4bit or null."
        )
    return (
        "Some of its weights are no numbers or far too large: `python -m models check` tells "
        "whether its files are whole; fetch or convert them again."
    )
