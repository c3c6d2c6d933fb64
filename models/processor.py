"""What turns words and pictures into a base model's inputs; checked before any weight is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from errors import ModelError
from models.chat import ChatForm
from models.families import Family, family_of
from models.files import check_files, check_needs
from models.folder import read_config
from models.pictures import image_token, open_pictures
from models.positions import UNLIMITED, max_positions
from models.tokenizer import load_tokenizer
from models.unreadable import PICTURES, UNREADABLE, WORDS, absent_files, reason

log = logging.getLogger(__name__)
_THINNEST = 100  # times as long as it is wide
NO_TOKEN = -1  # the slot id of a model whose vocabulary has no image token


@dataclass(frozen=True)
class Processor:
    """What turns words and pictures into a base model's inputs.

    Attributes:
        pixels: PIL image -> float tensor of one shape, (C, H, W) in every family but auto; can be
            pickled.
        image_slots: picture tokens per picture.
        image_token_id: the id that fills them; -1 where the vocabulary has none.
        before_bos: they come before BOS and not right after it.
        picture_ids: all tokens of a picture where the family puts others around and between its
            slots (model=auto); empty where there are none.
        max_positions: tokens that the language model reads at once.
        in_threads: whether threads may make `pixels` at the same time; not where the tokenizer has
            a part in it (model=auto).
    """

    tokenizer: PreTrainedTokenizerBase
    pixels: Callable[[Image.Image], Tensor]
    image_slots: int
    image_token_id: int
    chat: ChatForm | None = None
    before_bos: bool = False
    picture_ids: tuple[int, ...] = ()
    max_positions: int = UNLIMITED
    in_threads: bool = True


def load_processor(family: str, path: str, *, revision: str | None = None) -> Processor:
    """Loads tokenizer and image processor; light, so that data can be checked before weights load.

    Arguments as in `models.loading.load_model`.

    Raises:
        ModelError: a file is missing, or tokenizer, image processor and configuration do not
            belong together, or the folder is of another family.
    """
    check_files(path)
    config, entry = read_config(family, path, revision), family_of(family)
    check_needs(family, path)
    try:
        tokenizer = load_tokenizer(path, revision, config)
        images = entry.images and entry.images.from_pretrained(path, revision=revision or "main")
    except UNREADABLE as error:
        raise ModelError(
            f"model.path {path!r} has no usable tokenizer or image processor: {reason(error)}"
            f"{absent_files(path, *WORDS, *PICTURES)} Put those of this very model beside its "
            "weights."
        ) from error
    _check_tokenizer(tokenizer, config, entry, path)
    if entry.slots is None:
        form = open_pictures(path, revision, config, tokenizer)
        return Processor(
            tokenizer, form.pixels, form.slots, form.token, form.chat,
            picture_ids=form.ids, max_positions=max_positions(config), in_threads=False,
        )  # fmt: skip
    slots, token = entry.slots(config), _image_token(config)
    _check_slots(slots, path, revision)
    pixels = partial(_pixels, images)
    _check_size(pixels, config.vision_config.image_size, path)
    return Processor(
        tokenizer, pixels, slots, token, entry.chat, entry.before_bos,
        max_positions=max_positions(config),
    )  # fmt: skip


def _pixels(processor: Any, image: Image.Image) -> Tensor:
    """(C, H, W), as an image processor of transformers makes them."""
    if getattr(processor, "do_center_crop", False):
        image = _middle(image)
    return torch.as_tensor(processor(images=image, return_tensors="np")["pixel_values"][0])


def _middle(image: Image.Image) -> Image.Image:
    """What a square crop out of the middle can see of a long and thin picture.

    The whole of it would be enlarged first: 1 x 5,000 pixels to 3 GB for a side of 224.
    """
    most = _THINNEST * min(image.size)
    cuts = [max(0, (side - most) // 2) for side in image.size]  # the same at both ends
    if not any(cuts):
        return image
    (left, top), (width, height) = cuts, image.size
    return image.crop((left, top, width - left, height - top))


def _image_token(config: PretrainedConfig) -> int:
    token = image_token(config)
    return NO_TOKEN if token is None else token


def _check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, family: Family, path: str
) -> None:
    vocabulary, token = config.get_text_config().vocab_size, _image_token(config)
    problems = []
    if len(tokenizer) > vocabulary:
        problems.append(
            f"it has {len(tokenizer)} tokens and the language model reads {vocabulary}, so it "
            "belongs to another model"
        )
    ends = tokenizer.bos_token_id is not None and tokenizer.eos_token_id is not None
    if family.model_type is not None and not ends:
        problems.append("it has no BOS or no EOS token, and rows begin and end with them")
    known = 0 <= token < len(tokenizer)
    if family.image_token and not known:
        problems.append(
            f"it has no token of id {token}, which config.json names as the image token "
            "(image_token_index)"
        )
    if problems:
        raise ModelError(
            f"the tokenizer in {path!r} does not fit the model: {'; '.join(problems)}."
            f"{absent_files(path, *WORDS)} Put the tokenizer files of this very model beside its "
            "weights."
        )
    first = tokenizer("a")["input_ids"][0]
    if family.model_type is not None and first != tokenizer.bos_token_id:
        log.warning(
            "the tokenizer in %r puts no BOS (%s) in front, as the released models of this family "
            "do; rows are read without it. Look at add_bos_token in tokenizer_config.json.",
            path, tokenizer.bos_token,
        )  # fmt: skip


def _check_slots(slots: int, path: str, revision: str | None) -> None:
    """Compares the number of image tokens with what the folder says about it, where it does."""
    config, _ = PretrainedConfig.get_config_dict(path, revision=revision or "main")
    written = config.get("image_seq_length", slots)
    if written != slots:
        raise ModelError(
            f"config.json in {path!r} says image_seq_length={written}, and its vision tower gives "
            f"{slots} features per picture. One of them was changed: use the config.json that "
            "belongs to the weights."
        )


def _check_size(pixels: Callable[[Image.Image], Tensor], size: Any, path: str) -> None:
    expected = tuple(size) if isinstance(size, list | tuple) else (size, size)
    made = tuple(pixels(Image.new("RGB", (48, 36), "grey")).shape[-2:])
    if made != expected:
        raise ModelError(
            f"preprocessor_config.json in {path!r} makes pictures of {made[0]} x {made[1]} "
            f"pixels, and the vision tower looks at {expected[0]} x {expected[1]}. Use the "
            "preprocessor_config.json of this very model."
        )
