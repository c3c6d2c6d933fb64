"""How much memory a pass may hold beside the weights, from what the device has.

    budget = share * (free memory once the weights are there) / processes that share it

What can be large (a descent's moments, keys and values, logits at every position, a backward pass)
goes over its items in as many parts as the budget asks for. Parts change last digits at most, and
the budget is a power of two, so that what else runs on the machine rarely moves their borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig

from errors import ModelError
from models.device_memory import GB, device_memory

if TYPE_CHECKING:
    from models.editable import EditableModel

SHARE = 0.5  # of what is free; the rest is for states, gradients and what an allocator loses
CPU_MOST = 8 * 2**30  # more at once makes a CPU no faster
PASS_SHARE = 1 / 16  # of the budget, for what a layer holds while a pass runs
KEPT_SHARE = 1 / 4  # of the budget, for states of a turn that are kept and else read anew
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
        cls,
        device: torch.device,
        limit: float | int | None = None,
        *,
        processes: int = 1,
        reserved: int = 0,
    ) -> MemoryBudget:
        """The budget of a device as it is now: call it when the weights are there.

        Args:
            device: where passes run.
            limit: an integer: bytes; a fraction: this share of what is free; None: `SHARE` of it,
                and on a CPU `CPU_MOST` at most.
            processes: of this run that share the device.
            reserved: bytes of weights that each of them may still read.

        Raises:
            ModelError: the limit is more than the device has.
        """
        memory = device_memory(device)
        free = max(0, memory.free // processes - reserved)
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

    @property
    def kept(self) -> int:
        """Bytes of states that may be kept beside what comes in parts."""
        return int(KEPT_SHARE * self.bytes)

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


def layer_values(config: PretrainedConfig) -> int:
    """Values that one layer holds per token while it runs without gradients.

    Residual, norm, queries, keys, values, attention's output and its projection; of an MLP two
    branches and their product.
    """
    width: int = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None)
    return 8 * width + 3 * (4 * width if inner is None else int(inner))


def tokens_at_once(model: EditableModel) -> int:
    """Tokens that a pass over the decoder reads at once, packed rows being read in parts."""
    config = model.hf.config.get_text_config()
    return model.budget.fit(layer_values(config) * model.dtype.itemsize, share=PASS_SHARE)


def state_bytes(model: EditableModel, tokens: int) -> int:
    """Bytes of the state that enters a layer, and of the one that comes out of the next."""
    width: int = model.hf.config.get_text_config().hidden_size
    return 2 * tokens * width * model.dtype.itemsize


def decoder_bytes(model: EditableModel, tokens: int, longest: int) -> int:
    """Bytes of one layer at work on a part of what is read.

    Args:
        model: the base model.
        tokens: places that are read in all.
        longest: those that can only be read together.
    """
    config = model.hf.config.get_text_config()
    at_once = max(longest, min(tokens, tokens_at_once(model)))
    return at_once * layer_values(config) * model.dtype.itemsize


def logit_bytes(model: EditableModel, answers: int) -> int:
    """Bytes of the logits at some answer tokens in float32, and as much to rank them."""
    vocabulary: int = model.hf.config.get_text_config().vocab_size
    return 2 * answers * vocabulary * torch.float32.itemsize


def vision_bytes(model: EditableModel, pictures: int) -> int:
    """Bytes of one layer at work in a vision tower, over all patches of some pictures."""
    config = getattr(model.hf.config, "vision_config", None)
    sizes = [getattr(config, name, None) for name in ("image_size", "patch_size", "hidden_size")]
    if not pictures or not all(isinstance(size, int) for size in sizes):
        return 0  # a tower with sizes of its own; its features count among the decoder's tokens
    side, patch, _ = (int(size) for size in sizes if size is not None)
    patches = (side // patch) ** 2 + 1
    return pictures * patches * layer_values(config) * model.dtype.itemsize
