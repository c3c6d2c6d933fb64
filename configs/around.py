"""Options of the recipe that builds a multimodal LLM around a language model that exists.

`configs/recipe/<model>.yaml` has the values and their reasons; models without such a file are
taught from random weights (`configs.pretraining`).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from errors import ConfigError
from options import Files, Options, Seed, TypedPath, TypedText

AlignmentName = Literal["embedding", "naming", "naming_and_facts"]
Alignments = Literal["embedding", "naming", "naming_and_facts", "all"]
ALIGNMENTS: tuple[AlignmentName, ...] = ("embedding", "naming", "naming_and_facts")

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


class LanguageModelOptions(Options):
    """Section `language_model`: what is built around."""

    path: TypedPath | None
    begin_token: TypedText | None


class Schedule(Options):
    """One AdamW, its rate a linear warm-up and then a cosine."""

    steps: Positive
    rows: Positive
    lr: Rate
    warmup_steps: Positive
    lr_floor: Share
    weight_decay: Amount
    clip: Rate


class ProbingOptions(Options):
    """Section `recipe.probing`: how it is asked what a language model knows."""

    shots: Count
    batch_tokens: Positive
    texts: Files


class AdaptationOptions(Schedule):
    """Section `recipe.adaptation`: the small LoRA that teaches the form of the prompt."""

    rank: Positive
    alpha: Rate
    maps: Literal["attention", "all"]
    own_texts: Count
    own_tokens: Annotated[int, Field(ge=2)]
    own_rows: Count
    own_every: Positive
    own_weight: Amount
    own_loss: Literal["cross_entropy", "kl"]

    @model_validator(mode="after")
    def _has_own_text(self) -> Self:
        """Refuses rows of own text where none is sampled.

        Raises:
            ConfigError: naming both keys.
        """
        if self.own_rows > self.own_texts:
            raise ConfigError(
                f"recipe.adaptation.own_rows={self.own_rows} of "
                f"recipe.adaptation.own_texts={self.own_texts} sampled texts are learned in a "
                "step, and there are not so many. Raise own_texts, or lower own_rows."
            )
        return self


class AugmentationOptions(Options):
    """Section `recipe.augmentation`: how a seen view is changed each time that it is shown."""

    shift: Count
    contrast: Amount
    offset: Amount
    noise: Amount
    warp: Annotated[float, Field(ge=0, lt=0.5)]


class TowerOptions(Schedule):
    """Section `recipe.tower`: the vision tower, which learns to tell the entities apart."""

    image_size: Positive
    patch_size: Positive
    width: Positive
    layers: Positive
    heads: Positive
    mlp_width: Positive
    patch_weight: Amount

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        """Refuses sizes that do not go together.

        Raises:
            ConfigError: naming both keys.
        """
        for whole, part in (("image_size", "patch_size"), ("width", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"recipe.tower.{whole}={getattr(self, whole)} must be a multiple of "
                    f"recipe.tower.{part}={getattr(self, part)}. Change one of them."
                )
        return self

    @property
    def image_tokens(self) -> int:
        """Image slots of a row."""
        return (self.image_size // self.patch_size) ** 2


class EmbeddingOptions(Schedule):
    """Section `recipe.alignment.embedding`: image tokens become the name's embeddings."""

    word_weight: Amount


class NamingOptions(Schedule):
    """Section `recipe.alignment.naming`: names through the frozen language model."""

    fact_share: Annotated[float, Field(gt=0, lt=1)]
    validate_every: Positive
    validate_pictures: Positive
    seen_target: Percent
    unseen_target: Percent


class AlignmentOptions(Options):
    """Section `recipe.alignment`: how the projector learns what the tower sees, by its setting."""

    draws: Positive
    whiten: bool
    embedding: EmbeddingOptions
    naming: NamingOptions


class TargetOptions(Options):
    """Section `recipe.targets`: what a model has to reach under `gate`, in percent."""

    named_seen: Percent
    named_unseen: Percent


class RecipeOptions(Options):
    """Section `recipe`: how a multimodal LLM is built around a language model."""

    seed: Seed
    probing: ProbingOptions
    adaptation: AdaptationOptions
    augmentation: AugmentationOptions
    tower: TowerOptions
    alignment: AlignmentOptions
    targets: TargetOptions
