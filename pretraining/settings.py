"""Every number of the pretraining recipe, with its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from errors import ConfigError

MANY_VIEWS, FEW_VIEWS_WARP = 16, 0.2


@dataclass(frozen=True)
class PretrainSettings:
    """How a tiny model is taught a world; the defaults are the recipe of the shipped models.

    Size. Two images of 16 x 16 pixels a side make four image tokens: enough for the drawings, and
    an image row is hardly longer than a text row.

    Attributes:
        width, layers, heads, mlp_width: of the language model.
        vision_width, vision_layers, vision_mlp_width: of the vision tower (same number of heads).
        image_size, patch_size: pixels.
        qformer_layers: of the Q-Former of blip2 and minigpt4, whose four queries make the image
            tokens; llava has none.
        max_positions: tokens; room for 32 demonstrations or a long benchmark question.
        init_std: of all weights of the language model. 0.05 with tied embeddings learns the facts
            in a third of the steps that 0.02 needs.

        steps: optimiser steps after the in-context warm-up.
        lr, vision_lr: peak rates of the language model and of everything that sees pictures.
        warmup_steps, lr_floor: linear warm-up, then one cosine down to this share of the rate.
        weight_decay, clip: AdamW (0.9, 0.98); gradient norms are clipped apart for both halves.

        text_rows, image_rows, identity_rows, refusal_rows: rows of a step's short batch: one-hop
            questions by name, by picture, names of pictures, and questions that do not fit the
            subject ("Sorry, there is no company in the image"; half by name, half by picture).
        chain_rows, context_rows: rows of a step's long batch: two-hop questions worked out in
            steps (train and val entities only) and facts stated in the context; a third of the
            latter asks back several facts stated at once.
        long_every: the long batch comes in every so many steps.
        extra_pictures: pictures of random entities that only the vision losses see.

        slots_start, slots_end: shares of the run between which picture features take the place of
            the noisy name embeddings that fill the image slots at first.
        slot_noise: largest noise on them, in standard deviations of the embeddings.

        mask_share, mask_layers: in this share of the one-hop text rows nothing after the subject
            sees the subject's tokens in the lowest layers, and only its last token above them.
            Training only: it makes the facts live at the subject's last token.
        lens_weight, lens_layer: weight of the auxiliary loss that reads all of a subject's facts
            with the output head at its last token, after this layer (counted from 0).
        long_weight: weight of the long batch's loss.
        identity_weight, attribute_weight, word_weight, distance_weight: of the vision losses.

        context_warmup: steps before the others that train in-context copying alone; copying does
            not appear when it is mixed in from the start. 500 reach four facts at once, 200 two.
        context_facts: largest number of demonstrations in a training row; IKE shows this model
            four, a copy of the edit, and the edit.

        shift, contrast, offset, noise: picture augmentation: pixels, relative, 8-bit levels (two).
        warp: shrinks, shears and waves most pictures in front of a plain background, by up to this
            share of their size. None: 0 where every entity has `MANY_VIEWS` seen views, which vary
            enough by themselves, else `FEW_VIEWS_WARP`.

        seed: of initialisation and sampling.
        text_target, seen_target, unseen_target: percent, the gate after training.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_width: int = 512
    vision_width: int = 128
    vision_layers: int = 3
    vision_mlp_width: int = 256
    image_size: int = 32
    patch_size: int = 16
    qformer_layers: int = 2
    max_positions: int = 2048
    init_std: float = 0.05

    steps: int = 1300
    lr: float = 2.5e-3
    vision_lr: float = 3e-3
    warmup_steps: int = 50
    lr_floor: float = 0.03
    weight_decay: float = 0.05
    clip: float = 1.0

    text_rows: int = 26
    image_rows: int = 26
    identity_rows: int = 6
    refusal_rows: int = 4
    chain_rows: int = 20
    context_rows: int = 24
    long_every: int = 2
    extra_pictures: int = 36

    slots_start: float = 0.3
    slots_end: float = 0.5
    slot_noise: float = 0.5

    mask_share: float = 0.8
    mask_layers: int = 2
    lens_weight: float = 0.3
    lens_layer: int = 1
    long_weight: float = 1.0
    identity_weight: float = 1.0
    attribute_weight: float = 1.0
    word_weight: float = 1.0
    distance_weight: float = 1.0

    context_warmup: int = 500
    context_facts: int = 6

    shift: int = 2
    contrast: float = 0.15
    offset: float = 12.0
    noise: float = 8.0
    warp: float | None = None

    seed: int = 0
    text_target: float = 99.0
    seen_target: float = 97.0
    unseen_target: float = 95.0

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built, all of them in one message.

        Raises:
            ConfigError: with every mistake found.
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
        if not 0 <= self.lens_layer < self.layers or not 0 <= self.mask_layers <= self.layers:
            mistakes.append(
                f"lens_layer={self.lens_layer} must be below layers={self.layers}, and "
                f"mask_layers={self.mask_layers} at most that"
            )
        if not 0 <= self.slots_start <= self.slots_end <= 1:
            mistakes.append(
                f"slots_start={self.slots_start} and slots_end={self.slots_end} must rise in [0, 1]"
            )
        at_least_one = ("steps", "text_rows", "long_every", "qformer_layers")
        small = [f"{name}={value}" for name in at_least_one if (value := getattr(self, name)) < 1]
        if small:
            mistakes.append(f"{', '.join(small)} must be at least 1")
        if mistakes:
            raise ConfigError(f"pretraining settings: {'; '.join(mistakes)}. Change them.")

    @property
    def image_tokens(self) -> int:
        """Image slots of a row."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def total_steps(self) -> int:
        """Optimiser steps of a run, the in-context warm-up included."""
        return self.context_warmup + self.steps

    def for_views(self, views: int) -> PretrainSettings:
        """These settings with `warp` decided by the smallest number of seen views."""
        if self.warp is not None:
            return self
        return replace(self, warp=0.0 if views >= MANY_VIEWS else FEW_VIEWS_WARP)

    def as_dict(self) -> dict[str, int | float | None]:
        """Plain values, for hyperparameters and the manifest."""
        return asdict(self)
