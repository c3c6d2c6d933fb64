"""Adam over B independent problems at once (Kingma & Ba 2015).

Every tensor has a leading axis of problems; all of Adam is elementwise, so one (fused) step of the
stacked tensors is each problem's own step. Problems that are done leave the working set, and with
them their moments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Adam

from errors import ModelError

log = logging.getLogger(__name__)
TELL_EVERY = 2000  # steps between two signs of life; the tabulated FT takes up to 20,000
# deltas of the A problems still at work and their indices (A,) -> loss (A,), whether done (A,)
Judge = Callable[[Sequence[Tensor], Tensor], tuple[Tensor, Tensor]]
Project = Callable[[Sequence[Tensor], Tensor], None]


def descend(
    base: Sequence[Tensor],
    n_problems: int,
    judge: Judge,
    *,
    steps: int,
    lr: float,
    project: Project | None = None,
) -> list[Tensor]:
    """Minimises every problem's loss over its own deltas of shared base tensors.

    Args:
        base: the tensors W that all problems start from, each of any shape S.
        n_problems: B.
        judge: the losses; a problem that it calls done takes no further step.
        steps: largest number of steps.
        lr: step size.
        project: called after every step with the deltas at work and their indices; brings them
            back, in place, to where they may be.

    Returns:
        Per base tensor the deltas (B, *S) in float32 or better.

    Raises:
        ModelError: a loss is not finite.
    """
    deltas = [
        torch.zeros(n_problems, *w.shape, device=w.device, dtype=_at_least_float32(w)) for w in base
    ]
    deltas = [delta.requires_grad_(True) for delta in deltas]
    adam = Adam(deltas, lr=lr, fused=True)
    at_work = torch.arange(n_problems, device=base[0].device)
    finished: list[tuple[Tensor, list[Tensor]]] = []
    for step in range(1, steps + 1):
        with torch.enable_grad():
            losses, done = judge(deltas, at_work)
            gradients = torch.autograd.grad(losses.sum(), deltas)
        check_losses(losses, step, lr)
        tell(step, steps, len(at_work))
        for delta, gradient in zip(deltas, gradients, strict=True):
            # Fused Adam reads memory order, whatever the strides.
            delta.grad = gradient.contiguous()
        if bool(done.any()):
            finished.append((at_work[done], [delta.detach()[done] for delta in deltas]))
            at_work = at_work[~done]
            adam, deltas = _narrow(adam, deltas, ~done)
        if not len(at_work):
            break
        adam.step()
        if project is not None:
            with torch.no_grad():
                project(deltas, at_work)
    return _assembled([*finished, (at_work, [delta.detach() for delta in deltas])])


def _narrow(adam: Adam, deltas: Sequence[Tensor], going: Tensor) -> tuple[Adam, list[Tensor]]:
    """The problems that go on, as new leaves, with their gradients and moments."""
    remaining = [delta.detach()[going].requires_grad_(True) for delta in deltas]
    smaller = Adam(remaining, **adam.defaults)
    for old, new in zip(deltas, remaining, strict=True):
        new.grad = None if old.grad is None else old.grad[going]
        smaller.state[new] = {
            name: value if name == "step" else value[going]
            for name, value in adam.state[old].items()
        }
    return smaller, remaining


def tell(step: int, steps: int, n_at_work: int) -> None:
    """Gives a sign of life now and then."""
    if step % TELL_EVERY == 0:
        log.info("step %d of %d, %d edits at work", step, steps, n_at_work)


def check_losses(losses: Tensor, step: int, lr: float) -> None:
    """Refuses losses (A,) that are not finite.

    Raises:
        ModelError: says what may be the reason.
    """
    broken = int((~losses.isfinite()).sum())
    if broken and step == 1:
        raise ModelError(
            f"the loss of {broken} edit(s) is not finite before the first step: the model that "
            "they are made on gives no numbers there, whatever editor.lr is. Numbers in float16 "
            "end at 65,504: set model.dtype=bfloat16 or float32; in those types its weights are "
            "damaged, or an edit made before this one has diverged."
        )
    if broken:
        raise ModelError(
            f"the descent diverged: the loss of {broken} edit(s) is not finite at step {step}. "
            f"Lower editor.lr (now {lr})."
        )


def _assembled(parts: list[tuple[Tensor, list[Tensor]]]) -> list[Tensor]:
    """All problems' deltas in their first order."""
    if len(parts) == 1:
        return parts[0][1]
    order = torch.cat([problems for problems, _ in parts]).argsort()
    return [torch.cat(pieces)[order] for pieces in zip(*(part for _, part in parts), strict=True)]


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
