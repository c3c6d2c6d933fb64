"""LLaVA-1.5 behind the editing interface (transformers' LlavaForConditionalGeneration).

A picture's features stand right after BOS (576 slots for the released model).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from models.decoder import Decoder, llama_decoder
from models.multimodal import MultimodalModel


class Llava(MultimodalModel):
    """LLaVA-1.5, of any size.

    Args:
        hf: the loaded model; it is frozen.
    """

    family = "llava"

    def __init__(self, hf: LlavaForConditionalGeneration) -> None:
        super().__init__(hf, self.decoder_of(hf))

    @staticmethod
    def decoder_of(hf: LlavaForConditionalGeneration) -> Decoder:
        """The roles of its Llama."""
        return llama_decoder(hf.model.language_model, hf.lm_head)

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """Projected features of distinct pictures: (P, C, H, W) -> (P, S, d)."""
        output = self.hf.model.get_image_features(
            pixel_values=pixel_values.to(self.dtype),
            vision_feature_layer=self.hf.config.vision_feature_layer,
            vision_feature_select_strategy=self.hf.config.vision_feature_select_strategy,
        )
        return torch.stack(list(output.pooler_output))
