"""Pictures of a multimodal LLM that no class of this project knows: its own processor, one size.

Families cut pictures into crops or patches whose number follows the picture's size, and tell the
model of it (image_grid_thw, image_sizes, ...). Batches want one shape. So every picture is first
squashed to one square and then goes through the family's own processor: shape, number of tokens and
what is told besides are then the same for all, and are read off a blank picture once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

# transformers 5.17 exports an AutoImageProcessor that asks for torchvision; this one does not.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from errors import ModelError
from models.chat import ChatForm, chat_form
from models.own_processor import COUNTS, own_settings
from models.unreadable import PICTURES, UNREADABLE, WORDS, absent_files, reason

FILES = (*WORDS, *PICTURES, "processor_config.json")
FREE_SIDE = 448  # of the square where the vision tower takes any size (Qwen2-VL: 256 tokens)
_LARGEST = 1024  # a larger image_size is a bound (Pixtral: 1540) and no size
_ENDS = (
    ("vision_start_token_id", "vision_end_token_id"),
    ("image_start_token_id", "image_end_token_id"),
)
_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class PictureForm:
    """What a family makes of a square picture.

    Attributes:
        mark: stands for a picture in a text.
        side: of the square, in pixels.
        ids: the tokens of a picture, with those that the family puts around and between features.
        token: the one among them that features replace.
        inputs: name -> tensor that the model is told besides; the same for every picture.
        chat: the native prompt by the folder's chat template, None without one.
    """

    processor: Any
    mark: str
    side: int
    ids: tuple[int, ...]
    token: int
    shape: tuple[int, ...]
    inputs: Mapping[str, Tensor]
    chat: ChatForm | None = None

    @property
    def slots(self) -> int:
        return self.ids.count(self.token)

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture's tensor, of one shape for all: whatever the family's processor makes of it.

        Raises:
            ModelError: the shape is another one than that of the blank picture.
        """
        pixels = _processed(self.processor, self.mark, self.side, image)["pixel_values"]
        if tuple(pixels.shape) != self.shape:
            raise ModelError(
                f"the image processor made {tuple(pixels.shape)} of one picture and {self.shape} "
                "of another of the same size. model=auto needs one shape; use another model."
            )
        return pixels


def open_pictures(
    path: str,
    revision: str | None,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> PictureForm:
    """Opens a family's own processor and shows it a blank picture.

    Raises:
        ModelError: there is no processor, or it gives no tokens or no pixels for a picture.
    """
    token, side = image_token(config), side_of(config)
    if token is None:
        raise ModelError(
            f"{config.model_type!r} names no image token (image_token_id or image_token_index in "
            f"config.json of {path!r}), so pictures have no place in its prompts. model=auto needs "
            "a model that sees pictures as tokens."
        )
    processor = _load_processor(path, revision, config, tokenizer)
    mark = getattr(processor, "image_token", None) or tokenizer.convert_ids_to_tokens(token)
    try:
        output = _processed(processor, mark, side, Image.new("RGB", (side, side), "grey"))
        ids = tuple(output["input_ids"][0].tolist())
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"{type(processor).__name__} in {path!r} cannot process a picture of {side} x {side} "
            f"pixels: {reason(error)}{_unsaid(processor)}{absent_files(path, *FILES)} "
            "processor_config.json says how many tokens a picture takes, preprocessor_config.json "
            "its size: put both, and the tokenizer, of this very model beside its weights."
        ) from error
    if "pixel_values" not in output or token not in ids:
        raise ModelError(
            f"{type(processor).__name__} in {path!r} makes {sorted(output)} of a picture, with the "
            f"tokens {sorted(set(ids))}; model=auto needs pixel_values and image tokens ({token}). "
            "Use another model, or add a class (docs/add-a-model.md)."
        )
    inputs = {name: value for name, value in output.items() if name not in (*_TEXT, "pixel_values")}
    shape = tuple(output["pixel_values"].shape)
    start, end = _ends(ids, config)
    text = [*tokenizer.convert_ids_to_tokens(start), mark, *tokenizer.convert_ids_to_tokens(end)]
    return PictureForm(
        processor, mark, side, (*start, *ids, *end), token, shape, inputs,
        chat_form(processor, tokenizer, "".join(text)),
    )  # fmt: skip


def image_token(config: PretrainedConfig) -> int | None:
    """The id that a picture's features replace, None where there is none."""
    for name in ("image_token_id", "image_token_index"):
        token = getattr(config, name, None)
        if token is not None:
            return int(token)
    return None


def side_of(config: PretrainedConfig) -> int:
    """The side of the square that every picture is squashed to, in pixels.

    Raises:
        ModelError: config.json says something that is no number.
    """
    size = getattr(getattr(config, "vision_config", None), "image_size", None)
    if isinstance(size, list | tuple):
        size = max(size)
    if size is not None and not isinstance(size, int):
        raise ModelError(
            f"vision_config.image_size in config.json is {size!r}, and a number of pixels is "
            "needed. Use the config.json that belongs to the weights."
        )
    return int(size) if size and size <= _LARGEST else FREE_SIDE


def _load_processor(
    path: str, revision: str | None, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> Any:
    """The family's processor around this tokenizer, with image processing by PIL everywhere.

    AutoProcessor would also want the video processor, which needs torchvision.
    """
    if type(config) not in PROCESSOR_MAPPING:
        raise ModelError(
            f"transformers has no processor for model type {config.model_type!r}, so model=auto "
            "does not know how it sees pictures. Add a class (docs/add-a-model.md)."
        )
    family: type[ProcessorMixin] = PROCESSOR_MAPPING[type(config)]
    try:
        images = AutoImageProcessor.from_pretrained(
            path, revision=revision or "main", backend="pil"
        )
        parts = {"tokenizer": tokenizer, "image_processor": images}
        return _without_videos(family, parts).from_pretrained(path, revision=revision or "main")
    except ImportError as error:
        raise ModelError(
            f"{family.__name__}, which the model in {path!r} takes its pictures by, asks for a "
            f"package that is not installed: {reason(error)}"
        ) from error
    except UNREADABLE as error:
        raise ModelError(
            f"model.path {path!r} has no usable {family.__name__}: {reason(error)}"
            f"{absent_files(path, *FILES)} Put tokenizer, preprocessor_config.json and "
            "processor_config.json of this very model beside its weights."
        ) from error


def _without_videos(family: type[Any], parts: Mapping[str, Any]) -> type[Any]:
    """The processor's class, content with a tokenizer and an image processor."""

    class Pictures(family):
        @classmethod
        def _get_arguments_from_pretrained(cls, *_: Any, **__: Any) -> list[Any]:
            return [parts.get(name) for name in family.get_attributes()]

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument is not None:
                return super().check_argument_for_proper_class(argument_name, argument)
            return None

        def __reduce__(self) -> tuple[Any, ...]:
            """For another process, which has no such class yet."""
            return _rebuilt, (family, vars(self))

    Pictures.__name__ = family.__name__  # for messages, the library's own among them
    return Pictures


def _rebuilt(family: type[Any], state: Mapping[str, Any]) -> Any:
    """A processor that came from another process."""
    processor: Any = object.__new__(_without_videos(family, {}))
    vars(processor).update(state)
    return processor


def _processed(processor: Any, mark: str, side: int, image: Image.Image) -> dict[str, Tensor]:
    square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    output = processor(text=[mark], images=[square], return_tensors="np", add_special_tokens=False)
    return {name: torch.as_tensor(value) for name, value in output.items()}


def _unsaid(processor: Any) -> str:
    """A sentence, after a blank, about what processor_config.json leaves out; empty if nothing."""
    said = vars(processor)
    unsaid = [name for name in own_settings(type(processor)) if said.get(name, name) is None]
    return f" {COUNTS} does not say {', '.join(unsaid)}." if unsaid else ""


def _ends(ids: tuple[int, ...], config: PretrainedConfig) -> tuple[list[int], list[int]]:
    """The tokens that a chat template puts around a picture's own (Qwen2-VL, GLM-4V), or none."""
    for names in _ENDS:
        start, end = (getattr(config, name, None) for name in names)
        if start is not None and end is not None and start not in ids:
            return [int(start)], [int(end)]
    return [], []
