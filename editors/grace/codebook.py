"""GRACE's codebook (Hartvigsen et al. 2023, section 2 and algorithm 1).

An entry is a key K_i, the value V_i, a deferral radius epsilon_i and the label Y_i, the answer that
was taught. Of an edit with key h and label y, d the distance to the nearest key K_i:

    add      no key, or d > epsilon_i + epsilon_init        (h, v, epsilon_init, y)
    expand   otherwise, and y = Y_i                          epsilon_i <- max(epsilon_i, d)
    split    otherwise, and y != Y_i                         (h, v, d / 2, y), epsilon_i <- d / 2

Two things are said here that the paper leaves open. A split makes no radius larger: one that was
below d / 2 stays. An edit of the very prompt of entry i, or of another prompt with exactly its key,
cannot be told from it by any radius, so a later answer takes the place of the earlier one: d / 2 of
a split would be 0, and the earlier entry, the first of two that are equally near, would answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from errors import ModelError
from metrics.precision import single
from models.tensor_file import TensorFile
from results.files import replacing

# The prompt that a radius grew to is computed again in other batches, with other last digits: the
# radius is larger by a share of the distance, and by so many last digits of the key.
EXPAND = 1 + 1e-3
LAST_DIGITS = 4


@dataclass(frozen=True)
class Entries:
    """Edits as they were taught, in their order.

    Attributes:
        keys: (K, d_in) what entered the map at each prompt's last token.
        values: (K, d_out) what it is to put out instead.
        labels: the answer's tokens of each.
        prompts: what tells each prompt, its picture included, from any other.
    """

    keys: Tensor
    values: Tensor
    labels: tuple[tuple[int, ...], ...]
    prompts: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """Those of all parts, one behind the other."""
        return cls(
            torch.cat([part.keys for part in parts]),
            torch.cat([part.values for part in parts]),
            tuple(label for part in parts for label in part.labels),
            tuple(prompt for part in parts for prompt in part.prompts),
        )

    def select(self, numbers: Sequence[int]) -> Entries:
        """Some of them, in the order given."""
        index = torch.tensor(numbers, dtype=torch.int64, device=self.keys.device)
        return Entries(
            self.keys[index],
            self.values[index],
            tuple(self.labels[number] for number in numbers),
            tuple(self.prompts[number] for number in numbers),
        )

    def save(self, path: Path) -> None:
        """Writes them into one file, in their number types.

        Raises:
            UnwritableError: naming the file, which is as it was.
        """
        tensors = {"keys": self.keys, "values": self.values}
        facts = {
            "labels": json.dumps(self.labels),
            "prompts": json.dumps([prompt.hex() for prompt in self.prompts]),
        }
        with replacing(path) as temporary:
            save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, temporary, facts)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Entries:
        """Reads what `save` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        remedy = "Copy the folder again, or save the edit again."
        file = TensorFile.of(path, remedy=remedy)
        file.check_shapes({"keys": (None, None), "values": (None, None)})
        try:
            labels = tuple(map(tuple, json.loads(file.facts["labels"])))
            prompts = tuple(map(bytes.fromhex, json.loads(file.facts["prompts"])))
        except (KeyError, ValueError, TypeError) as error:
            raise ModelError(
                f"{path} does not say which prompts and answers its entries are of "
                f"({type(error).__name__}: {error}). {remedy}"
            ) from error
        shapes = file.shapes
        lengths = (shapes["keys"][0], shapes["values"][0], len(labels), len(prompts))
        if len(set(lengths)) > 1:
            raise ModelError(
                "{} has {} keys, {} values, {} labels and {} prompts, and one of each for an entry "
                "is expected. {}".format(path, *lengths, remedy)
            )
        tensors = file.read(device=device)
        return cls(tensors["keys"], tensors["values"], labels, prompts)


@dataclass(frozen=True)
class Codebook:
    """M entries with their radii.

    Attributes:
        radii: (M,) epsilon_i.
    """

    entries: Entries
    radii: Tensor

    def __len__(self) -> int:
        return len(self.radii)

    @classmethod
    def of(
        cls, entries: Entries, *, epsilon_init: float, earlier: Codebook | None = None
    ) -> Codebook:
        """A codebook with some edits added in their order.

        Args:
            entries: the edits.
            epsilon_init: radius of a new entry.
            earlier: what is in it already.
        """
        n, every = 0, entries
        if earlier is not None:
            n, every = len(earlier), Entries.joined([earlier.entries, entries])
        keys, values = every.keys.to(single(every.keys.dtype)), every.values.clone()
        rounded = LAST_DIGITS * torch.finfo(every.keys.dtype).eps
        radii = torch.full_like(keys[:, 0], epsilon_init)
        if earlier is not None:
            radii[:n] = earlier.radii
        labels, source = list(every.labels), list(range(n))  # of what becomes an entry
        apart = _distances(keys[n:], keys).cpu()
        for new in range(n, len(every)):
            i, distance = -1, torch.inf
            if source:
                nearest = apart[new - n, source].min(0)
                i, distance = source[int(nearest.indices)], float(nearest.values)
            if i < 0 or distance > radii[i] + epsilon_init:
                source.append(new)
            elif labels[i] == labels[new]:
                off = rounded * float(keys[new].norm())
                radii[i] = max(float(radii[i]), distance * EXPAND, distance + off)
            elif distance == 0 or every.prompts[i] == every.prompts[new]:
                labels[i], values[i] = labels[new], values[new]
                radii[i] = min(float(radii[i]), epsilon_init)
            else:
                radii[new] = distance / 2
                radii[i] = min(float(radii[i]), distance / 2)
                source.append(new)
        kept = Entries(every.keys, values, tuple(labels), every.prompts).select(source)
        return cls(kept, radii[source])

    @classmethod
    def side_by_side(cls, books: Sequence[Codebook]) -> Codebook:
        """The entries of several codebooks that know nothing of each other."""
        entries = Entries.joined([book.entries for book in books])
        return cls(entries, torch.cat([book.radii for book in books]))

    def lookup(self, queries: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The nearest entry of each query, where that lies within its radius.

        Args:
            queries: (Q, d_in).
            allowed: (Q, M) bool, entries that a query may see; default all.

        Returns:
            (Q,) number of the entry; -1 where the map's own output stays.
        """
        keys = self.entries.keys
        queries, keys = (vectors.to(single(vectors.dtype)) for vectors in (queries, keys))
        distances = _distances(queries, keys)
        if allowed is not None:
            distances = distances.masked_fill(~allowed, torch.inf)
        nearest = distances.min(-1)
        return torch.where(nearest.values <= self.radii[nearest.indices], nearest.indices, -1)


def _distances(queries: Tensor, keys: Tensor) -> Tensor:
    """(Q, d_in), (M, d_in) -> (Q, M)."""
    # Products of such vectors would have lost the digits that a small distance is made of.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(queries[None], keys[None], compute_mode=mode)[0]
