"""Adam and AdamW over B independent problems at once (Kingma & Ba 2015; Loshchilov & Hutter 2019).

Every tensor has a leading axis of problems; all of Adam is elementwise, so the joint step is each
problem's own. Problems that are done leave the working set, and with them their moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from errors import ModelError

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults
# deltas of the A problems still at work and their indices (A,) -> loss (A,), whether done (A,)
Judge = Callable[[Sequence[Tensor], Tensor], tuple[Tensor, Tensor]]


def descend(
    base: Sequence[Tensor],
    n_problems: int,
    judge: Judge,
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.0,
    decoupled: bool = True,
) -> list[Tensor]:
    """Minimises every problem's loss over its own deltas of shared base tensors.

    Args:
        base: the tensors W that all problems start from, each of any shape S.
        n_problems: B.
        judge: the losses; a problem that it calls done takes no further step.
        steps: largest number of steps.
        lr: step size.
        weight_decay: on W + delta, not on delta.
        decoupled: AdamW's decay; otherwise it is added to the gradient, as Adam does.

    Returns:
        Per base tensor the deltas (B, *S) in float32 or better.

    Raises:
        ModelError: a loss is not finite.
    """
    deltas = [
        torch.zeros(n_problems, *w.shape, device=w.device, dtype=_at_least_float32(w)) for w in base
    ]
    moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in deltas]
    at_work = torch.arange(n_problems, device=base[0].device)
    finished: list[tuple[Tensor, list[Tensor]]] = []
    for step in range(1, steps + 1):
        with torch.enable_grad():
            leaves = [one.requires_grad_(True) for one in deltas]
            losses, done = judge(leaves, at_work)
            gradients = torch.autograd.grad(losses.sum(), leaves)
        _check(losses, step, lr)
        deltas = [one.detach() for one in deltas]
        if bool(done.any()):
            finished.append((at_work[done], [one[done] for one in deltas]))
            going = ~done
            at_work = at_work[going]
            deltas = [one[going] for one in deltas]
            moments = [(first[going], second[going]) for first, second in moments]
            gradients = tuple(one[going] for one in gradients)
        if not len(at_work):
            break
        for weight, delta, gradient, pair in zip(base, deltas, gradients, moments, strict=True):
            if weight_decay and decoupled:
                delta.sub_(weight + delta, alpha=lr * weight_decay)
            elif weight_decay:
                gradient = gradient.add(weight + delta, alpha=weight_decay)
            delta.add_(_adam_step(gradient, *pair, step=step, lr=lr))
    return _assembled([*finished, (at_work, deltas)])


def _check(losses: Tensor, step: int, lr: float) -> None:
    broken = int((~losses.isfinite()).sum())
    if broken:
        raise ModelError(
            f"fine-tuning diverged: the loss of {broken} edit(s) is not finite at step {step}. "
            f"Lower editor.lr (now {lr})."
        )


def _assembled(parts: list[tuple[Tensor, list[Tensor]]]) -> list[Tensor]:
    """All problems' deltas in their first order."""
    if len(parts) == 1:
        return parts[0][1]
    order = torch.cat([problems for problems, _ in parts]).argsort()
    return [torch.cat(pieces)[order] for pieces in zip(*(part for _, part in parts), strict=True)]


def _adam_step(gradient: Tensor, first: Tensor, second: Tensor, *, step: int, lr: float) -> Tensor:
    """The step of one tensor; updates its moments in place."""
    beta1, beta2 = BETAS
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (second.sqrt() / math.sqrt(1 - beta2**step)).add_(EPSILON)
    return (first / scale).mul_(-lr / (1 - beta1**step))


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
