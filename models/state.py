"""The network's state on entering a decoder layer: what the layers from there on need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

from torch import Tensor, nn

from models.hooks import StopForwardError, pre_hook, stoppable
from models.keys_values import Beginning


@dataclass(frozen=True)
class PrefixState:
    """The network's state on entering decoder layer `layer`.

    Attributes:
        hidden: (R, T, d).
        kwargs: kind of layer -> what the model hands to such a layer (masks, rotary tables, and the
            keys and values of what stands before these tokens, if anything does).
    """

    hidden: Tensor
    layer: int
    kwargs: Mapping[str, Mapping[str, Any]]

    def select(self, rows: Tensor) -> PrefixState:
        """The state of a selection of rows."""

        def pick(value: Any) -> Any:
            if isinstance(value, Beginning):
                return Beginning.of(value, rows)
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == len(self.hidden):
                return value[rows]
            if isinstance(value, tuple):
                return tuple(pick(item) for item in value)
            return {k: pick(v) for k, v in value.items()} if isinstance(value, dict) else value

        return replace(self, hidden=self.hidden[rows], kwargs=pick(dict(self.kwargs)))


@dataclass
class StateCollector:
    """Collects a `PrefixState` while a forward pass runs."""

    layer: int
    hidden: list[Tensor] = field(default_factory=list)
    kwargs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def state(self) -> PrefixState:
        return PrefixState(self.hidden[0], self.layer, self.kwargs)


@contextmanager
def stop_on_entering(
    layers: nn.ModuleList, layer: int, kind: Callable[[int], str]
) -> Iterator[StateCollector]:
    """Ends the forward pass inside the block once the state on entering a layer is known.

    Args:
        layers: all decoder layers.
        layer: the one that is entered.
        kind: number of a layer -> its kind. Each kind is handed its own masks and rotary tables, so
            the pass goes on until a layer of every kind was reached.
    """
    collector = StateCollector(layer)
    first: dict[str, int] = {}  # the lowest layer of each kind
    for number in range(layer, len(layers)):
        first.setdefault(kind(number), number)

    def stop_at(name: str) -> Callable[..., None]:
        parameters = tuple(signature(layers[first[name]].forward).parameters)

        def stop(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            given = dict(zip(parameters, args, strict=False)) | kwargs
            collector.hidden.append(given.pop("hidden_states"))
            collector.kwargs[name] = given
            if len(collector.kwargs) == len(first):
                raise StopForwardError

        return stop

    with ExitStack() as stack:
        stack.enter_context(stoppable())
        for name, number in first.items():
            stack.enter_context(pre_hook(layers[number], stop_at(name)))
        yield collector
