"""Options of SERAC (Mitchell et al., 2022); configs/editor/serac.yaml has values and sources."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from editors.encoders import encoder_folder
from editors.options import BaseFacts, TrainedEditorOptions
from editors.serac.published import AUTO, FRESH, published_counterfactual, published_encoder
from options import Options, TypedPath


class Sizes(Options):
    """A small transformer of the base's width, of random weights over the base's embeddings."""

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_width: int = Field(ge=8)
    init_std: float = Field(gt=0)


class ScopeOptions(Options):
    """The scope classifier."""

    encoder: TypedPath
    mode: Literal["embedding", "cross_attention"]
    pooling: Literal["cls", "mean"]
    distance: Literal["square", "l2", "cos"]
    bound: bool
    heads: int = Field(ge=1)
    scale: float = Field(gt=0)
    learn_scale: bool
    image: bool
    threshold: float = Field(gt=0, lt=1)
    sizes: Sizes

    @model_validator(mode="after")
    def _pictures_need_embeddings(self) -> "ScopeOptions":
        if self.image and self.mode == "cross_attention":
            raise ValueError(
                "image=true joins a picture to an embedding, and mode=cross_attention has none; "
                "set mode=embedding or image=false"
            )
        return self


class CounterfactualOptions(Options):
    """The counterfactual model."""

    path: TypedPath
    sizes: Sizes


class NegativesOptions(Options):
    """Hard negatives of the objective `supervised`: questions about other subjects."""

    share: float | None = Field(ge=0, le=1)
    per_edit: int = Field(ge=1)
    encoder: TypedPath
    top: int = Field(ge=2)
    skip: int = Field(ge=0)
    temperature: float = Field(gt=0)


class SeracOptions(TrainedEditorOptions):
    """A memory of edits, a classifier of what they bear on, and a small model that answers then."""

    training_only: ClassVar[frozenset[str]] = TrainedEditorOptions.training_only | {
        "objective", "lr", "counterfactual_lr", "combine", "negatives",
        "scope.threshold", "scope.encoder", "counterfactual.path",
    }  # fmt: skip
    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    asks_longer: ClassVar[bool] = True
    rates: ClassVar[frozenset[str]] = frozenset(("lr", "counterfactual_lr"))

    name: Literal["serac"]
    objective: Literal["mixture", "supervised"]
    lr: float = Field(gt=0)
    counterfactual_lr: float = Field(gt=0)
    combine: Literal["soft", "hard"]
    scope: ScopeOptions
    counterfactual: CounterfactualOptions
    negatives: NegativesOptions

    @model_validator(mode="after")
    def _supervised_needs_others(self) -> "SeracOptions":
        if self.objective == "supervised" and not self.weights.locality:
            raise ValueError(
                "objective=supervised needs questions out of scope: give weights.locality a "
                "positive value, the weight of the scope's loss"
            )
        return self

    def lowest_layer(self, n_layers: int) -> int:
        """The last one, as no layer is edited."""
        return n_layers - 1

    def check_training(self) -> None:
        """Makes sure that the encoder of hard negatives is on disk.

        Raises:
            ModelError: it is not, and cannot be downloaded.
        """
        if self.objective == "supervised" and self.negatives.share is not None:
            encoder_folder(self.negatives.encoder, key="editor.negatives.encoder")

    def check_base(self, base: BaseFacts) -> None:
        """Makes sure that the networks beside the base are on disk, `auto` ones too.

        Raises:
            ModelError: one is not, and cannot be downloaded.
        """
        super().check_base(base)
        encoder, model = self.scope.encoder, self.counterfactual.path
        if encoder == AUTO:
            encoder = published_encoder(base.kind, base.vocabulary)
        if model == AUTO:
            model = published_counterfactual(base.kind, base.vocabulary)
        if encoder != FRESH:
            encoder_folder(encoder, key="editor.scope.encoder")
        if model != FRESH:
            encoder_folder(model, key="editor.counterfactual.path")
