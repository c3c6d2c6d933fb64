"""LLaVA's own projector, and how a fresh one begins.

    image token = W2 gelu(W1 x + b1) + b2

The last map is scaled so that image tokens begin as large as the embeddings of names. Where asked
for, the first map begins by whitening what the tower says (mean 0, covariance 1 over all patches):
a tower that was trained to classify puts most of its variance into few directions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, PretrainedConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from pretraining.parts import scale_like

RIDGE = 0.01  # of the mean variance, added to each direction's before it is divided by


def new_projector(tower: CLIPVisionConfig, text: PretrainedConfig) -> nn.Module:
    """A projector between a tower and a language model, with PyTorch's own initial weights."""
    # A composed configuration writes into its parts, and the language model still uses its own.
    parts = {"vision_config": copy.deepcopy(tower), "text_config": copy.deepcopy(text)}
    return LlavaMultiModalProjector(LlavaConfig(**parts))


def open_projector(
    state: dict[str, Tensor], tower: CLIPVisionConfig, text: PretrainedConfig
) -> nn.Module:
    """A projector with given weights, frozen."""
    projector = new_projector(tower, text)
    projector.load_state_dict(state)
    return projector.requires_grad_(False).eval()


@torch.no_grad()
def initialise(
    projector: nn.Module, features: Tensor, names: Tensor, *, whiten: bool, seed: int
) -> None:
    """Gives a projector the weights that training begins with.

    Args:
        projector: on the CPU; changed in place.
        features: (R, N, Dv) of pictures.
        names: (W, D) embeddings of the tokens of names.
        whiten: whether the first map whitens.
        seed: of the directions that it whitens into.
    """
    first, last = projector.get_submodule("linear_1"), projector.get_submodule("linear_2")
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    if whiten:
        patches = features.flatten(0, 1).double()  # (R N, Dv)
        mean = patches.mean(0)
        variance, directions = torch.linalg.eigh((patches - mean).T.cov())
        scale = (variance.clamp(min=0) + RIDGE * variance.mean()).rsqrt()
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randn(len(first.weight), len(mean), generator=generator).double()
        mixed = nn.functional.normalize(mixed, dim=1)  # so that each output has variance 1
        weight = (mixed * scale) @ directions.T
        first.weight.copy_(weight)
        first.bias.copy_(-weight @ mean)
    last.bias.zero_()
    scale_like(last, projector(features), names)
