"""How much memory a pass may hold beside the weights, from what the device has.

    budget = share * (free memory once the weights are there) / processes that share it

What can be large (a descent's moments, keys and values, logits at every position, a backward pass)
goes over its items in as many parts as the budget asks for. Parts change last digits at most, and
the budget is a power of two, so that what else runs on the machine rarely moves their borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from errors import ModelError
from models.device_memory import GB, device_memory

SHARE = 0.5  # of what is free; the rest is for states, gradients and what an allocator loses
CPU_MOST = 8 * 2**30  # more at once makes a CPU no faster
KEY = "trainer.memory"


@dataclass(frozen=True)
class MemoryBudget:
    """What a pass may hold.

    Attributes:
        bytes: for whatever comes in parts.
        free: bytes of the device when it was looked at; None: nobody looked.
        device: its name.
    """

    bytes: int = CPU_MOST
    free: int | None = None
    device: str = "cpu"

    @classmethod
    def of(
        cls, device: torch.device, limit: float | int | None = None, *, processes: int = 1
    ) -> MemoryBudget:
        """The budget of a device as it is now: call it when the weights are there.

        Args:
            device: where passes run.
            limit: an integer: bytes; a fraction: this share of what is free; None: `SHARE` of it,
                and on a CPU `CPU_MOST` at most.
            processes: of this run that share the device.

        Raises:
            ModelError: the limit is more than the device has.
        """
        memory = device_memory(device)
        free = memory.free // processes
        if isinstance(limit, int):
            if limit > memory.total:
                raise ModelError(
                    f"{KEY}={limit / GB:g}GB is more than {memory.name} has: "
                    f"{memory.total / GB:.1f} GB, {memory.free / GB:.1f} of them free. Give less, "
                    f"or {KEY}=auto."
                )
            return cls(limit, free, memory.name)
        most = free if limit is not None or device.type != "cpu" else CPU_MOST
        room = min(most, int(free * (SHARE if limit is None else limit)))
        return cls(2 ** int(math.log2(max(1, room))), free, memory.name)

    def fit(self, each: int, *, share: float = 1.0) -> int:
        """How many items of so many bytes may be there at once, of a share of the budget; >= 1."""
        return max(1, int(self.bytes * share) // max(1, each))

    def check(self, needed: int, what: str, remedy: str) -> None:
        """Makes sure that the smallest item has a place at all.

        Args:
            needed: its bytes, and not one too many.
            what: it is, as the beginning of a sentence.
            remedy: what the user can do, as a sentence.

        Raises:
            ModelError: the device has not so much that is free.
        """
        if self.free is not None and needed > self.free:
            raise ModelError(
                f"{what} takes {needed / GB:.1f} GB, and {self.device} has {self.free / GB:.1f} GB "
                f"free beside the base model. {remedy}"
            )
