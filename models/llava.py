"""LLaVA-1.5 behind the editing interface (transformers' LlavaForConditionalGeneration).

A picture's features stand right after BOS (576 slots for the released model). Rows that show the
same picture share one pass of the vision tower and projector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from errors import ModelError
from models.decoder import Decoder
from models.editable import EditableModel
from models.rows import TEXT_ONLY, Rows


def llama_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of a Llama-type LM: `up_proj` and `down_proj` are the MLP's two matrices."""
    return Decoder(
        body=body,
        layers=body.layers,
        norm=body.norm,
        head=head,
        mlp_norm="post_attention_layernorm",
        mlp=lambda block, hidden: block.mlp(block.post_attention_layernorm(hidden)),
        sites={"mlp_in": "mlp.up_proj", "mlp_out": "mlp.down_proj"},
    )


class Llava(EditableModel):
    """LLaVA-1.5, of any size.

    Args:
        hf: the loaded model; it is frozen.
    """

    family = "llava"

    def __init__(self, hf: LlavaForConditionalGeneration) -> None:
        super().__init__(hf, llama_decoder(hf.model.language_model, hf.lm_head))

    def embed(self, rows: Rows) -> Tensor:
        """Token embeddings with picture features in their slots: (R, T, d).

        Raises:
            ModelError: the rows' slots do not match the number of features per picture.
        """
        embeddings = self.hf.get_input_embeddings()(rows.input_ids)
        if rows.pixel_values is None:
            return embeddings
        features = rows.features
        if features is None:
            features = self.picture_features(rows.pixel_values)  # (P, S, d)
        with_picture = rows.image_index != TEXT_ONLY
        slots = rows.image_slots.sum(1)[with_picture]
        if bool((slots != features.shape[1]).any()):
            raise ModelError(
                f"a row has {int(slots[slots != features.shape[1]][0])} image slots, and this "
                f"model gives {features.shape[1]} features per picture. The rows were made for "
                "another model: use the processor that lies beside this model's weights."
            )
        chosen = features[rows.image_index[with_picture]].to(embeddings.dtype)
        return embeddings.masked_scatter(rows.image_slots[..., None], chosen)

    @torch.no_grad()
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """Projected features of distinct pictures: (P, C, H, W) -> (P, S, d)."""
        output = self.hf.model.get_image_features(
            pixel_values=pixel_values.to(self.hf.dtype),
            vision_feature_layer=self.hf.config.vision_feature_layer,
            vision_feature_select_strategy=self.hf.config.vision_feature_select_strategy,
        )
        return torch.stack(list(output.pooler_output))
