"""In which order edits are served, to every process its share, from any point on.

The order is a function of seed and epoch alone. In training, W processes with batches of B take
together what one process with batches of W * B would take, so a run on eight GPUs sees the same
edits per step as its one-GPU twin. In evaluation every edit is served exactly once: nothing is
repeated to fill the last batch, as a DistributedSampler would do. Processes get about as many
tokens each, not as many edits: the next edit, the longest first, goes to the process with the least
to read (longest processing time first, Graham 1969), so no two differ by more than one edit; in a
validation it is the next batch. Only
where there are fewer edits than processes is each process served all of them, for a process without
a batch would leave the others waiting: means stay what they are, and results go by the number of
the edit. The training loader knows how far it came, so a continued run goes on with the very next
batch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import distributed
from torch.utils.data import DataLoader, Sampler

from datamodules.records import NumberedRecord
from datamodules.workers import SendErrors, outlive_signals, received
from models.rows import EditBatch

Collate = Callable[[Sequence[NumberedRecord]], EditBatch]


def dealt(n_edits: int, n_updates: int) -> list[range]:
    """The edits of a batch, dealt out one by one to the updates that they are made in.

    Processes have a share of the edits each, one behind the other: dealt out in this way every
    update has the same edits, whatever the number of processes.

    >>> dealt(5, 2), dealt(1, 2)
    ([range(0, 5, 2), range(1, 5, 2)], [range(0, 1, 2)])
    """
    return [range(first, n_edits, n_updates) for first in range(min(n_updates, n_edits))]


class EditOrder(Sampler[list[int]]):
    """Batches of edit numbers for this process.

    Args:
        n_edits: size of the split.
        batch_size: edits per batch and process.
        seed: shuffles anew in every epoch; None serves the edits in order.
        accumulate: batches per optimiser step; an epoch ends with a whole one.
        leave_out: edits that need not be served when they are served in order. Batches keep their
            edits: one is left out as a whole or not at all.
        overfit: in training, the first so many batches of each process, the same in every epoch.
        tokens: of each edit, by which edits that are served in order are shared out; None: all are
            taken as equal.
        whole: batches of edits that follow each other are shared out and not edits, so that any
            number of processes makes the batches of one. A validation needs it: a batch's loss is
            made of means over its rows, and not every edit has rows of every kind.
    """

    def __init__(
        self,
        n_edits: int,
        batch_size: int,
        seed: int | None = None,
        accumulate: int = 1,
        leave_out: Collection[int] = (),
        overfit: int | None = None,
        tokens: Sequence[int] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.n_edits, self.batch_size, self.seed = n_edits, batch_size, seed
        self.accumulate, self.leave_out = accumulate, frozenset(leave_out)
        self.overfit, self.tokens, self.whole = overfit, tokens, whole
        self.epoch = 0
        self.done = 0  # batches of this epoch that were served already

    def __len__(self) -> int:
        rank, world = rank_and_world()
        if self.seed is not None:
            return self.batches_per_epoch(world)
        return len(self._in_order(rank, world))

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = rank_and_world()
        if self.seed is None:
            yield from self._in_order(rank, world)
            return
        order = self.taken(world)
        for step in range(self.done, self.batches_per_epoch(world)):
            start = (step * world + rank) * self.batch_size
            # A split smaller than one batch of all processes is taken round and round.
            yield [order[i % len(order)] for i in range(start, start + self.batch_size)]

    def taken(self, world: int) -> list[int]:
        """The edits that an epoch of training draws its batches from, in their order."""
        epoch = self.epoch if self.overfit is None else 0
        generator = torch.Generator().manual_seed((self.seed or 0) * 1_000_003 + epoch)
        order: list[int] = torch.randperm(self.n_edits, generator=generator).tolist()
        if self.overfit is None:
            return order
        return order[: self._batches(world) * self.batch_size * world]

    def batches_per_epoch(self, world: int) -> int:
        """Training batches of each of `world` processes: whole optimiser steps only."""
        return max(1, self._batches(world) // self.accumulate) * self.accumulate

    def _batches(self, world: int) -> int:
        """Whole batches that there are, or the one that is taken round and round."""
        batches = max(1, self.n_edits // (self.batch_size * world))
        if self.overfit is None:
            return batches
        batches = min(batches, self.overfit)
        # No edit is validated that no step trains on.
        return batches - (batches % self.accumulate if batches > self.accumulate else 0)

    def _in_order(self, rank: int, world: int) -> list[list[int]]:
        """This process's share of all edits."""
        if self.n_edits < world:
            rank, world = 0, 1
        tokens = [1] * self.n_edits if self.tokens is None else self.tokens
        if self.whole:
            # Smaller batches where one process would get none.
            batches = cut(range(self.n_edits), min(self.batch_size, self.n_edits // world))
        else:
            shares = [cut(share, self.batch_size) for share in balanced(tokens, world)]
            if not self.leave_out:
                return shares[rank]
            batches = [batch for share in shares for batch in share]
        needed = [batch for batch in batches if not self.leave_out.issuperset(batch)]
        # Whoever did the others, what is left is shared out anew.
        loads = [sum(tokens[edit] for edit in batch) for batch in needed]
        mine = [needed[number] for number in balanced(loads, world)[rank]]
        return mine or batches[-1:]  # no process is without a batch


def cut(edits: Sequence[int], size: int) -> list[list[int]]:
    """Batches of edits, in their order."""
    return [list(edits[start : start + size]) for start in range(0, len(edits), size)]


def balanced(loads: Sequence[int], n_shares: int) -> list[list[int]]:
    """Shares out numbered loads so that no two shares differ by more than the largest load.

    Returns:
        The numbers in each share, ascending; none is in two. Equal loads go round.
    """
    shares: list[list[int]] = [[] for _ in range(n_shares)]
    sums = [(0, share) for share in range(n_shares)]
    for number in sorted(range(len(loads)), key=lambda number: -loads[number]):
        total, share = sums[0]
        shares[share].append(number)
        heapq.heapreplace(sums, (total + loads[number], share))
    return [sorted(share) for share in shares]


class BatchLoader(DataLoader[EditBatch]):
    """Batches of some edits, prepared here or in other processes.

    Args:
        edits: what is served.
        order: their numbers, batch by batch: an order, or the batches themselves.
        collate: makes a batch; picklable, as processes need that are not forked.
        num_workers: processes that prepare batches; 0 prepares them here.
        pin_memory: whether batches lie where a GPU fetches them without waiting for it.

    Attributes:
        keeps_workers: whether the processes stay from one epoch to the next.
    """

    keeps_workers: ClassVar[bool] = False

    def __init__(
        self,
        edits: Sequence[NumberedRecord],
        order: EditOrder | Sequence[Sequence[int]],
        collate: Collate,
        num_workers: int = 0,
        *,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            edits,  # type: ignore[arg-type]
            batch_sampler=order,  # type: ignore[arg-type]
            collate_fn=SendErrors(collate) if num_workers else collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=self.keeps_workers and num_workers > 0,
            worker_init_fn=outlive_signals,
        )

    @property
    def order(self) -> EditOrder:
        """The order that it was given, where that is one and no list of batches."""
        assert isinstance(self.batch_sampler, EditOrder)
        return self.batch_sampler

    def __iter__(self) -> Iterator[EditBatch]:  # type: ignore[override]
        """The batches.

        Raises:
            TmkeError: one of them cannot be made, wherever it was to be made.
        """
        return received(super().__iter__())


class EditLoader(BatchLoader):
    """Training batches without end in sight: an epoch that was left is taken up where it was left.

    Lightning stores `state_dict` in its checkpoints and hands it back.
    """

    keeps_workers = True

    def __iter__(self) -> Iterator[EditBatch]:  # type: ignore[override]
        if self.order.done >= len(self.order):
            self.order.epoch, self.order.done = self.order.epoch + 1, 0
        for batch in super().__iter__():
            self.order.done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches served in it."""
        return {"epoch": self.order.epoch, "done": self.order.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.order.epoch, self.order.done = state["epoch"], state["done"]


def rank_and_world() -> tuple[int, int]:
    """Rank and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
