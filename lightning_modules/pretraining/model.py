"""The tiny LLaVA: transformers' own class, at most a few million parameters.

A CLIP tower of three layers looks at four patches, a two-layer projector turns them into four image
tokens, and a four-layer Llama with tied embeddings answers. Nothing in the class is changed, so the
saved model loads anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from datamodules.tokenizer import IMAGE
from lightning_modules.pretraining.settings import PretrainSettings


def build_llava(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerFast
) -> LlavaForConditionalGeneration:
    """A randomly initialised model for a tokenizer; `settings.seed` decides the weights."""
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.mlp_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        initializer_range=settings.init_std,
        tie_word_embeddings=True,
        **special,
    )
    vision = CLIPVisionConfig(
        hidden_size=settings.vision_width,
        intermediate_size=settings.vision_mlp_width,
        num_hidden_layers=settings.vision_layers,
        num_attention_heads=settings.heads,
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        projection_dim=settings.vision_width,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=int(tokenizer.convert_tokens_to_ids(IMAGE)),
        image_seq_length=settings.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **special,
    )
    torch.manual_seed(settings.seed)
    return LlavaForConditionalGeneration(config)


class Parts:
    """Names for the parts of a LLaVA that pretraining treats apart.

    Args:
        hf: the model.
    """

    def __init__(self, hf: LlavaForConditionalGeneration) -> None:
        self.hf = hf
        self.language_model = hf.model.language_model
        self.projector = hf.model.multi_modal_projector
        self.tower = hf.model.vision_tower
        self.layers: nn.ModuleList = self.language_model.layers

    @property
    def embeddings(self) -> Tensor:
        """(V, D) the token embeddings, which are the output head too."""
        return self.language_model.embed_tokens.weight

    def patches(self, pixels: Tensor) -> Tensor:
        """(P, 3, S, S) -> (P, N, Dv), the class token left out ("default" feature selection)."""
        return self.tower(pixel_values=pixels).last_hidden_state[:, 1:]

    def hidden(self, embedded: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, D) -> final states, normalised, and the states between layers.

        Causal attention over right-padded rows: no token of a row sees the padding behind it.
        """
        output = self.language_model(
            inputs_embeds=embedded, use_cache=False, output_hidden_states=True
        )
        return output.last_hidden_state, output.hidden_states

    def scores(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self.hf.lm_head(hidden)

    def language_parameters(self) -> list[nn.Parameter]:
        """Everything that reads and writes tokens; the tied head counts once."""
        return list(self.language_model.parameters())

    def vision_parameters(self) -> list[nn.Parameter]:
        """Tower and projector."""
        return [*self.tower.parameters(), *self.projector.parameters()]


@torch.no_grad()
def match_scale(parts: Parts, pixels: Tensor, name_tokens: Tensor) -> None:
    """Rescale the projector so that image tokens start as large as name embeddings.

    Args:
        parts: of a fresh model.
        pixels: (P, 3, S, S) some pictures.
        name_tokens: (W,) ids of the words of names.
    """
    tokens = parts.projector(parts.patches(pixels))
    last = parts.projector.linear_2
    last.weight.mul_(parts.embeddings[name_tokens].std() / tokens.std())
    last.bias.zero_()
