"""Options of MEND (Mitchell et al., 2022); configs/editor/mend.yaml has values and sources."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from editors.options import TrainedEditorOptions


class MendOptions(TrainedEditorOptions):
    """Editor networks that turn a fine-tuning gradient's rank-one factors into an edit.

    Attributes:
        lr: Adam's step size for the networks.
        edit_lr: initial value of the learned step size of an edit, one per edited matrix.
        lr_of_edit_lr: Adam's step size for `edit_lr`, its own parameter group.
        layers: number of last decoder layers whose MLP is edited.
        rank: width of the networks' bottleneck, at most the width of their input.
        n_hidden: hidden layers, so that a network has n_hidden + 1 of them.
        init: `id` starts as the identity, `xavier` without skip connection.
        v_init_std: standard deviation of the down-projection V at init `id`.
        combine: one network over [x; delta] instead of one for each.
        shared: one network for all matrices of the same shape.
        normalise: divide by running statistics of x and delta.
        sign: `published` adds edit_lr * gradient factors, `descent` subtracts.
    """

    training_only: ClassVar[frozenset[str]] = TrainedEditorOptions.training_only | {
        "lr", "edit_lr", "lr_of_edit_lr", "v_init_std",
    }  # fmt: skip
    sequential: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {"objective": "questions"}

    name: Literal["mend"]
    lr: float = Field(gt=0)
    edit_lr: float = Field(gt=0)
    lr_of_edit_lr: float = Field(ge=0)
    layers: int = Field(ge=1)
    rank: int = Field(ge=1)
    n_hidden: int = Field(ge=0)
    init: Literal["id", "xavier"]
    v_init_std: float = Field(gt=0)
    combine: bool
    shared: bool
    normalise: bool
    sign: Literal["published", "descent"]
