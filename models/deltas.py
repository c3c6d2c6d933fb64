"""Per-row weight deltas: B edits of the same frozen layers, side by side in one forward pass.

An edit of a linear map y = W x is a value, not a changed W. A row answered under edit e gets

    y = W x + (x A_e^T) B_e        (low rank: MEND's factor pairs, ROME's rank one)
    y = W x + x D_e^T              (dense: FT)

added by forward hooks, so the base weights never change and no d_out x d_in matrix is built where
factors do. The sum is formed in activation space, where an update far below half an ulp of a
bfloat16 weight still counts; and it is formed in float32, since float16 knows no factor below
3e-8: only the sum is rounded to the activations' type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from errors import ModelError
from metrics.precision import single, without_autocast
from models.offloaded import tensor_of
from models.sites import ROLES, Role


class Site(NamedTuple):
    """A linear map of a decoder layer by its role there."""

    layer: int
    role: Role

    @property
    def key(self) -> str:
        """Its name in files, as `3.mlp_out`."""
        return f"{self.layer}.{self.role}"

    @classmethod
    def of_key(cls, key: str) -> Site | None:
        """The site of a name in a file; None where it is no such name."""
        layer, _, role = key.partition(".")
        named = next((one for one in ROLES if one == role), None)
        return None if named is None or not layer.isdecimal() else cls(int(layer), named)


@dataclass(frozen=True)
class LowRankDelta:
    """D_e = sum_i outputs[e, i] (outer) inputs[e, i].

    Attributes:
        inputs: (E, n, d_in), zero rows where an edit has fewer than n pairs.
        outputs: (E, n, d_out).
    """

    inputs: Tensor
    outputs: Tensor

    @property
    def n_edits(self) -> int:
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    def of(self, edits: Tensor) -> LowRankDelta:
        """The factors of some edits, as often as they are named: (G,) -> G edits."""
        return LowRankDelta(self.inputs[edits], self.outputs[edits])

    def __call__(self, x: Tensor) -> Tensor:
        """(E, M, d_in) -> (E, M, d_out) in float32 or better."""
        x = x.to(single(x.dtype))
        with without_autocast(x.device):
            return (x @ self.inputs.to(x.dtype).mT) @ self.outputs.to(x.dtype)

    def dense(self) -> Tensor:
        """(E, d_out, d_in) in float32 or better."""
        with without_autocast(self.inputs.device):
            outputs, inputs = (f.to(single(f.dtype)) for f in (self.outputs, self.inputs))
            return outputs.mT @ inputs

    def detach(self) -> LowRankDelta:
        return LowRankDelta(self.inputs.detach(), self.outputs.detach())

    def compact(self) -> LowRankDelta | DenseDelta:
        """The same, in the form of fewer numbers: pairs, or the matrix that they add up to."""
        (_, n_pairs, d_in), d_out = self.inputs.shape, self.outputs.shape[-1]
        pairs_are_fewer = n_pairs * (d_in + d_out) <= d_in * d_out
        return self if pairs_are_fewer else DenseDelta(self.dense())


@dataclass(frozen=True)
class DenseDelta:
    """One full delta per edit.

    Attributes:
        weight: (E, d_out, d_in).
    """

    weight: Tensor

    @property
    def n_edits(self) -> int:
        return len(self.weight)

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def __call__(self, x: Tensor) -> Tensor:
        """(E, M, d_in) -> (E, M, d_out) in float32 or better."""
        return torch.stack(self.each(x.unbind(), range(len(x))))

    def each(self, groups: Iterable[Tensor], edits: Iterable[int]) -> list[Tensor]:
        """What each edit makes of its own vectors, (M, d_in) -> (M, d_out).

        One edit after the other: a stack of some matrices would be a copy of them, and a product of
        stacks, of large matrices and few vectors, is slow on a CPU, backward above all.
        """
        weights, moved = self.weight.unbind(), []
        for edit, x in zip(edits, groups, strict=True):
            x = x.to(single(x.dtype))
            with without_autocast(x.device):
                moved.append(F.linear(x, weights[edit].to(x.dtype)))
        return moved

    def dense(self) -> Tensor:
        """(E, d_out, d_in)."""
        return self.weight

    def detach(self) -> DenseDelta:
        return DenseDelta(self.weight.detach())


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear map; GPT-2's Conv1D keeps its weight transposed."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]


def linear_weight(module: nn.Module) -> Tensor:
    """The weight as (d_out, d_in), whichever way it is stored; a quantised one is a dense copy."""
    weight = tensor_of(module, "weight")
    if not weight.is_floating_point():
        return _dequantised(module, weight)
    return weight.detach().mT if isinstance(module, Conv1D) else weight.detach()


@torch.no_grad()
def _dequantised(module: nn.Module, weight: Tensor) -> Tensor:
    """What a layer of bitsandbytes multiplies with: 8-bit codes by row, or 4-bit ones by block."""
    from bitsandbytes import functional  # slow to load, and only such layers need it

    blocks = getattr(weight, "quant_state", None)
    if blocks is not None:
        return functional.dequantize_4bit(weight.data, blocks)
    rows = module.state_dict()["SCB"]  # the first forward pass moves it about in the module
    return functional.int8_vectorwise_dequant(weight.data, rows)


Delta: TypeAlias = LowRankDelta | DenseDelta
Deltas: TypeAlias = Mapping[Site, Delta]


def join_deltas(first: Delta, then: Delta) -> Delta:
    """Two deltas of one map as one, the second on top of the first.

    Factor pairs stand side by side as long as they are fewer numbers than the matrix has
    (`LowRankDelta.compact`); what is larger, and what is dense already, is added up.
    """
    if not (isinstance(first, LowRankDelta) and isinstance(then, LowRankDelta)):
        return DenseDelta(first.dense() + then.dense())
    inputs = torch.cat([first.inputs, then.inputs], 1)
    outputs = torch.cat([first.outputs, then.outputs], 1)
    return LowRankDelta(inputs, outputs).compact()


class Groups:
    """Items (rows, or answer tokens) sorted into one padded group per edit.

    Args:
        edit_index: (I,) the edit of each item.
        n_edits: E.
        present: whether edits without an item get no group; otherwise theirs is all padding.

    Attributes:
        edits: (G,) the edit of each group; None where every edit has one.
        mask: (G, largest) false on padding.
        is_full: whether there is no padding.
    """

    def __init__(self, edit_index: Tensor, n_edits: int, *, present: bool = False) -> None:
        self.edit_index, self.edits = edit_index, None
        counts = edit_index.bincount(minlength=n_edits)
        if present and not bool(counts.all()):
            self.edits, edit_index = edit_index.unique(return_inverse=True)
            counts = counts[self.edits]
        largest = int(counts.max())
        order = edit_index.argsort(stable=True)
        start = counts.cumsum(0) - counts
        slot = torch.arange(len(order), device=order.device) - start[edit_index[order]]
        flat = edit_index[order] * largest + slot
        self.n_items, self.n_groups, self.largest = len(edit_index), len(counts), largest
        self._order, self._sorted = order, bool((edit_index[1:] >= edit_index[:-1]).all())
        self._place = torch.empty_like(order)
        self._place[order] = flat
        self._item = order.new_zeros(len(counts) * largest)
        self._item[flat] = order
        mask = torch.zeros(len(counts) * largest, dtype=torch.bool, device=order.device)
        mask[flat] = True
        self.mask = mask.view(len(counts), largest)
        self.is_full = bool(mask.all())
        self._aligned = self.is_full and bool((self._place[1:] > self._place[:-1]).all())

    def split(self, items: Tensor) -> Tensor:
        """(I, ...) -> (G, largest, ...); padding repeats some item, see `mask`."""
        flat = items if self._aligned else items[self._item]
        return flat.view(self.n_groups, self.largest, *items.shape[1:])

    def join(self, groups: Tensor) -> Tensor:
        """(G, largest, ...) -> (I, ...), the inverse of `split`."""
        flat = groups.flatten(0, 1)
        return flat if self._aligned else flat[self._place]

    def per_item(self, tensor: Tensor) -> Tensor:
        """A layer's tensor as (I, M, d), whether it came as (I, M, d), (I * M, d) or (I, d)."""
        return tensor.reshape(self.n_items, -1, tensor.shape[-1])

    def moved(self, delta: Delta, items: Tensor) -> Tensor:
        """What an edited map adds for each item: (I, M, d_in) -> (I, M, d_out).

        A long item gets factors of its own; what is shorter than they are, and what a whole matrix
        multiplies, stands together with the others of its edit.
        """
        if isinstance(delta, DenseDelta):
            return self._moved_by_matrices(delta, items)
        n_tokens = items.shape[1]
        if delta.n_edits == 1:  # the one edit's factors are used where they are
            return delta(items.flatten(0, 1)[None]).view(self.n_items, n_tokens, -1)
        if n_tokens >= delta.inputs.shape[1]:
            return delta.of(self.edit_index)(items)
        delta = delta if self.edits is None else delta.of(self.edits)
        moved = delta(rearrange(self.split(items), "g p m d -> g (p m) d"))
        return self.join(rearrange(moved, "g (p m) d -> g p m d", m=n_tokens))

    def _moved_by_matrices(self, delta: DenseDelta, items: Tensor) -> Tensor:
        """The same of whole matrices, whose groups need no padding."""
        counts = self.edit_index.bincount(minlength=delta.n_edits).tolist()
        edits = [edit for edit, count in enumerate(counts) if count]
        together = items if self._sorted else items[self._order]
        groups = together.split([counts[edit] for edit in edits])
        moved = torch.cat(delta.each((group.flatten(0, 1) for group in groups), edits))
        moved = moved.view(*items.shape[:2], -1)
        return moved if self._sorted else moved[self._order.argsort()]


@contextmanager
def apply_deltas(
    linears: Mapping[Site, nn.Module], deltas: Deltas, groups: Groups | None
) -> Iterator[None]:
    """Adds each delta to the output of its linear map inside the block, and only there.

    Args:
        linears: the maps to edit; sites without a delta stay as they are.
        deltas: one delta per site.
        groups: which item is answered under which edit; None when nothing is to be applied.
    """

    def hook_for(delta: Delta, grouping: Groups) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = args[0].to(delta.device)
            return _added(output, grouping.moved(delta, grouping.per_item(x)))

        return hook

    with ExitStack() as stack:
        for site, module in linears.items():
            if groups is not None and site in deltas:
                handle = module.register_forward_hook(hook_for(deltas[site], groups))
                stack.callback(handle.remove)
        yield


def _added(output: Tensor, moved: Tensor) -> Tensor:
    """The sum, rounded once: to the type of a map's output."""
    return (output + moved.reshape(output.shape).to(output.device)).to(output.dtype)


@contextmanager
def apply_to_every_row(linears: Mapping[Site, nn.Module], deltas: Deltas) -> Iterator[None]:
    """Adds one edit's deltas to whatever passes through their maps inside the block.

    Hooks that are put in later (`apply_deltas`, `models.hooks`) see the outputs with the deltas
    added.

    Args:
        linears: the maps.
        deltas: one for each map, E = 1.

    Raises:
        ModelError: they are of several edits, of which a row could only be under one.
    """
    if any(delta.n_edits != 1 for delta in deltas.values()):
        raise ModelError("deltas of several edits side by side cannot be in place; join them.")

    def hook_for(delta: Delta) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = args[0].to(delta.device)
            moved = delta(x.reshape(1, -1, x.shape[-1]))  # (1, tokens, d_out)
            return _added(output, moved)

        return hook

    with ExitStack() as stack:
        for site, module in linears.items():
            stack.callback(module.register_forward_hook(hook_for(deltas[site])).remove)
        yield
