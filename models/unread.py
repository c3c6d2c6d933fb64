"""Parts of a base model that are not read from the disk until something passes through them.

A training whose prefix states are in the cache needs the layers from the lowest edited one on, the
final norm, head and embeddings: an eighth of a 7B model where the last three layers are edited.
Whatever else the model has is then an empty module under its usual name, so that transformers finds
no place for its weights and does not read them (safetensors are read tensor by tensor). A pass that
gets there after all has them read, once, and goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from inspect import signature
from typing import Any

from torch import nn

from models.decoder import Decoder

log = logging.getLogger(__name__)
Parts = Callable[[nn.Module, Decoder], Iterable[str]]  # a model without weights -> names in it


class Unread(nn.Module):
    """Stands in the place of a part.

    Args:
        part: on torch's meta device; what it says of itself besides weights is said here too.

    Attributes:
        n_bytes: of its weights, once they are read.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        nothing = vars(nn.Module())
        for name, value in vars(part).items():
            if name not in nothing:
                self.__dict__[name] = value
        self.n_bytes = sum(weight.nbytes for weight in part.parameters())
        self._read: Callable[[], nn.Module] | None = None

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._read is None:
                raise RuntimeError("nothing was said of how this part is read")
            return self._read()(*args, **kwargs)

        # Hooks tell a layer's arguments by the names that its forward has for them.
        forward.__signature__ = signature(part.forward)  # type: ignore[attr-defined]
        self.forward = forward


def below(layer: int) -> Parts:
    """What stands below a decoder layer, but for the embeddings: all that a prefix state holds."""

    def parts(hf: nn.Module, decoder: Decoder) -> Iterator[str]:
        layers = _name(hf, decoder.layers)
        yield from (f"{layers}.{number}" for number in range(layer))
        used = {_name(hf, part) for part in (decoder.body, decoder.head)}
        yield from _outside(hf, used)

    return parts


def from_layer(layer: int) -> Parts:
    """The decoder layers from one on: all that `below` leaves and that is large."""

    def parts(hf: nn.Module, decoder: Decoder) -> Iterator[str]:
        layers = _name(hf, decoder.layers)
        yield from (f"{layers}.{number}" for number in range(layer, len(decoder.layers)))

    return parts


def without(hf_class: Any, decoder_of: Callable[[Any], Decoder], parts: Parts) -> Any:
    """A class of models like another one's whose `parts` are not read.

    Args:
        hf_class: transformers' class.
        decoder_of: finds the roles of such a model.
        parts: which parts.
    """

    class Partial(hf_class):
        _keys_to_ignore_on_load_unexpected: Any

        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            names = list(parts(self, decoder_of(self)))
            for name in names:
                self.set_submodule(name, Unread(self.get_submodule(name)))
            # Weights without a place are no news here.
            ignored = set(self._keys_to_ignore_on_load_unexpected or ())
            unplaced = {rf"^{re.escape(name)}\." for name in names}
            self._keys_to_ignore_on_load_unexpected = ignored | unplaced

    # By these transformers knows how a stored model's weights are named.
    Partial.__name__, Partial.__module__ = hf_class.__name__, hf_class.__module__
    return Partial


def unread(hf: nn.Module) -> dict[str, Unread]:
    """The parts of a model that were not read yet, by name."""
    return {name: module for name, module in hf.named_modules() if isinstance(module, Unread)}


def unread_bytes(hf: nn.Module) -> int:
    """Bytes of the weights that were not read yet."""
    return sum(part.n_bytes for part in unread(hf).values())


def read_when_needed(
    hf: nn.Module, read: Callable[[], nn.Module], check: Callable[[], None] = lambda: None
) -> None:
    """Has the unread parts of a model read together, once a pass gets to one of them.

    Args:
        hf: the model.
        read: gives a model of the same class in which these parts are whole; called once.
        check: looks at the model that then is whole.
    """
    missing = unread(hf)

    def part_of(name: str) -> Callable[[], nn.Module]:
        def part() -> nn.Module:
            if unread(hf):
                log.info("a pass needs what was not read of the base model; it is read now")
                source = read()
                for missed in missing:
                    hf.set_submodule(missed, source.get_submodule(missed))
                check()
            return hf.get_submodule(name)

        return part

    for name, module in missing.items():
        module._read = part_of(name)


def _outside(hf: nn.Module, used: set[str]) -> Iterator[str]:
    """Names of the largest modules that hold no used one and lie in none."""
    waiting = [name for name, _ in hf.named_children()]
    for name in waiting:
        if name in used:
            continue
        if any(one.startswith(f"{name}.") for one in used):
            waiting += [f"{name}.{child}" for child, _ in hf.get_submodule(name).named_children()]
        else:
            yield name


def _name(hf: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in hf.named_modules() if module is part)
