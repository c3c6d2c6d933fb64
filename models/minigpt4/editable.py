"""MiniGPT-4 behind the editing interface.

A picture's 32 features stand right after BOS in the benchmark's prompt, and between `<Img>` and
`</Img>` in the model's own chat form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.blip2 import in_single_precision
from models.decoder import Decoder, llama_decoder
from models.minigpt4.modeling import MiniGPT4ForConditionalGeneration
from models.multimodal import MultimodalModel


class MiniGPT4(MultimodalModel):
    """MiniGPT-4, of any size.

    Args:
        hf: the loaded model; it is frozen, and its Q-Former computes in single precision.
    """

    family = "minigpt4"

    def __init__(self, hf: MiniGPT4ForConditionalGeneration) -> None:
        super().__init__(hf, self.decoder_of(hf))
        in_single_precision(hf.qformer, hf.query_tokens)

    @staticmethod
    def decoder_of(hf: MiniGPT4ForConditionalGeneration) -> Decoder:
        """The roles of its Llama."""
        return llama_decoder(hf.language_model.model, hf.language_model.lm_head)

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """Projected query features of distinct pictures: (P, C, H, W) -> (P, S, d)."""
        return self.hf.get_image_features(pixel_values.to(self.dtype))
