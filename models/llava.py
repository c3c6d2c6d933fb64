"""LLaVA-1.5 behind the editing interface (transformers' LlavaForConditionalGeneration).

A picture's features stand right after BOS (576 slots for the released model). The released ones
have a Llama inside; those that are built here may have another language model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from models.decoder import Decoder, llama_decoder, opt_decoder
from models.multimodal import MultimodalModel
from models.roles import find_roles, layer_kinds


class Llava(MultimodalModel):
    """LLaVA-1.5, of any size.

    Args:
        hf: the loaded model; it is frozen.
    """

    family = "llava"

    def __init__(self, hf: LlavaForConditionalGeneration) -> None:
        super().__init__(hf, self.decoder_of(hf))
        self._kinds = tuple(layer_kinds(hf.config.text_config))

    @staticmethod
    def decoder_of(hf: LlavaForConditionalGeneration) -> Decoder:
        """The roles of its language model: Llama's, OPT's, or found by structure.

        Raises:
            ModelError: a role could not be found.
        """
        kind, body = hf.config.text_config.model_type, hf.model.language_model
        if kind == "llama":
            return llama_decoder(body, hf.lm_head)
        return opt_decoder(body.decoder, hf.lm_head) if kind == "opt" else find_roles(hf)

    def layer_kind(self, layer: int) -> str:
        """Gemma 3: layers with a sliding window and with full attention have their own masks."""
        return self._kinds[layer]

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """Projected features of distinct pictures: (P, C, H, W) -> (P, S, d)."""
        output = self.hf.model.get_image_features(
            pixel_values=pixel_values.to(self.dtype),
            vision_feature_layer=self.hf.config.vision_feature_layer,
            vision_feature_select_strategy=self.hf.config.vision_feature_select_strategy,
        )
        return torch.stack(list(output.pooler_output))
