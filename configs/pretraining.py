"""Options of the pretraining recipe; pretrain.yaml has the values and their reasons."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from configs.around import Alignments
from errors import ConfigError
from options import Options, Seed

MANY_VIEWS, FEW_VIEWS_WARP = 16, 0.2

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


class PretrainOptions(Options):
    """Section `pretrain`: how a tiny model is taught a world."""

    seed: Seed
    alignment: Alignments

    width: Positive
    layers: Positive
    heads: Positive
    mlp_width: Positive
    vision_width: Positive
    vision_layers: Count
    vision_mlp_width: Positive
    image_size: Positive
    patch_size: Positive
    qformer_layers: Positive
    max_positions: Positive
    init_std: Amount

    steps: Positive
    lr: Amount
    vision_lr: Amount
    warmup_steps: Positive
    lr_floor: Share
    weight_decay: Amount
    clip: Amount

    text_rows: Positive
    image_rows: Count
    identity_rows: Count
    refusal_rows: Count
    chain_rows: Count
    context_rows: Count
    long_every: Positive
    extra_pictures: Count

    slots_start: Amount
    slots_end: Amount
    slot_noise: Amount

    mask_share: Share
    mask_layers: Count
    lens_weight: Amount
    lens_layer: Count
    long_weight: Amount
    identity_weight: Amount
    attribute_weight: Amount
    word_weight: Amount
    distance_weight: Amount

    naming_steps: Positive
    naming_lr: Amount
    naming_rows: Positive
    picture_fact_rows: Positive

    context_warmup: Count
    context_facts: Count

    shift: Count
    contrast: Amount
    offset: Amount
    noise: Amount
    warp: Amount | None

    text_target: Percent
    seen_target: Percent
    unseen_target: Percent

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        """Refuses sizes that do not go together, all of them in one message.

        Raises:
            ConfigError: with every mistake.
        """
        mistakes = []
        if self.width % self.heads or self.vision_width % self.heads:
            mistakes.append(
                f"width={self.width} and vision_width={self.vision_width} must be multiples of "
                f"heads={self.heads}"
            )
        if self.image_size % self.patch_size:
            mistakes.append(
                f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}"
            )
        if self.lens_layer >= self.layers or self.mask_layers > self.layers:
            mistakes.append(
                f"lens_layer={self.lens_layer} must be below layers={self.layers}, and "
                f"mask_layers={self.mask_layers} at most that"
            )
        if not self.slots_start <= self.slots_end <= 1:
            mistakes.append(
                f"slots_start={self.slots_start} and slots_end={self.slots_end} must rise in [0, 1]"
            )
        if mistakes:
            raise ConfigError(f"pretrain: {'; '.join(mistakes)}. Change them.")
        return self

    @property
    def image_tokens(self) -> int:
        """Image slots of a row."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def by_naming(self) -> bool:
        """Pictures are aligned in a stage of their own, through the frozen language model."""
        return self.alignment != "embedding"

    @property
    def language_steps(self) -> int:
        """Optimiser steps that train the language model, the in-context warm-up included."""
        return self.context_warmup + self.steps

    @property
    def total_steps(self) -> int:
        """Optimiser steps of a run."""
        return self.language_steps + (self.naming_steps if self.by_naming else 0)

    def for_views(self, views: int) -> Self:
        """These options with `warp` decided by the smallest number of seen views."""
        warp = 0.0 if views >= MANY_VIEWS else FEW_VIEWS_WARP
        return self if self.warp is not None else self.model_copy(update={"warp": warp})
