"""BLIP2-OPT behind the editing interface (transformers' Blip2ForConditionalGeneration).

A picture's 32 query features stand before BOS. The class itself asks for a picture in every row and
says nothing when there are too few slots for one; going through the language model, as here, text
and picture rows share a batch, and slots are counted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Blip2ForConditionalGeneration as _Blip2ForConditionalGeneration

from errors import ModelError
from models.decoder import Decoder, opt_decoder
from models.multimodal import MultimodalModel


class Blip2ForConditionalGeneration(_Blip2ForConditionalGeneration):
    """transformers' class, which keeps the Q-Former in float32 under float16 but not bfloat16."""

    _keep_in_fp32_modules_strict = ["query_tokens", "qformer"]  # noqa: RUF012


class Blip2(MultimodalModel):
    """BLIP-2 with an OPT language model, of any size.

    Args:
        hf: the loaded model; it is frozen, and its Q-Former computes in single precision, as it
            was trained.

    Raises:
        ModelError: the language model is not an OPT.
    """

    family = "blip2"

    def __init__(self, hf: Blip2ForConditionalGeneration) -> None:
        super().__init__(hf, self.decoder_of(hf))
        in_single_precision(hf.qformer, hf.query_tokens)

    @staticmethod
    def decoder_of(hf: Blip2ForConditionalGeneration) -> Decoder:
        """The roles of its OPT.

        Raises:
            ModelError: the language model is not an OPT.
        """
        kind = hf.config.text_config.model_type
        if kind != "opt":
            raise ModelError(
                f"this BLIP-2 has a {kind!r} language model; edits of model.family=blip2 are "
                "written for OPT. Use a blip2-opt checkpoint."
            )
        return opt_decoder(hf.language_model.model.decoder, hf.language_model.lm_head)

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """Projected query features of distinct pictures: (P, C, H, W) -> (P, S, d)."""
        return self.hf.get_image_features(pixel_values.to(self.dtype)).pooler_output


def in_single_precision(qformer: nn.Module, queries: nn.Parameter) -> None:
    """Keeps a Q-Former and its queries in float32 where the rest is in half precision."""
    if queries.dtype in (torch.bfloat16, torch.float16):
        qformer.float()
        queries.data = queries.data.float()
