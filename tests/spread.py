"""Base models that are spread: over CPU and disk, and over the CPU and a stand-in for a card."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

from models.editable import EditableModel
from models.families import without_weights
from models.folder import read_config
from models.loading import load_model


def on_disk(family: str, folder: Path, *, layers: int) -> EditableModel:
    """A stored model in float32 of which some layers, the lowest ones, stay on the disk."""
    hollow = without_weights(family, read_config(family, str(folder), None), torch.float32)
    limits = {"cpu": room_for(hollow, hollow.n_layers - layers)}
    return load_model(family, str(folder), dtype="float32", spread=True, limits=limits)


def room_for(model: EditableModel, layers: int) -> int:
    """Bytes of all but the decoder layers, of some layers, and of one that is brought in."""
    one = weight_bytes(model.decoder.layers[0])
    return weight_bytes(model.hf) + one * (layers + 1 - model.n_layers)


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(t.numel() * t.itemsize for t in (*module.parameters(), *module.buffers()))


def on_card(model: EditableModel, card: torch.device, layers: Collection[int]) -> EditableModel:
    """A model on the CPU of which some layers lie on a card, hooked as accelerate does it.

    `dispatch_model` itself wants a card that torch has kernels for.
    """
    parts = dict(enumerate(model.decoder.layers))
    places: dict[str, str] = {"": "cpu"}
    for number, layer in parts.items():
        where = card if number in layers else torch.device("cpu")
        places[f"layers.{number}"] = str(layer.to(where) and where)
        for module in layer.modules():
            add_hook_to_module(module, AlignDevicesHook(execution_device=where))
    for module in (model.decoder.norm, model.decoder.head):
        add_hook_to_module(module, AlignDevicesHook(execution_device=torch.device("cpu")))
    model.hf.hf_device_map = places
    return model
