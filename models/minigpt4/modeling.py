"""MiniGPT-4 as a transformers model (Zhu et al. 2023).

transformers has no MiniGPT-4. It is BLIP-2's picture path (EVA ViT-g, ln_vision, Q-Former) and one
linear map into Vicuna, so it is composed of BLIP-2's and Llama's own classes; `from_pretrained`,
`save_pretrained`, quantisation and attention back ends then work as in any other model.

This file needs transformers alone: a folder that leaves this project takes it along (auto_map).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

# The original's ln_vision is a plain torch LayerNorm; the blocks below it have 1e-6.
LN_VISION_EPS = 1e-5
# Vicuna's vocabulary has no image token; no row of the embedding table is spent on one.
NO_TOKEN = -1


class MiniGPT4Config(PretrainedConfig):
    """Configuration of `MiniGPT4ForConditionalGeneration`; the defaults are those of the 7B model.

    Args:
        vision_config: of the ViT (default: EVA ViT-g/14, 39 layers, 224 pixels).
        qformer_config: of the Q-Former (default: 12 layers, cross-attention in every second).
        text_config: of the Llama.
        num_query_tokens: features, and so tokens, of a picture.
        image_token_index: the id that stands where a feature goes; -1: the vocabulary has none.
        ln_vision_eps: of the layer norm between ViT and Q-Former.
    """

    model_type = "minigpt4"
    sub_configs = {  # noqa: RUF012 - transformers' own name and form
        "vision_config": Blip2VisionConfig,
        "qformer_config": Blip2QFormerConfig,
        "text_config": LlamaConfig,
    }

    def __init__(
        self,
        vision_config: dict[str, Any] | Blip2VisionConfig | None = None,
        qformer_config: dict[str, Any] | Blip2QFormerConfig | None = None,
        text_config: dict[str, Any] | LlamaConfig | None = None,
        num_query_tokens: int = 32,
        image_token_index: int = NO_TOKEN,
        ln_vision_eps: float = LN_VISION_EPS,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as_config(Blip2VisionConfig, vision_config)
        self.qformer_config = _as_config(Blip2QFormerConfig, qformer_config)
        self.text_config = _as_config(LlamaConfig, text_config)
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size
        self.num_query_tokens = num_query_tokens
        self.image_token_index = image_token_index
        self.ln_vision_eps = ln_vision_eps
        super().__init__(**kwargs)


class MiniGPT4ForConditionalGeneration(PreTrainedModel):
    """ViT -> ln_vision -> Q-Former -> linear map -> Llama."""

    config_class = MiniGPT4Config
    config: MiniGPT4Config
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ["query_tokens", "qformer"]  # noqa: RUF012
    _no_split_modules = [  # noqa: RUF012 - transformers' own name and form
        "Blip2EncoderLayer", "Blip2QFormerLayer", "LlamaDecoderLayer",
    ]  # fmt: skip

    def __init__(self, config: MiniGPT4Config) -> None:
        super().__init__(config)
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        self.vision_model.post_layernorm.eps = config.ln_vision_eps
        width = config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        self.llama_proj = nn.Linear(width, config.text_config.hidden_size)
        self.language_model = LlamaForCausalLM._from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """What the Llama sees of pictures: (P, 3, H, W) -> (P, num_query_tokens, d)."""
        return self.project(self.vision_model(pixel_values=pixel_values).last_hidden_state)

    def project(self, patches: Tensor) -> Tensor:
        """Q-Former and linear map: (P, n, vision width) -> (P, num_query_tokens, d)."""
        queries = self.query_tokens.expand(len(patches), -1, -1)
        seen = self.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return self.llama_proj(seen.to(self.llama_proj.weight.dtype))

    def embed(self, input_ids: Tensor, pixel_values: Tensor | None = None) -> Tensor:
        """Token embeddings with features in their slots: (B, T, d).

        Args:
            input_ids: (B, T), `image_token_index` where features go.
            pixel_values: (P, 3, H, W) the pictures of the rows that have one, in their order.

        Raises:
            ValueError: slots and features differ in number.
        """
        embeddings = self.get_input_embeddings()(input_ids.clamp(min=0))
        if pixel_values is None:
            return embeddings
        slots = input_ids == self.config.image_token_index
        features = self.get_image_features(pixel_values).to(embeddings.dtype)
        if int(slots.sum()) != features.shape[0] * features.shape[1]:
            raise ValueError(
                f"the rows have {int(slots.sum())} image slots, and {len(pixel_values)} pictures "
                f"give {features.shape[1]} features each. Put {features.shape[1]} tokens of id "
                f"{self.config.image_token_index} where a picture stands."
            )
        return embeddings.masked_scatter(slots[..., None], features)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The language model's output; arguments as in `LlamaForCausalLM` and `embed`."""
        if inputs_embeds is None:
            assert input_ids is not None, "input_ids or inputs_embeds"
            inputs_embeds = self.embed(input_ids, pixel_values)
        return self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs
        )

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Prompts and what the model says after them: (B, T + new)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self.language_model.generate(
            input_ids=input_ids.clamp(min=0),
            inputs_embeds=self.embed(input_ids, pixel_values),
            attention_mask=attention_mask,
            **kwargs,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MiniGPT4ForConditionalGeneration):
            nn.init.normal_(module.query_tokens, std=0.02)  # equal queries would stay equal


def _as_config(kind: type[PretrainedConfig], given: object) -> Any:
    if isinstance(given, kind):
        return given
    return kind(**given) if isinstance(given, dict) else kind()


AutoConfig.register(MiniGPT4Config.model_type, MiniGPT4Config)
AutoModelForImageTextToText.register(MiniGPT4Config, MiniGPT4ForConditionalGeneration)
