"""Rows of one edit in one sequence, where what they begin with stands once.

The probes of an edit share pictures, templates and often whole questions. A forest has what is
shared once: every token of a row is a node, and rows that begin alike share nodes. Laid out in
preorder, the nodes below a node are an interval right behind it, so the token at q may look at that
at k exactly where k <= q < end[k]: at its own row's past, and at nothing of another row. Positions
are depths. One pass over such sequences gives every row what a pass of its own gives, and does so
under edits too, since all rows of a sequence stand under one.

A sequence shows at most one picture. A question in text joins the sequence of a picture where that
makes no sequence longer than the longest. Edits in sequence are one edit, with the rows of a whole
batch: a sequence that has grown long takes no row more, since a mask grows with the square of its
length.

Sizes: R rows of T tokens, S sequences of L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.rows import TEXT_ONLY, Rows

_LONG = 2048  # places of a sequence; of rows that share half of what they are, twice as many
_BUCKET = 512  # places that a bucket has at least, where there are so many
_LIKE = 0.95  # of the longest sequence of a bucket


@dataclass(frozen=True)
class Packing:
    """Where the tokens of rows stand in sequences.

    Attributes:
        sequence: (R,) the sequence of each row.
        position: (R, T) where each of its tokens stands there; of padding, anywhere.
        real: (R, T) bool, which tokens are no padding.
        first: (S,) a row of each sequence.
        depth: (S, L) how many tokens of its rows stand before a token.
        end: (S, L) where the tokens end that may look at a token; of padding, right behind it.
        filled: (S, L) bool, which places hold a token.
    """

    sequence: Tensor
    position: Tensor
    real: Tensor
    first: Tensor
    depth: Tensor
    end: Tensor
    filled: Tensor

    def where(self, row: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Sequence and place there of some tokens of rows: (I,), (I,)."""
        return self.sequence[row], self.position[row, position]

    def mask(self) -> Tensor:
        """Which keys each query may look at: (S, 1, L, L) bool, the query's own among them."""
        place = torch.arange(self.end.shape[1], device=self.end.device)
        query, key = place[:, None], place[None, :]
        return ((key <= query) & (query < self.end[:, None, :]))[:, None]

    def source(self, tokens: Tensor, fill: Any = 0) -> Tensor:
        """What stands at each place, of values by row: (R, T) -> (S, L)."""
        row, token = self.real.nonzero(as_tuple=True)
        packed = tokens.new_full(self.filled.shape, fill)
        packed[self.where(row, token)] = tokens[row, token]
        return packed

    def select(self, rows: Tensor) -> tuple[Packing, Tensor, Tensor]:
        """The packing of some rows, without the tokens that only others need.

        Sequences stand in the order of their first selected row.

        Returns:
            The packing, of its sequences the old number (S',), and of its places the old place
            there (S', L').
        """
        n_sequences, length = self.filled.shape
        of_rows = self.sequence[rows]
        order = torch.full((n_sequences,), len(rows), device=rows.device)
        order.scatter_reduce_(0, of_rows, torch.arange(len(rows), device=rows.device), "amin")
        old = order.argsort(stable=True)[: int((order < len(rows)).sum())]
        new = torch.empty_like(order)
        new[old] = torch.arange(len(old), device=rows.device)
        real = self.real[rows]
        row, token = real.nonzero(as_tuple=True)
        needed = torch.zeros_like(self.filled)
        needed[of_rows[row], self.position[rows][row, token]] = True
        needed = needed[old]
        rank = needed.cumsum(1)  # of a place: needed ones up to it
        width = int(rank[:, -1].max())
        places = torch.arange(length, device=rows.device).expand_as(needed)
        kept = torch.where(needed, places, length).sort(1).values[:, :width]
        filled = kept < length
        kept = kept.clamp(max=length - 1)
        ends = rank.gather(1, (self.end[old] - 1).clamp(min=0)).gather(1, kept)
        behind = torch.arange(1, width + 1, device=rows.device)
        packing = Packing(
            sequence=new[of_rows],
            position=(rank[new[of_rows]].gather(1, self.position[rows]) - 1).clamp(min=0),
            real=real,
            first=order[old],
            depth=self.depth[old].gather(1, kept) * filled,
            end=torch.where(filled, ends, behind),
            filled=filled,
        )
        return packing, old, kept

    def apart(self, rows: Tensor) -> tuple[Packing, Tensor, Tensor]:
        """The packing of some rows, each in a sequence of its own; returns what `select` does."""
        real = self.real[rows]
        lengths = real.sum(1, keepdim=True)
        place = torch.arange(int(lengths.max()), device=rows.device)
        filled = place < lengths
        tokens = (
            (~real).int().argsort(dim=1, stable=True)[:, : len(place)]
        )  # real ones, in their order
        every = torch.arange(len(rows), device=rows.device)
        packing = Packing(
            sequence=every,
            position=(real.cumsum(1) - 1).clamp(min=0),
            real=real,
            first=every,
            depth=place * filled,
            end=torch.where(filled, lengths, place + 1),
            filled=filled,
        )
        return packing, self.sequence[rows], self.position[rows].gather(1, tokens)

    def buckets(self, most: int | None = None) -> Iterator[Tensor]:
        """Numbers of sequences of like length, the longest first; nearly no place is empty.

        Args:
            most: places of a bucket, where there is more than one sequence in it; None: any number.
        """
        lengths = self.filled.sum(1)
        order = lengths.argsort(descending=True, stable=True)
        start, sorted_lengths = 0, lengths[order].tolist()
        for number, length in enumerate(sorted_lengths):
            longest, n = sorted_lengths[start], number - start
            is_other = n * longest >= _BUCKET and length < _LIKE * longest
            is_full = most is not None and n and (n + 1) * longest > most
            if is_other or is_full:
                yield order[start:number].sort().values
                start = number
        yield order[start:].sort().values

    def part(self, numbers: Tensor) -> Packing:
        """The sequences of a bucket, no longer than the longest of them; rows stay all."""
        width = int(self.filled[numbers].sum(1).max())
        return replace(
            self,
            first=self.first[numbers],
            depth=self.depth[numbers, :width],
            end=self.end[numbers, :width],
            filled=self.filled[numbers, :width],
        )

    def to(self, device: torch.device) -> Packing:
        """The same packing on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return replace(self, **moved)


def packed_rows(rows: Rows, packing: Packing) -> Rows:
    """The tokens and pictures of sequences, as rows that can be embedded: (S, L)."""
    shown = rows.image_index.new_full((len(packing.first),), TEXT_ONLY)
    shown.scatter_reduce_(0, packing.sequence, rows.image_index, "amax")
    return replace(
        rows,
        input_ids=packing.source(rows.input_ids),
        attention_mask=packing.filled,
        answer_mask=packing.source(rows.answer_mask, fill=False),
        image_slots=packing.source(rows.image_slots, fill=False),
        image_index=shown,
        edit_index=rows.edit_index[packing.first],
        texts=(),
    )


class Bucket(NamedTuple):
    """Sequences of like length, which are read together.

    Attributes:
        numbers: (S',) which of the packing's sequences they are.
        packing: of these alone.
        rows: their tokens and pictures.
    """

    numbers: Tensor
    packing: Packing
    rows: Rows


def buckets_of(rows: Rows, packing: Packing, most: int | None = None) -> Iterator[Bucket]:
    """The sequences of packed rows as they are read, the longest first; `most` as in `buckets`."""
    tokens = packed_rows(rows, packing)
    for numbers in packing.buckets(most):
        part = packing.part(numbers)
        yield Bucket(numbers, part, tokens.select(numbers).cut(part.filled.shape[1]))


def pack(rows: Rows) -> Packing:
    """Packs the rows of every edit."""
    real = rows.attention_mask.cpu().numpy()
    tokens = rows.input_ids.cpu().numpy().astype(np.int64)
    pictures = rows.image_index.cpu().numpy()
    slots = rows.image_slots.cpu().numpy()
    # A slot is told from any token and from other pictures' slots.
    tokens = np.where(slots, -2 - pictures[:, None], tokens)
    edits = rows.edit_index.cpu().numpy()
    trees = [
        tree
        for edit in np.unique(edits)
        for tree in _trees((edits == edit).nonzero()[0], tokens, real, slots, pictures)
    ]
    return _laid_out(trees, real, edits).to(rows.input_ids.device)


@dataclass
class _Tree:
    """Rows that begin alike, in preorder.

    Attributes:
        shows: whether there is a picture in it.
        rows: number of a row -> places of its tokens.
        depths: of the tokens that each row adds.
        closed: places, and where what is below them ends.
    """

    shows: bool
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    depths: list[np.ndarray] = field(default_factory=list)
    closed: list[tuple[np.ndarray, int]] = field(default_factory=list)
    length: int = 0

    def add(self, row: int, n_tokens: int, beginning: np.ndarray, left: np.ndarray) -> None:
        """Adds a row.

        Args:
            row: its number.
            n_tokens: how many it has.
            beginning: places of those that it shares with the row before it.
            left: places of the tokens of that row that it does not share.
        """
        added = np.arange(self.length, self.length + n_tokens - len(beginning))
        self.closed.append((left, self.length))
        self.rows[row] = np.concatenate([beginning, added])
        self.depths.append(np.arange(len(beginning), n_tokens))
        self.length += len(added)

    def ends(self) -> np.ndarray:
        """Of each place, where the tokens end that may look at it."""
        ends = np.full(self.length, self.length)
        for places, end in self.closed:
            ends[places] = end
        return ends


def _trees(
    members: np.ndarray,
    tokens: np.ndarray,
    real: np.ndarray,
    slots: np.ndarray,
    pictures: np.ndarray,
) -> list[_Tree]:
    """The trees of one edit's rows, by picture; a tree shows its picture once."""
    paths = {int(row): tokens[row][real[row]] for row in members}
    order = sorted(paths, key=lambda row: (int(pictures[row]), paths[row].tolist()))
    trees: list[_Tree] = []
    previous: int | None = None
    for row in order:
        path, picture = paths[row], int(pictures[row])
        shown = slots[row][real[row]].nonzero()[0]
        shared = 0
        if previous is not None and picture == pictures[previous]:
            shared = _common(paths[previous], path)
        if (
            previous is None
            or picture != pictures[previous]
            or (
                len(shown) and shared <= shown[-1]  # the picture would stand there twice
            )
            or trees[-1].length + len(path) - shared
            > (_LONG if 2 * shared < len(path) else 2 * _LONG)
        ):
            trees.append(_Tree(shows=picture != TEXT_ONLY))
            trees[-1].add(row, len(path), path[:0], path[:0])
        else:
            before = trees[-1].rows[previous]
            trees[-1].add(row, len(path), before[:shared], before[shared:])
        previous = row
    return trees


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two paths begin with in common."""
    n = min(len(one), len(other))
    different = (one[:n] != other[:n]).nonzero()[0]
    return int(different[0]) if len(different) else n


def _laid_out(trees: list[_Tree], real: np.ndarray, edits: np.ndarray) -> Packing:
    """Sequences of one tree each, and with one of text at the end where there is room."""
    longest = max(tree.length for tree in trees)
    sequences: list[list[_Tree]] = []
    with_picture: dict[int, list[list[_Tree]]] = {}
    for tree in sorted(trees, key=lambda tree: not tree.shows):
        edit = int(edits[next(iter(tree.rows))])
        if not tree.shows:
            room = [
                one
                for one in with_picture.get(edit, [])
                if len(one) == 1 and one[0].length + tree.length <= longest
            ]
            if room:
                min(room, key=lambda one: one[0].length).append(tree)
                continue
        sequences.append([tree])
        if tree.shows:
            with_picture.setdefault(edit, []).append(sequences[-1])
    shape = (len(sequences), max(sum(tree.length for tree in one) for one in sequences))
    depth = np.zeros(shape, np.int64)
    end = np.tile(np.arange(1, shape[1] + 1), (shape[0], 1))
    filled = np.zeros(shape, bool)
    sequence = np.zeros(len(real), np.int64)
    position = np.zeros(real.shape, np.int64)
    for number, one in enumerate(sequences):
        start = 0
        for tree in one:
            stop = start + tree.length
            depth[number, start:stop] = np.concatenate(tree.depths)
            end[number, start:stop] = tree.ends() + start
            filled[number, start:stop] = True
            for row, places in tree.rows.items():
                sequence[row] = number
                position[row, real[row]] = places + start
            start = stop
    first = np.array([next(iter(one[0].rows)) for one in sequences])
    arrays = (sequence, position, real, first, depth, end, filled)
    return Packing(*map(torch.from_numpy, arrays))
