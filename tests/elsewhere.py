"""A stand-in for a GPU: tensors with values that say they are on another device than the CPU.

Torch knows the device `lazy` and has no kernels for it here. Inside `Elsewhere()` a tensor made or
moved there is a wrapper: what is computed with it is computed on the CPU and stays there. As on a
real device,

* a CPU tensor that meets one of these in an operation is refused, unless it is a single number;
* values come back through `.cpu()`, `.tolist()` and `.item()` alone;
* float64 is refused, as on Apple's MPS (`metrics.precision` says what is done then).

Other differences that a real device has, such as kernels of its own, cannot be seen here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

CPU, OTHER_DEVICE = torch.device("cpu"), torch.device("lazy", 0)
aten = torch.ops.aten
# What may take tensors of two devices: copies. Indices may lie on the CPU, too, but then every use
# of them waits for a copy, so that these are refused here.
_CROSSING = (aten._to_copy.default, aten.copy_.default)


class DeviceTensor(Tensor):
    """A tensor of the other device; `numbers` has its numbers."""

    numbers: Tensor

    @staticmethod
    def __new__(cls: type[DeviceTensor], values: Tensor) -> DeviceTensor:
        """Wraps a CPU tensor.

        Raises:
            TypeError: it is in float64.
        """
        if values.dtype == torch.float64:
            raise TypeError("the other device has no float64")
        made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, device=OTHER_DEVICE,
        )  # fmt: skip
        made.numbers = values
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.numbers!r})"

    def tolist(self) -> Any:
        """Its numbers; torch itself does not read those of a subclass."""
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Lets the other device exist: inside, `device=OTHER_DEVICE` and `.to(OTHER_DEVICE)` work."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on the tensors inside; its results are where its operands are."""
    if torch.is_inference_mode_enabled():  # a wrapper made in it could not be used
        with torch.inference_mode(mode=False), torch.no_grad():
            return _compute(func, args, kwargs)
    flat, _ = tree_flatten((args, kwargs))
    tensors = [tensor for tensor in flat if isinstance(tensor, Tensor)]
    wrapped = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    here = [
        t for t in tensors if not isinstance(t, DeviceTensor) and t.ndim and t.device.type == "cpu"
    ]
    if wrapped and here and func not in _CROSSING:
        raise RuntimeError(
            f"{func}: a tensor of {tuple(here[0].shape)} on the CPU meets one on another device"
        )
    devices = [value for value in flat if isinstance(value, torch.device)]  # at most one
    is_wrapped = bool(wrapped) if not devices else devices[0].type == OTHER_DEVICE.type
    if func is aten.copy_.default:
        is_wrapped = isinstance(args[0], DeviceTensor)
    plain_args, plain_kwargs = tree_map_only(
        (DeviceTensor, torch.device),
        lambda t: t.numbers if isinstance(t, DeviceTensor) else CPU,
        (args, kwargs),
    )
    result = func(*plain_args, **plain_kwargs)
    if not is_wrapped:
        return result
    outer = {id(t.numbers): t for t in wrapped}  # operations in place give these back
    return tree_map_only(
        Tensor, lambda t: outer[id(t)] if id(t) in outer else DeviceTensor(t), result
    )


@contextmanager
def elsewhere(patch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The other device, inside the block; what is patched for it stays until the test ends."""
    is_enabled: Callable[[str], bool] = torch.is_autocast_enabled
    patch.setattr(
        torch, "is_autocast_enabled",
        lambda kind="cpu": False if kind == OTHER_DEVICE.type else is_enabled(kind),
    )  # fmt: skip
    fused = "_get_fused_kernels_supported_devices"
    patch.setattr(sys.modules["torch.optim.optimizer"], fused, lambda: ["cpu", OTHER_DEVICE.type])
    # Makes torch.tensor(values, device=...) a copy of a CPU tensor, which the mode sees.
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    patch.setattr("metrics.precision.WITHOUT_FLOAT64", frozenset((OTHER_DEVICE.type,)))
    try:
        with Elsewhere():
            yield OTHER_DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
