"""Whether a base model fits, told before its weights are read.

    bytes = sum over weights of bytes per value,   counted on a model without weights

The weights alone are counted: activations, an editor and its optimiser need room besides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig

from errors import ModelError
from models.device_memory import GB, DeviceMemory, device_memory
from models.families import without_weights
from models.folder import read_config
from models.loading import Dtype, torch_dtype
from models.quantisation import BYTES, Quantise, is_quantised

log = logging.getLogger(__name__)
SILENT = 100_000_000  # parameters up to which nobody needs to be told
_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class ParameterCounts:
    """How many parameters a base model has.

    Attributes:
        decoder: in the language model's decoder layers.
        linear: of these, in linear maps, which can be quantised.
        rest: everything else.
        single: of the rest, what stays in float32 where the model is in half precision.
    """

    decoder: int
    linear: int
    rest: int
    single: int

    @property
    def total(self) -> int:
        return self.decoder + self.rest

    def bytes(self, dtype: torch.dtype, quantise: Quantise | None = None) -> int:
        """Of the weights in a number type, with quantised decoder layers or without."""
        each = dtype.itemsize if quantise is None else BYTES[quantise]
        plain = (self.total - self.linear - self.single) * dtype.itemsize
        return round(self.linear * each) + plain + self.single * torch.float32.itemsize


def log_memory(
    family: str,
    path: str,
    *,
    revision: str | None,
    dtype: Dtype,
    quantise: Quantise | None,
    device: torch.device | None,
    spread: bool = False,
) -> None:
    """Logs what a model needs and a device has; nothing for small models.

    A model that is `spread` may be larger than the device. Arguments as in
    `models.loading.load_model`.

    Raises:
        ModelError: the weights are larger than the device, or the configuration cannot be read.
    """
    config = read_config(family, path, revision)
    if is_quantised(config):  # how many bytes those take, only their files know
        return
    size = count_parameters(family, config)
    if size.total <= SILENT:
        return
    number_type = torch_dtype(dtype, device)
    memory = device_memory(device or torch.device("cpu"))
    log.info("%s", memory_line(path, size, number_type, quantise, memory))
    if spread:
        return
    if warning := check_fit(path, size, number_type, quantise, memory):
        log.warning("%s", warning)


def count_parameters(family: str, config: PretrainedConfig) -> ParameterCounts:
    """Counts a model's parameters, shared ones once, from its configuration alone.

    Raises:
        ModelError: the family cannot wrap such a model.
    """
    model = without_weights(family, config, torch.bfloat16)
    layers = model.decoder.layers
    inside = {id(parameter) for parameter in layers.parameters()}
    rest = [p for p in model.hf.parameters() if id(p) not in inside]
    return ParameterCounts(
        decoder=sum(p.numel() for p in layers.parameters()),
        linear=sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear)),
        rest=sum(p.numel() for p in rest),
        single=sum(p.numel() for p in rest if p.dtype == torch.float32),
    )


def memory_line(
    path: str,
    size: ParameterCounts,
    dtype: torch.dtype,
    quantise: Quantise | None,
    memory: DeviceMemory,
) -> str:
    """One line about a model and a device."""
    kind = str(dtype).removeprefix("torch.")
    kind = kind if quantise is None else f"{kind} with decoder layers in {quantise}"
    return (
        f"{path}: {size.total / 1e9:.2f} B parameters ({size.decoder / 1e9:.2f} B in decoder "
        f"layers), {_gb(size.bytes(dtype, quantise))} in {kind}; {memory.name} has "
        f"{_gb(memory.total)} ({memory.free / GB:.1f} free)"
    )


def check_fit(
    path: str,
    size: ParameterCounts,
    dtype: torch.dtype,
    quantise: Quantise | None,
    memory: DeviceMemory,
) -> str | None:
    """What to do where the weights do not fit.

    Returns:
        A warning where they are larger than what is free at the moment; None where they fit.

    Raises:
        ModelError: they are larger than the device.
    """
    needed = size.bytes(dtype, quantise)
    if needed <= memory.free:
        return None
    smaller = {k: n for k, n in smaller_forms(size, dtype, quantise).items() if n < needed}
    if needed > memory.total:
        raise ModelError(
            f"the weights of {path} need {_gb(needed)}, and {memory.name} has {_gb(memory.total)}. "
            f"{_advice(smaller, memory.total)}"
        )
    return (
        f"the weights of {path} need {_gb(needed)}, and {memory.name} has {_gb(memory.free)} free. "
        f"{_advice(smaller, memory.free)}"
    )


def smaller_forms(
    size: ParameterCounts, dtype: torch.dtype, quantise: Quantise | None
) -> dict[str, int]:
    """Words that make a model smaller, and the bytes it then needs, the largest first."""
    half = dtype if dtype in _HALF else torch.bfloat16
    word = "" if dtype in _HALF else "model.dtype=bfloat16"
    kinds: Mapping[str, Quantise | None] = {
        "": quantise, "model.quantise=8bit": "8bit", "model.quantise=4bit": "4bit",
    }  # fmt: skip
    sizes = {f"{word} {key}".strip(): size.bytes(half, kind) for key, kind in kinds.items()}
    sizes.pop("", None)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _advice(smaller: Mapping[str, int], memory: int) -> str:
    fitting = [f"{words} ({_gb(needed)})" for words, needed in smaller.items() if needed <= memory]
    if fitting:
        return f"These weights would fit: {', '.join(fitting)}."
    return (
        "No number type makes it small enough: set model.device_map=auto, which spreads it over "
        "several devices, take a smaller model (model=blip2_opt, the smallest of the real ones, "
        "has 3.7 B parameters) or a device with more memory."
    )


def _gb(count: int) -> str:
    return f"{count / GB:.1f} GB"
