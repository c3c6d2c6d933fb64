"""Which device holds what of a base model that is larger than one (`model.device_map=auto`).

What no edit gets by without stays on the main device, where passes begin and end: vision tower,
projection, embeddings, final norm and head. Decoder layers follow from the highest one down, as
long as there is room, then on the other cards, in the machine's memory, and on the disk. So the
lowest layers are offloaded first: of an edit they are run once, and the layers above the lowest
edited one many times. An offloaded layer is brought to the main device for its own pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import groupby

import torch
from torch import nn

from errors import ModelError
from models.device_memory import GB, device_memory
from models.editable import EditableModel
from models.quantisation import BYTES, Quantise, unquantised_modules

log = logging.getLogger(__name__)
Limits = Mapping[str, int]  # number of a card, or "cpu" -> bytes of weights
DISK = "disk"
SHARE = 0.9  # of what is free on a device, for weights
_SPREAD = ("cuda", "cpu")  # kinds of main devices


def placement(
    model: EditableModel,
    device: torch.device | None,
    limits: Limits | None = None,
    *,
    quantise: Quantise | None = None,
) -> dict[str, str | int]:
    """Where each part of a model goes, as accelerate's `device_map`.

    Args:
        model: without weights, in the number type that it will have.
        device: the main one; None for the CPU.
        limits: bytes that weights may take there; what is not named has 90 % of what is free.
        quantise: the decoder layers in fewer bits; such ones lie on cards, or on the CPU where that
            is the main device.

    Returns:
        One entry for the whole model where it fits on the main device.

    Raises:
        ModelError: a limit is of a device that is not there, the parts that are never offloaded do
            not fit on the main device, or quantised layers would have to be offloaded.
    """
    device = device or torch.device("cpu")
    rooms = _rooms(device, limits or {})
    main = next(iter(rooms))
    layers = model.decoder.layers
    sizes = [_bytes(layer, quantise) for layer in layers]
    rest = _bytes(model.hf, None) - sum(_bytes(layer, None) for layer in layers)
    if rest + sum(sizes) <= rooms[main]:
        return {"": main}
    if (least := rest + max(sizes)) > rooms[main]:
        raise ModelError(
            f"model.device_map=auto: {_named(main)} may hold {_size(rooms[main])} of weights, and "
            "what is never offloaded (vision, embeddings, norm, head) with room for one decoder "
            f"layer takes {_size(least)}. Raise model.max_memory for {main} (now "
            f"{'not set' if str(main) not in (limits or {}) else _size(rooms[main])}), take a "
            "smaller number type (model.dtype) or a device with more memory."
        )
    rooms[main] -= least  # an offloaded layer is brought here
    of_layers = _fill(sizes, rooms)
    offloaded = [number for number, place in enumerate(of_layers) if _is_offloaded(place, main)]
    if quantise is not None and offloaded:
        raise ModelError(
            f"model.device_map=auto model.quantise={quantise}: {len(offloaded)} of "
            f"{len(of_layers)} decoder layers fit on no card and would be offloaded, and quantised "
            "ones cannot be. Set model.quantise=null, raise model.max_memory, or take a device "
            "with more memory."
        )
    name = next(name for name, module in model.hf.named_modules() if module is layers)
    outside = [*unquantised_modules(model.hf, layers), *_own(model.hf, name)]
    log.info("decoder layers of the base model: %s; all else on %s", told(of_layers), _named(main))
    places: dict[str, str | int] = dict.fromkeys(outside, main)
    return places | {f"{name}.{number}": place for number, place in enumerate(of_layers)}


def told(places: list[str | int]) -> str:
    """Ranges of layers by place, such as "0 to 3 on the disk, 4 on cpu".

    >>> told(["disk", "disk", "cpu", 0])
    '0 to 1 on the disk, 2 on cpu, 3 on card 0'
    """
    found = []
    for place, group in groupby(enumerate(places), key=lambda item: item[1]):
        numbers = [number for number, _ in group]
        first, last = numbers[0], numbers[-1]
        found.append(f"{first if first == last else f'{first} to {last}'} on {_named(place)}")
    return ", ".join(found)


def _rooms(device: torch.device, limits: Limits) -> dict[str | int, int]:
    """Bytes of weights that each device may hold, the main one first."""
    if device.type not in _SPREAD:
        raise ModelError(
            f"model.device_map=auto spreads a model over {', '.join(_SPREAD)} and the disk, and "
            f"this run is on {device.type}. Set model.device_map=null or trainer.accelerator=cpu."
        )
    main: str | int = "cpu"
    devices: dict[str | int, torch.device] = {}
    if device.type == "cuda":
        main = torch.cuda.current_device() if device.index is None else device.index
        others = (number for number in range(torch.cuda.device_count()) if number != main)
        devices = {number: torch.device(device.type, number) for number in (main, *others)}
    devices["cpu"] = torch.device("cpu")
    if unknown := sorted(set(limits) - set(map(str, devices))):
        raise ModelError(
            f"model.max_memory names {', '.join(map(_named, unknown))}, and this run has "
            f"{', '.join(map(_named, devices))}. Leave out what is not there."
        )
    return {
        name: limits[str(name)] if str(name) in limits else int(SHARE * device_memory(where).free)
        for name, where in devices.items()
    }


def _fill(sizes: list[int], rooms: Mapping[str | int, int]) -> list[str | int]:
    """A place for each layer; the highest ones get the first room."""
    places: list[str | int] = []
    waiting = iter([*rooms.items(), (DISK, sum(sizes))])
    place, left = next(waiting)
    for size in reversed(sizes):
        while size > left:
            place, left = next(waiting)
        left -= size
        places.append(place)
    return places[::-1]


def _bytes(module: nn.Module, quantise: Quantise | None) -> int:
    """Of a module's weights, shared ones once."""
    total = sum(t.numel() * t.itemsize for t in (*module.parameters(), *module.buffers()))
    if quantise is None:
        return total
    linear = [m.weight for m in module.modules() if isinstance(m, nn.Linear)]
    return total + round(sum(w.numel() * (BYTES[quantise] - w.itemsize) for w in linear))


def _own(hf: nn.Module, layers: str) -> Iterator[str]:
    """Names of weights that lie in the modules around the decoder layers themselves."""
    path = layers.split(".")
    for depth in range(len(path)):
        around = ".".join(path[:depth])
        module = hf.get_submodule(around)
        parameters, buffers = module.named_parameters, module.named_buffers
        for name, _ in (*parameters(recurse=False), *buffers(recurse=False)):
            yield f"{around}.{name}" if around else name


def _is_offloaded(place: str | int, main: str | int) -> bool:
    return place != main and not isinstance(place, int)


def _named(place: str | int) -> str:
    if place == DISK:
        return "the disk"
    return "cpu" if place == "cpu" else f"card {place}"


def _size(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"
