"""Weights that accelerate has put on other devices, or offloaded, and brings along in a pass.

An offloaded parameter lies on the meta device but for the forward pass of its own module; whoever
reads it outside of a pass (FT's and ROME's weights, fingerprints) takes it from where it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def is_spread(model: nn.Module) -> bool:
    """Whether its weights lie in more than one place, which hooks of accelerate bring together."""
    places = getattr(model, "hf_device_map", {}).values()
    return len(set(map(str, places))) > 1 or "disk" in places


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """A parameter or buffer of a module, with its values."""
    tensor: Tensor = getattr(module, name)
    if not tensor.is_meta:
        return tensor
    hook = _offloading(module)
    if hook is None:  # a model without weights
        return tensor
    values: Tensor = hook.weights_map[name]
    return values.to(hook.execution_device)


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What `state_dict` has, by name, with its values; one tensor at a time is read."""
    for name, tensor in sorted(model.state_dict().items()):
        inside, _, own = name.rpartition(".")
        yield name, tensor_of(model.get_submodule(inside), own) if tensor.is_meta else tensor


def _offloading(module: nn.Module) -> Any:
    """The hook by which accelerate brings a module's own weights."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", [hook])  # of its SequentialHook
    return next((one for one in hooks if getattr(one, "offload", False)), None)
