"""Any multimodal LLM of transformers' AutoModelForImageTextToText that has decoder layers.

Three things differ between families and are found out here: who is who in the language model
(models/roles.py), what a picture becomes (models/pictures.py), and what the language model is told
besides embeddings: Qwen2-VL's positions on a picture's grid, Gemma 3's mask in which the tokens of
a picture see each other. A model that needs more is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from errors import ModelError
from models.decoder import Decoder
from models.multimodal import MultimodalModel
from models.pictures import PictureForm, open_pictures
from models.roles import find_roles, layer_kinds, named_arguments
from models.rows import TEXT_ONLY, Rows
from models.tokenizer import load_tokenizer

# What a model's forward pass may ask for without being given it: results, labels, other media.
_OPTIONAL = (
    "input_ids", "attention_mask", "position_ids", "past_key_values", "inputs_embeds", "labels",
    "use_cache", "pixel_values", "image_sizes", "mm_encoder_outputs", "logits_to_keep",
    "cache_position", "output_attentions", "output_hidden_states", "return_dict",
    "second_per_grid_ts", "rope_deltas",
)  # fmt: skip
_REFUSED = {
    "paligemma": "it reads its whole prompt in both directions, so that answers would be seen",
}


class AutoMLLM(MultimodalModel):
    """A multimodal LLM whose parts are found by structure.

    Raises:
        ModelError: a role could not be found, or the model needs more than this class gives.
    """

    family = "auto"

    def __init__(self, hf: PreTrainedModel, pictures: PictureForm) -> None:
        check_arguments(hf, pictures)
        super().__init__(hf, self.decoder_of(hf))
        self.pictures = pictures
        self._kinds = tuple(layer_kinds(hf.config.get_text_config()))

    @classmethod
    def of_loaded(cls, hf: PreTrainedModel) -> AutoMLLM:
        """A model that `from_pretrained` loaded; its processor lies where its weights do."""
        path, revision = hf.name_or_path, getattr(hf.config, "_commit_hash", None)
        tokenizer = load_tokenizer(path, revision, hf.config)
        return cls(hf, open_pictures(path, revision, hf.config, tokenizer))

    @property
    def places_tokens_alike(self) -> bool:
        """Not where a picture's tokens stand on a grid, or look at each other."""
        inner = self.hf.model
        return not hasattr(inner, "get_rope_index") and "token_type_ids" not in _inner_arguments(
            self.hf
        )

    @staticmethod
    def decoder_of(hf: PreTrainedModel) -> Decoder:
        """The roles of its language model.

        Raises:
            ModelError: a role could not be found.
        """
        decoder = find_roles(hf)
        if "token_type_ids" in _inner_arguments(hf):  # the model around it makes the masks
            return replace(decoder, body=hf.model)
        return decoder

    def layer_kind(self, layer: int) -> str:
        """Gemma 3: layers with a sliding window and with full attention have their own masks."""
        return self._kinds[layer]

    def body_inputs(self, rows: Rows) -> dict[str, Tensor]:
        """Positions on a picture's grid, or which tokens are a picture's; none for text alone."""
        pictures = int((rows.image_index != TEXT_ONLY).sum())
        if not pictures:
            return {}
        kinds = rows.image_slots.int()
        if "token_type_ids" in _inner_arguments(self.hf):
            return {"token_type_ids": kinds}
        rope_index = getattr(self.hf.model, "get_rope_index", None)
        if rope_index is None:
            return {}
        positions, _ = rope_index(
            input_ids=rows.input_ids,
            mm_token_type_ids=kinds,
            attention_mask=rows.attention_mask.long(),
            **self._picture_inputs(pictures, named_arguments(rope_index)),
        )
        return {"position_ids": positions}

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """What the language model sees of distinct pictures: (P, ...) -> (P, S, d).

        Raises:
            ModelError: their number is not that of a picture's image tokens.
        """
        output = self.hf.model.get_image_features(
            pixel_values=pixel_values.flatten(0, 1).to(self.dtype),
            **self._picture_inputs(len(pixel_values), _inner_arguments(self.hf)),
        )
        width = self.hf.get_input_embeddings().weight.shape[-1]
        flat = torch.cat([part.reshape(-1, width) for part in output.pooler_output])
        if len(flat) != len(pixel_values) * self.pictures.slots:
            raise ModelError(
                f"{type(self.hf).__name__} gives {len(flat)} features for {len(pixel_values)} "
                f"pictures, and its processor {self.pictures.slots} image tokens for each. "
                "config.json, preprocessor_config.json and processor_config.json belong together; "
                "without the last a family's usual number is taken."
            )
        return flat.view(len(pixel_values), self.pictures.slots, width)

    def _picture_inputs(self, count: int, arguments: Collection[str]) -> dict[str, Tensor]:
        """What a function that takes these arguments is told of pictures besides their pixels."""
        return {
            name: value.repeat(count, *[1] * (value.ndim - 1)).to(self.device)
            for name, value in self.pictures.inputs.items()
            if name in arguments
        }


def _inner_arguments(hf: PreTrainedModel) -> list[str]:
    return named_arguments(hf.model.forward)


def check_arguments(hf: PreTrainedModel, pictures: PictureForm) -> None:
    """Every argument of a model's forward pass must be one that this class knows how to give.

    Raises:
        ModelError: it is not, or the model does not look at pictures in the common way.
    """
    name, inner = type(hf).__name__, getattr(hf, "model", None)
    get_features: Any = getattr(inner, "get_image_features", None)
    if hf.config.model_type in _REFUSED:
        raise ModelError(f"{name} cannot be edited: {_REFUSED[hf.config.model_type]}.")
    if get_features is None:
        raise ModelError(
            f"{name}: could not find how it looks at pictures. Tried: model.get_image_features. "
            "This model needs a class of its own: docs/add-a-model.md says what goes into it."
        )
    known = {*_OPTIONAL, *pictures.inputs, "token_type_ids"}
    known |= set(named_arguments(get_features))
    if hasattr(inner, "get_rope_index"):
        known.add("mm_token_type_ids")
    more = [p for p in _inner_arguments(hf) if p not in known and "video" not in p]
    if more:
        raise ModelError(
            f"{name} is given {', '.join(more)} besides tokens and pixels, and model=auto does not "
            "know what stands there. docs/add-a-model.md says how to add a class."
        )
