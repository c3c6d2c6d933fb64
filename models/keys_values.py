"""Keys and values of rows' beginnings, which any number of passes may go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

if TYPE_CHECKING:
    from models.editable import EditableModel


SHARE = 0.5  # of the memory budget for keys and values; a pass over them takes as much again


def bytes_per_token(model: EditableModel) -> int:
    """Bytes of a token's keys and values in all layers, if every head had its own."""
    width: int = model.hf.config.get_text_config().hidden_size
    return 2 * model.n_layers * width * model.dtype.itemsize


class Beginning(DynamicCache):
    """Keys and values that a pass reads and does not add to, one row for each of its own."""

    @classmethod
    def of(cls, cache: DynamicCache, rows: Tensor) -> Beginning:
        """Those of a selection of a cache's rows (R,)."""
        found = cls()
        for number, layer in enumerate(cache.layers):
            here = rows.to(layer.keys.device)
            DynamicCache.update(found, layer.keys[here], layer.values[here], number)
        return found

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Those of the beginning and of what follows it, of which nothing is kept."""
        layer = self.layers[layer_idx]
        return (
            torch.cat([layer.keys, key_states], dim=-2),
            torch.cat([layer.values, value_states], dim=-2),
        )
