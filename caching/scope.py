"""What all entries of one base model have in common, so that none is read for another one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from caching.entries import digest

# Relative error that arithmetic alone makes, of another order of sums or another batch.
_ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# The same where float32 is multiplied with the digits of TF32 or bfloat16 (trainer.matmul), and
# where weights are quantised: in 8 bits what counts as an outlier depends on the whole batch.
_MATMUL = {"high": 1e-2, "medium": 5e-2}
_QUANTISED = 5e-2


@dataclass(frozen=True)
class Scope:
    """A base model under one arithmetic.

    Attributes:
        label: how a user calls it.
        facts: whatever decides the numbers besides what is asked.
        dtype: in which it computes.
    """

    label: str
    facts: Mapping[str, str]
    dtype: torch.dtype

    @cached_property
    def name(self) -> str:
        """Of its entries' database."""
        return digest(json.dumps(dict(self.facts), sort_keys=True)).hex()

    @property
    def rounding(self) -> float:
        """Relative error up to which two results count as one; fewer digits anywhere widen it."""
        mixed = autocast(self.facts.get("device", "cpu"))
        return max(
            _ROUNDING.get(self.dtype, 0.0),
            _ROUNDING[mixed] if mixed else 0.0,
            _MATMUL.get(self.facts.get("matmul", ""), 0.0),
            0.0 if self.facts.get("quantised", "None") == "None" else _QUANTISED,
        )

    @property
    def is_exact(self) -> bool:
        """Whether a row's numbers are those of the row alone, whatever batch it stands in."""
        return self.rounding <= _ROUNDING[torch.float32]

    def key(self, kind: str, key: bytes) -> bytes:
        """An entry's key inside the scope: under mixed precision numbers are others."""
        return digest(kind, str(autocast(self.facts.get("device", "cpu"))), key)


def autocast(device: str) -> torch.dtype | None:
    """The number type of mixed precision; None where it is off."""
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)
