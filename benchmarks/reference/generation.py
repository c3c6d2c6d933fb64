"""Greedy decoding without a cache: a whole pass over everything for every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.reference.passes import Reference, Row, Weights


def continued(
    reference: Reference,
    prompt: Row,
    weights: Weights,
    longest: int,
    ended: Callable[[Sequence[int]], bool],
) -> list[int]:
    """What the edited model says after a prompt, one token after the other.

    Args:
        reference: asks.
        prompt: without an answer.
        weights: edited ones.
        longest: tokens at most.
        ended: whether an answer has come to its end.
    """
    said: list[int] = []
    while len(said) < longest and not ended(said):
        ids = torch.cat([prompt.ids, prompt.ids.new_tensor([said])], 1) if said else prompt.ids
        with torch.no_grad():
            logits = reference.everywhere(Row(ids, prompt.pixels, *_NOWHERE), weights)
        said.append(int(logits[-1].argmax()))
    return said


_NOWHERE = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
