"""The network's state on entering a decoder layer: what the layers from there on need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from models.hooks import StopForwardError, pre_hook, stoppable
from models.keys_values import Beginning
from models.packing import Packing
from models.rows import Answers

_MASK_AXES = 4  # of a mask over sequences, heads, queries and keys


@dataclass(frozen=True)
class LayerState:
    """What enters a decoder layer, of sequences of one length.

    Attributes:
        hidden: (S, L, d).
        kwargs: kind of layer -> what the model hands to such a layer (masks, rotary tables, and the
            keys and values of what stands before these tokens, if anything does).
        packing: of all rows; None: sequences are rows.
        numbers: (S,) which of the packing's sequences these are.
    """

    hidden: Tensor
    kwargs: Mapping[str, Mapping[str, Any]]
    packing: Packing | None = None
    numbers: Tensor | None = None

    @cached_property
    def place_of(self) -> Tensor:
        """Of each of the packing's sequences its place here; -1 of those that stand elsewhere."""
        assert self.packing is not None
        assert self.numbers is not None
        place = torch.full_like(self.packing.first, -1)
        place[self.numbers] = torch.arange(len(self.numbers), device=place.device)
        return place

    @property
    def rows(self) -> Tensor:
        """Numbers of the rows that stand here, ascending."""
        if self.packing is None:
            return torch.arange(len(self.hidden), device=self.hidden.device)
        return (self.place_of[self.packing.sequence] >= 0).nonzero().squeeze(1)

    def where(self, row: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Indices into `hidden` of some tokens of rows: (I,), (I,)."""
        if self.packing is None:
            return row, position
        sequence, position = self.packing.where(row, position)
        return self.place_of[sequence], position

    def alone(self, kind: str) -> Tensor:
        """Tokens that look at nothing but themselves, in layers of a kind: (S, L) bool."""
        if self.packing is not None and self.numbers is not None:
            bucket = self.packing.part(self.numbers)
            return bucket.filled & (bucket.depth == 0)
        mask = self.kwargs[kind].get("attention_mask")
        if mask is None:  # each token looks at all before it
            place = torch.arange(self.hidden.shape[1], device=self.hidden.device)
            return (place == 0).expand(self.hidden.shape[:2])
        if mask.ndim == _MASK_AXES:
            seen = mask if mask.dtype == torch.bool else mask == 0
            return (seen[:, 0].sum(-1) == 1).expand(self.hidden.shape[:2])
        return mask.bool() & (mask.cumsum(1) == 1)  # of flash attention: which tokens are real

    def of_sequences(self, of_rows: Tensor) -> Tensor:
        """What holds for rows (R,) and is the same for all rows of a sequence: (S,)."""
        if self.packing is None or self.numbers is None:
            return of_rows
        return of_rows[self.packing.first[self.numbers]]

    def by_row(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values at the tokens of some rows (n,), of values where `hidden` is: (n, T, ...)."""
        if self.packing is None:
            return values[rows]
        sequence, position = self.packing.sequence[rows], self.packing.position[rows]
        return values[self.place_of[sequence][:, None], position]


@dataclass(frozen=True)
class PrefixState:
    """The network's state on entering decoder layer `layer`, for R rows.

    Attributes:
        parts: in sequences of one length each; one part where rows are not packed.
        answered: the unedited logits that were asked for last, and where, if they are kept at all
            (`remembering`); see `EditableModel.unedited`.
    """

    parts: tuple[LayerState, ...]
    layer: int
    answered: dict[str, tuple[Answers, Tensor]] | None = field(default=None, compare=False)

    def remembering(self) -> PrefixState:
        """The same, which keeps what the unedited model answers; so do selections of it."""
        return replace(self, answered={})

    @property
    def hidden(self) -> Tensor:
        """(R, T, d), or (S, L, d) of packed rows in one part.

        Raises:
            ValueError: there are several parts.
        """
        (part,) = self.parts
        return part.hidden

    def with_hidden(self, hidden: Tensor, layer: int | None = None) -> PrefixState:
        """The same with other vectors, or on entering another layer, of rows in one part.

        Raises:
            ValueError: there are several parts.
        """
        (part,) = self.parts
        entered = self.layer if layer is None else layer
        return PrefixState((replace(part, hidden=hidden),), entered)

    @property
    def row_bytes(self) -> int:
        """Bytes of the longest sequence."""
        return max(part.hidden[0].nbytes for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds: what enters a layer, and the masks and tables of layers."""
        held = [part.hidden for part in self.parts]

        def note(value: Any) -> Any:
            if isinstance(value, Tensor):
                held.append(value)
            return _inside(note, value)

        for part in self.parts:
            note(dict(part.kwargs))
        return sum({id(tensor): _extent(tensor) for tensor in held}.values())

    def at(self, sequence: Tensor, place: Tensor) -> Tensor:
        """What stands at places (I,) of packed sequences (I,), all parts together: (I, d)."""
        return self._gathered(sequence, place[:, None], [part.hidden for part in self.parts])[:, 0]

    def over(self, at: Answers, work: Callable[[LayerState, Answers], Tensor]) -> Tensor:
        """What `work` makes of some tokens of rows, part by part: (N, ...) in the order of `at`."""
        if len(self.parts) == 1:
            return work(self.parts[0], at)
        pieces, order = [], []
        for part in self.parts:
            assert part.packing is not None
            here = part.place_of[part.packing.sequence[at.row]] >= 0
            if bool(here.any()):
                pieces.append(work(part, at.where(here)))
                order.append(here.nonzero().squeeze(1))
        return torch.cat(pieces)[torch.cat(order).argsort()]

    def select(self, rows: Tensor, *, apart: bool = False) -> PrefixState:
        """The state of a selection of rows; of packed ones, no token that only others need.

        Args:
            rows: their numbers.
            apart: each of them in a sequence of its own, and all in one part, in their order.
        """
        part = self.parts[0]
        if part.packing is not None:
            return self._select_packed(part.packing, rows, apart=apart)

        def pick(value: Any) -> Any:
            if isinstance(value, Beginning):
                return Beginning.of(value, rows)
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == len(part.hidden):
                return value[rows]
            return _inside(pick, value)

        selected = LayerState(part.hidden[rows], pick(dict(part.kwargs)))
        return self._of_parts((selected,))

    def apart(self) -> PrefixState:
        """The same with every row in a sequence of its own, in one part."""
        packing = self.parts[0].packing
        if packing is None:
            return self
        every = torch.arange(len(packing.sequence), device=packing.sequence.device)
        return self.select(every, apart=True)

    def _select_packed(self, packing: Packing, rows: Tensor, *, apart: bool) -> PrefixState:
        selected, old, places = packing.apart(rows) if apart else packing.select(rows)
        every = torch.arange(len(old), device=old.device)
        parts = []
        for numbers in (every,) if apart else selected.buckets():
            bucket = selected.part(numbers)
            width = bucket.filled.shape[1]
            gather = partial(self._gathered, old[numbers], places[numbers, :width])
            parts.append(
                LayerState(
                    gather([part.hidden for part in self.parts]),
                    _merged([part.kwargs for part in self.parts], gather, bucket),
                    selected,
                    numbers,
                )
            )
        return self._of_parts(tuple(parts))

    def _of_parts(self, parts: tuple[LayerState, ...]) -> PrefixState:
        """Of other rows, about which nothing was asked yet."""
        return PrefixState(parts, self.layer, None if self.answered is None else {})

    def _gathered(self, old: Tensor, places: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Places (S', L') of old sequences (S',), of values of each part (S, L, ...)."""
        gathered = values[0].new_zeros(*places.shape, *values[0].shape[2:])
        for part, value in zip(self.parts, values, strict=True):
            place = part.place_of[old]
            here = place >= 0
            inside = places[here].clamp(max=value.shape[1] - 1)
            gathered[here] = value[place[here][:, None], inside]
        return gathered


def attention_mask(packing: Packing, dtype: torch.dtype) -> Tensor:
    """Which keys each query may look at, as layers take it: (S, 1, L, L)."""
    return as_mask(packing.mask(), dtype)


def mask_dtype(attention: str, dtype: torch.dtype) -> torch.dtype | None:
    """Number type of a mask (S, 1, L, L) under an implementation of attention; None: takes none."""
    return {"sdpa": torch.bool, "eager": dtype}.get(attention)


def as_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of bool, or of numbers to add: 0 where a key is seen, else the lowest one."""
    if dtype == torch.bool:
        return seen
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest)


def _merged(
    of_parts: Sequence[Any], gather: Callable[[Sequence[Tensor]], Tensor], packing: Packing
) -> Any:
    """What layers are handed, of sequences that are gathered from several parts."""
    first = of_parts[0]
    if isinstance(first, Mapping):
        return {k: _merged([of[k] for of in of_parts], gather, packing) for k in first}
    if isinstance(first, tuple):
        return tuple(_merged(items, gather, packing) for items in zip(*of_parts, strict=True))
    if not isinstance(first, Tensor):
        return first
    if first.ndim == _MASK_AXES:
        return attention_mask(packing, first.dtype)
    return gather(of_parts)


def _inside(pick: Callable[[Any], Any], value: Any) -> Any:
    """Tuples and dicts with what `pick` makes of what is in them."""
    if isinstance(value, tuple):
        return tuple(pick(item) for item in value)
    return {k: pick(v) for k, v in value.items()} if isinstance(value, dict) else value


def _extent(tensor: Tensor) -> int:
    """Bytes from its first number to its last; what is expanded lies there once."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    reach = sum((size - 1) * stride for size, stride in steps) + 1 if tensor.numel() else 0
    return reach * tensor.itemsize


@dataclass
class StateCollector:
    """Collects a `PrefixState` while a forward pass runs."""

    layer: int
    hidden: list[Tensor] = field(default_factory=list)
    kwargs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def part(self, packing: Packing | None = None, numbers: Tensor | None = None) -> LayerState:
        return LayerState(self.hidden[0], self.kwargs, packing, numbers)

    def state(self) -> PrefixState:
        return PrefixState((self.part(),), self.layer)


@contextmanager
def stop_on_entering(
    layers: nn.ModuleList, layer: int, kind: Callable[[int], str], device: torch.device
) -> Iterator[StateCollector]:
    """Ends the forward pass inside the block once the state on entering a layer is known.

    Args:
        layers: all decoder layers.
        layer: the one that is entered.
        kind: number of a layer -> its kind. Each kind is handed its own masks and rotary tables, so
            the pass goes on until a layer of every kind was reached.
        device: where the state goes; of a model that is spread a layer may be somewhere else.
    """
    collector = StateCollector(layer)
    first: dict[str, int] = {}  # the lowest layer of each kind
    for number in range(layer, len(layers)):
        first.setdefault(kind(number), number)

    def stop_at(name: str) -> Callable[..., None]:
        parameters = tuple(signature(layers[first[name]].forward).parameters)

        def stop(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            given = dict(zip(parameters, args, strict=False)) | kwargs
            collector.hidden.append(given.pop("hidden_states").to(device))
            collector.kwargs[name] = given
            if len(collector.kwargs) == len(first):
                raise StopForwardError

        return stop

    with ExitStack() as stack:
        stack.enter_context(stoppable())
        for name, number in first.items():
            stack.enter_context(pre_hook(layers[number], stop_at(name)))
        yield collector
