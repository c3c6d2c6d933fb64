"""The parts of a tiny model that pretraining treats apart, by the same names in every family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.blip2 import Blip2
from models.decoder import Decoder
from models.llava import Llava
from models.minigpt4 import MiniGPT4


class ModelParts(ABC):
    """Names for the parts of a model.

    Args:
        image_tokens: features, and so tokens, of a picture.

    Attributes:
        first_slot: where the picture's tokens stand: before BOS (0) or after it (1).
    """

    first_slot = 1

    def __init__(self, hf: Any, decoder: Decoder, image_tokens: int) -> None:
        self.hf, self.decoder, self.image_tokens = hf, decoder, image_tokens
        self.body: Any = decoder.body
        self.layers = decoder.layers

    @property
    def text_model(self) -> PreTrainedModel:
        """What reads and generates text without pictures."""
        return self.hf

    @property
    def embed_tokens(self) -> nn.Embedding:
        return self.body.embed_tokens

    @property
    def embeddings(self) -> Tensor:
        """(V, D) the token embeddings, which are the output head too."""
        return self.embed_tokens.weight

    @abstractmethod
    def patches(self, pixels: Tensor) -> Tensor:
        """What the tower makes of pictures: (P, 3, S, S) -> (P, N, Dv)."""

    @abstractmethod
    def project(self, patches: Tensor) -> Tensor:
        """Image tokens: (P, N, Dv) -> (P, image_tokens, D)."""

    @property
    @abstractmethod
    def last_projection(self) -> nn.Linear:
        """The linear map whose output the language model sees."""

    @abstractmethod
    def vision_parameters(self) -> list[nn.Parameter]:
        """Everything that sees pictures."""

    @property
    @abstractmethod
    def vision_tower(self) -> nn.Module:
        """What `patches` runs."""

    def connector_parameters(self) -> list[nn.Parameter]:
        """What lies between the tower and the language model."""
        tower = {id(parameter) for parameter in self.vision_tower.parameters()}
        return [p for p in self.vision_parameters() if id(p) not in tower]

    def hidden(self, embedded: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, D) -> final states, normalised, and the states between layers.

        Causal attention over right-padded rows: no token of a row sees the padding behind it.
        """
        output = self.body(inputs_embeds=embedded, use_cache=False, output_hidden_states=True)
        return output.last_hidden_state, output.hidden_states

    def logits(self, input_ids: Tensor, mask: Tensor, pixels: Tensor | None) -> Tensor:
        """The whole model, as a user calls it: (B, T, V); every row shows a picture, or none."""
        arguments = {"input_ids": input_ids, "attention_mask": mask.long()}
        if pixels is None:
            return self.text_model(**arguments).logits
        return self.hf(**arguments, pixel_values=pixels).logits

    def language_parameters(self) -> list[nn.Parameter]:
        """Everything that reads and writes tokens; the tied head counts once."""
        return list(self.body.parameters())


class _LlavaParts(ModelParts):
    def __init__(self, hf: Any) -> None:
        super().__init__(hf, Llava.decoder_of(hf), hf.config.image_seq_length)
        self.tower, self.projector = hf.model.vision_tower, hf.model.multi_modal_projector

    def patches(self, pixels: Tensor) -> Tensor:
        """The class token is left out ("default" feature selection)."""
        return self.tower(pixel_values=pixels).last_hidden_state[:, 1:]

    def project(self, patches: Tensor) -> Tensor:
        return self.projector(patches)

    @property
    def last_projection(self) -> nn.Linear:
        return self.projector.linear_2

    @property
    def vision_tower(self) -> nn.Module:
        return self.tower

    def vision_parameters(self) -> list[nn.Parameter]:
        return [*self.tower.parameters(), *self.projector.parameters()]


class _QFormerParts(ModelParts):
    projection: str

    def __init__(self, hf: Any, decoder: Decoder) -> None:
        super().__init__(hf, decoder, hf.config.num_query_tokens)

    def patches(self, pixels: Tensor) -> Tensor:
        """The class token stays: the Q-Former reads it too."""
        return self.hf.vision_model(pixel_values=pixels).last_hidden_state

    def project(self, patches: Tensor) -> Tensor:
        queries = self.hf.query_tokens.expand(len(patches), -1, -1)
        output = self.hf.qformer(query_embeds=queries, encoder_hidden_states=patches)
        return self.last_projection(output.last_hidden_state)

    @property
    def last_projection(self) -> nn.Linear:
        return self.hf.get_submodule(self.projection)

    @property
    def vision_tower(self) -> nn.Module:
        return self.hf.vision_model

    def vision_parameters(self) -> list[nn.Parameter]:
        modules = (self.hf.vision_model, self.hf.qformer, self.last_projection)
        return [self.hf.query_tokens, *(p for module in modules for p in module.parameters())]


class _Blip2Parts(_QFormerParts):
    first_slot, projection = 0, "language_projection"

    def __init__(self, hf: Any) -> None:
        super().__init__(hf, Blip2.decoder_of(hf))

    @property
    def text_model(self) -> PreTrainedModel:
        """BLIP-2's own forward asks for a picture in every row."""
        return self.hf.language_model


class _MiniGPT4Parts(_QFormerParts):
    projection = "llama_proj"

    def __init__(self, hf: Any) -> None:
        super().__init__(hf, MiniGPT4.decoder_of(hf))


def parts_of(hf: PreTrainedModel) -> ModelParts:
    """The parts of a tiny model, whichever family it is of."""
    kinds: dict[str, Callable[[Any], ModelParts]] = {
        "llava": _LlavaParts,
        "blip-2": _Blip2Parts,
        "minigpt4": _MiniGPT4Parts,
    }
    return kinds[hf.config.model_type](hf)


def match_scale(parts: ModelParts, pixels: Tensor, name_tokens: Tensor) -> None:
    """Rescale the last projection so that image tokens start as large as name embeddings.

    Args:
        parts: of a fresh model.
        pixels: (P, 3, S, S) some pictures.
        name_tokens: (W,) ids of the words of names.
    """
    with torch.no_grad():
        tokens = parts.project(parts.patches(pixels))
    scale_like(parts.last_projection, tokens, parts.embeddings[name_tokens])


@torch.no_grad()
def scale_like(last: nn.Linear, tokens: Tensor, named: Tensor) -> None:
    """Rescale a linear map whose output is `tokens` to the deviation of `named`, without a bias."""
    last.weight.mul_(named.std() / tokens.std())
    last.bias.zero_()
