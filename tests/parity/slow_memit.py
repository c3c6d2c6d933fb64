"""MEMIT and AlphaEdit by the book: dense weights overwritten layer by layer, whole passes.

Every number is read of a copy of the model whose weights are already the changed ones: the keys of
a layer, prompt by prompt, and what the stream still lacks behind the last edited layer. Inverses
are those of d_in x d_in matrices.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.memit.config import MemitOptions
from models.deltas import Site, linear_weight
from models.editable import EditableModel
from tests.slow_lookup import SlowLookup


class SlowMemit:
    """A copy of a model, into which turns of facts are written.

    Attributes:
        model: the copy, with the turns so far in its weights.
        updates: layer -> dW of the last turn (d_out, d_in).
    """

    def __init__(
        self,
        model: EditableModel,
        encoder: PromptEncoder,
        options: MemitOptions,
        prefixes: Sequence[str],
        second_moments: Mapping[int, Tensor],
    ) -> None:
        self.model, self.options = copy.deepcopy(model), options
        self.encoder, self.prefixes, self.moments = encoder, prefixes, second_moments
        self.updates: dict[int, Tensor] = {}
        self._seen: dict[int, Tensor] = {}  # layer -> sum of k k^T over earlier turns

    def write(self, numbers: Sequence[int]) -> None:
        """One update of some facts of `tests.rome_cases.FACTS`."""
        layers = self.options.layers
        last = self.model.decoder.layers[layers[-1]]
        facts = [
            SlowLookup(self.model, self.encoder, self.options, self.prefixes, last, number)
            for number in numbers
        ]
        z = torch.stack([fact.value() for fact in facts])
        for number, layer in enumerate(layers):
            linear = self.model.linear(Site(layer, "mlp_out"))
            keys = torch.stack(
                [
                    torch.stack([fact.read(*p[:2], linear)[0] for p in fact.prompts()[:-1]]).mean(0)
                    for fact in facts
                ]
            )
            stream = torch.stack([fact.read(*fact.prompts()[0][:2])[1] for fact in facts])
            residuals = (z - stream) / (len(layers) - number)
            update = self._update(layer, keys, residuals)
            self.updates[layer] = update
            with torch.no_grad():
                linear_weight(linear).add_(update)

    def _update(self, layer: int, keys: Tensor, residuals: Tensor) -> Tensor:
        identity, ridge = torch.eye(keys.shape[1], dtype=keys.dtype), self.options.ridge
        gram, moment = keys.mT @ keys, self.moments.get(layer)
        if not self.options.null_space:
            of_text = identity if moment is None else moment
            return residuals.mT @ keys @ torch.linalg.inv(ridge * of_text + gram)
        assert moment is not None
        values, vectors = torch.linalg.eigh(moment)
        below = vectors[:, values < self.options.threshold]
        projector, seen = below @ below.mT, self._seen.get(layer, torch.zeros_like(gram))
        inverse = torch.linalg.inv(seen @ projector + gram @ projector + ridge * identity)
        self._seen[layer] = seen + gram
        return residuals.mT @ keys @ projector @ inverse
