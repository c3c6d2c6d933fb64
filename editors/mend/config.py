"""Options of MEND (Mitchell et al., 2022); configs/editor/mend.yaml has values and sources."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from editors.options import SiteOptions, TrainedEditorOptions
from models.sites import MLP_ROLES


class MendOptions(SiteOptions, TrainedEditorOptions):
    """Editor networks that turn a fine-tuning gradient's rank-one factors into an edit."""

    training_only: ClassVar[frozenset[str]] = TrainedEditorOptions.training_only | {
        "lr", "edit_lr", "lr_of_edit_lr", "v_init_std",
    }  # fmt: skip
    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    rates: ClassVar[frozenset[str]] = frozenset(("lr", "lr_of_edit_lr"))
    renamed: ClassVar[Mapping[str, str]] = {"objective": "questions"}
    added: ClassVar[Mapping[str, Any]] = {
        **TrainedEditorOptions.added, **SiteOptions.added, "matrices": [*MLP_ROLES],
    }  # fmt: skip

    name: Literal["mend"]
    lr: float = Field(gt=0)
    edit_lr: float = Field(gt=0)
    lr_of_edit_lr: float = Field(ge=0)
    rank: int = Field(ge=1)
    n_hidden: int = Field(ge=0)
    init: Literal["id", "xavier"]
    v_init_std: float = Field(gt=0)
    combine: bool
    shared: bool
    normalise: bool
    sign: Literal["published", "descent"]
