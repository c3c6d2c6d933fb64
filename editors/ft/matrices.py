"""Adam and AdamW on whole matrices, one for each edit, whose gradients are never written out.

    g = sum_t delta_t x_t^T      over the tokens of an edit: x what enters the map, delta = dL/dy

A gradient of so low a rank is multiplied out a block of rows at a time, and the fused Adam of torch
takes the block while it is in the cache. A step then moves 24 bytes a weight through the memory,
the least that Adam can: the matrix and its two moments, read and written once. Weight decay and
FT-L's bound are applied to the same block. Every edit has moments of its own, which are let go when
it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam

from metrics.precision import single, without_autocast
from models.deltas import Delta, DenseDelta, LowRankDelta

# Of a gradient at once: what a CPU's cache holds; elsewhere blocks cost launches.
CPU_BLOCK_BYTES, BLOCK_BYTES = 4 * 2**20, 256 * 2**20


@dataclass(frozen=True)
class Rule:
    """How a matrix moves.

    Attributes:
        lr: step size.
        weight_decay: on W + move.
        decoupled: AdamW's decay; otherwise it is added to the gradient, as Adam does.
        bound: the furthest that any weight may move; None: as far as it likes.
    """

    lr: float
    weight_decay: float = 0.0
    decoupled: bool = False
    bound: float | None = None


class _Moments(NamedTuple):
    """Running means of the gradient and of its square, and the steps behind them."""

    first: Tensor
    second: Tensor
    step: Tensor


class Matrices:
    """How one matrix moves under B edits, each by itself.

    Args:
        weight: where all of them start: (d_out, d_in).
        n_edits: B.
        rule: how they move.

    Attributes:
        moves: (B, d_out, d_in) in float32 or better.
    """

    def __init__(self, weight: Tensor, n_edits: int, rule: Rule) -> None:
        self._weight, self._rule = weight, rule
        self.moves = torch.zeros(
            n_edits, *weight.shape, dtype=single(weight.dtype), device=weight.device
        )
        self._moments: dict[int, _Moments] = {}
        d_out, d_in = weight.shape
        room = CPU_BLOCK_BYTES if weight.device.type == "cpu" else BLOCK_BYTES
        self._height = min(d_out, max(1, room // (d_in * self.moves.itemsize)))
        self._gradient = self.moves.new_empty(self._height, d_in)

    @torch.no_grad()
    def step(self, edit: int, gradient: Delta) -> None:
        """Takes one step of an edit.

        Args:
            edit: its number.
            gradient: of its loss, E = 1: pairs of the gradients at the map's output (n, d_out) and
                the inputs there (n, d_in), or the matrix that they add up to.
        """
        move, rule = self.moves[edit], self._rule
        if isinstance(gradient, LowRankDelta):
            gradient = LowRankDelta(gradient.inputs.to(move.dtype), gradient.outputs.to(move.dtype))
        moments = self._moments_of(edit)
        before = moments.step.clone()
        with without_autocast(move.device):
            for rows in self._blocks():
                block, weight = move[rows], self._weight[rows]
                of_block = self._rows_of(gradient, rows)
                if rule.weight_decay and not rule.decoupled:
                    of_block.add_(weight + block, alpha=rule.weight_decay)
                moments.step.copy_(before)
                adam(
                    [block], [of_block], [moments.first[rows]], [moments.second[rows]], [],
                    [moments.step], fused=True, amsgrad=False, has_complex=False, maximize=False,
                    beta1=0.9, beta2=0.999, eps=1e-8, lr=rule.lr,
                    weight_decay=rule.weight_decay if rule.decoupled else 0.0,
                    decoupled_weight_decay=rule.decoupled,
                )  # fmt: skip
                if rule.weight_decay and rule.decoupled:
                    # W + move decays, of which Adam has seen the move alone.
                    block.sub_(weight, alpha=rule.lr * rule.weight_decay)
                if rule.bound is not None:
                    block.clamp_(-rule.bound, rule.bound)

    def finish(self, edits: Iterable[int]) -> None:
        """Lets go what only further steps of some edits would need."""
        for edit in edits:
            self._moments.pop(edit, None)

    def _moments_of(self, edit: int) -> _Moments:
        if edit not in self._moments:
            zeros = torch.zeros_like(self.moves[edit])
            step = torch.zeros((), device=zeros.device)
            self._moments[edit] = _Moments(zeros, zeros.clone(), step)
        return self._moments[edit]

    def _rows_of(self, gradient: Delta, rows: slice) -> Tensor:
        """Some rows of a gradient, in a place of their own that may be written on."""
        if isinstance(gradient, DenseDelta):
            whole = gradient.weight[0, rows]
            return self._gradient[: len(whole)].copy_(whole)
        outputs = gradient.outputs[0, :, rows]
        return torch.mm(outputs.mT, gradient.inputs[0], out=self._gradient[: outputs.shape[1]])

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self._weight), self._height):
            yield slice(start, start + self._height)
