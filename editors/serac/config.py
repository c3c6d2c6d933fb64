"""Options of SERAC (Mitchell et al., 2022); configs/editor/serac.yaml has values and sources."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from editors.encoders import encoder_folder
from editors.options import BaseFacts, TrainedEditorOptions
from editors.serac.published import AUTO, FRESH, published_counterfactual, published_encoder
from options import Options


class Sizes(Options):
    """A small transformer of the base's width, of random weights over the base's embeddings."""

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_width: int = Field(ge=8)
    init_std: float = Field(gt=0)


class ScopeOptions(Options):
    """The scope classifier.

    Attributes:
        encoder: name, folder or hub repository of a DistilBERT-type encoder; `fresh`; or `auto`:
            distilbert-base-cased for a base of the published experiments, else a fresh one.
        mode: `embedding` compares two embeddings, `cross_attention` reads entry and query at once.
        pooling: `cls` or `mean` over tokens (embedding mode).
        distance: `square`, `l2` or `cos` (embedding mode).
        bound: tanh on the embeddings before they are compared.
        heads: parts of the embedding that are compared apart; the most alike decides.
        scale: factor of the distance; published 1.
        learn_scale: whether it is trained.
        image: whether a picture takes part: its pooled features are projected and added.
        threshold: scope probability above which a hard decision fires.
        sizes: of a `fresh` encoder.
    """

    encoder: str
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
    """The counterfactual model.

    Attributes:
        path: folder or hub repository of a causal LM with the base's vocabulary; `fresh`; or
            `auto`: OPT-125M for a base with OPT's vocabulary, LLaMA-160M for one with LLaMA's, a
            fresh one for any other.
        sizes: of a `fresh` model.
    """

    path: str
    sizes: Sizes


class NegativesOptions(Options):
    """Hard negatives of the objective `supervised`: questions about other subjects.

    Attributes:
        share: steps that draw hard ones; the others draw any. None: no such negatives.
        per_edit: questions drawn for each edit.
        encoder: sentence encoder that says which are near the edit's question.
        top: so many nearest ones ...
        skip: ... without the very nearest, which may be paraphrases.
        temperature: of the draw among the rest, in units of cosine similarity.
    """

    share: float | None = Field(ge=0, le=1)
    per_edit: int = Field(ge=1)
    encoder: str
    top: int = Field(ge=2)
    skip: int = Field(ge=0)
    temperature: float = Field(gt=0)


class SeracOptions(TrainedEditorOptions):
    """A memory of edits, a classifier of what they bear on, and a small model that answers then.

    Attributes:
        objective: `mixture`, the outer loss on the soft mixture of both models, or `supervised`,
            the gold entry's NLL and balanced BCE of the scope.
        lr: Adam's rate of the scope classifier.
        counterfactual_lr: Adam's rate of the counterfactual model.
        combine: `soft` mixes both models' probabilities, `hard` takes one of them.
        scope: the classifier.
        counterfactual: the model.
        negatives: of `supervised`.
    """

    training_only: ClassVar[frozenset[str]] = TrainedEditorOptions.training_only | {
        "objective", "lr", "counterfactual_lr", "combine", "negatives",
        "scope.threshold", "scope.encoder", "counterfactual.path",
    }  # fmt: skip
    sequential: ClassVar[bool] = True

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
