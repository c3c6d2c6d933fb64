"""An update of MALMEN's whose gradient is taken in two halves (Tan et al., 2024, section 3.3).

    language model   the update as a leaf   ->  dL/ddW                   batches of edits
    least squares    K a constant           ->  dL/dD = K M, dL/dlambda = -<M, dW^T>
                                                with M = (K^T K + lambda I)^-1 (dL/ddW)^T
    networks         dL/dD as it is         ->  sum_t <dL/dD_t, dD_t/dphi>    batches of tokens

No graph leads through all, so memory is that of one batch, whatever the number of edits. Of a delta
that is kept as factors, dL/ddW is too: it is the gradient at the factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from datamodules.order import rank_and_world
from editors.base import DeltaEdit
from editors.gradients import EditTokens
from editors.malmen.editor import Malmen
from editors.processes import gathered, per_process
from metrics.precision import without_autocast
from models.deltas import Delta, DenseDelta, LowRankDelta, Site


class DecoupledUpdate:
    """One update, made of the tokens of every process, as leaves that collect gradients.

    Every process has to make it at once, and to ask for its gradients at once.

    Args:
        editor: its input statistics are there; parameters must not move before `gradients`.
        tokens: this process's share.

    Attributes:
        edit: the update. A loss of what it answers goes to `collect`.
    """

    def __init__(self, editor: Malmen, tokens: Mapping[Site, EditTokens]) -> None:
        self._editor, self._tokens = editor, tokens
        self._changes: dict[Site, Tensor] = {}  # D of all processes
        self._mine: dict[Site, slice] = {}
        self._made: dict[Site, Delta] = {}  # with their graphs, down to D and the ridge
        for site, of_site in tokens.items():
            keys, _ = gathered(of_site.keys)
            changes, self._mine[site] = gathered(editor.changes_in_parts(site, of_site))
            self._changes[site] = changes.requires_grad_()
            with torch.enable_grad():
                self._made[site] = editor.update(site, keys, changes)
        self.edit = DeltaEdit({site: _leaf(delta) for site, delta in self._made.items()})
        leaves = [tensor for delta in self.edit.deltas.values() for tensor in _tensors(delta)]
        self._leaves, self._gradients = leaves, [torch.zeros_like(leaf) for leaf in leaves]
        self._scale = 1.0

    def collect(self, loss: Tensor, scale: float = 1.0) -> None:
        """Adds the gradient of a loss at the update; its graph is then gone.

        Args:
            loss: a scalar.
            scale: what the loss is multiplied by on the way back, the whole way to the parameters,
                for the sake of float16; the same for all losses of an update.
        """
        self._scale = scale
        with without_autocast(loss.device):
            gradients = torch.autograd.grad(loss * scale, self._leaves, allow_unused=True)
        for total, gradient in zip(self._gradients, gradients, strict=True):
            if gradient is not None:
                total += gradient

    def gradients(self) -> dict[str, Tensor]:
        """Parameter of the editor -> gradient of what was collected, by all processes together.

        Those of several processes are not alike; their mean is the gradient of the mean loss.
        """
        of_update = iter([per_process(gradient) for gradient in self._gradients])
        parameters, (_, world) = dict(self._editor.named_parameters()), rank_and_world()
        totals = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for site, delta in self._made.items():
            made = _tensors(delta)
            with without_autocast(made[0].device):
                changes, log_ridge = torch.autograd.grad(
                    made, [self._changes[site], self._editor.log_ridge],
                    [next(of_update) for _ in made],
                )  # fmt: skip
            totals["log_ridge"] += log_ridge
            mine = changes[self._mine[site]] * world  # the others have the rest of the sum
            self._through_networks(site, mine, parameters, totals)
        return {name: total / self._scale for name, total in totals.items()}

    def _through_networks(
        self,
        site: Site,
        of_changes: Tensor,
        parameters: Mapping[str, nn.Parameter],
        totals: Mapping[str, Tensor],
    ) -> None:
        tokens, size = self._tokens[site], self._editor.net_batch
        sides = (tokens.keys, tokens.gradients, of_changes)
        for keys, gradients, of_part in zip(*(side.split(size) for side in sides), strict=True):
            with torch.enable_grad():
                changes = self._editor.changes(site, keys, gradients)
            with without_autocast(changes.device):
                of_parameters = torch.autograd.grad(
                    changes, list(parameters.values()), of_part, allow_unused=True
                )
            for name, gradient in zip(parameters, of_parameters, strict=True):
                if gradient is not None:
                    totals[name].add_(gradient)


def with_gradients(loss: Tensor, module: nn.Module, gradients: Mapping[str, Tensor]) -> Tensor:
    """A loss whose backward pass gives a module's parameters these gradients.

    So Lightning's own loop, DDP and a scaler do with them what they do with any other.

    Args:
        loss: a scalar; its graph is left behind.
        module: all of its parameters get one.
        gradients: by name.
    """
    names, parameters = zip(*module.named_parameters(), strict=True)
    of_parameters = [gradients[name] for name in names]
    given: Tensor = _Given.apply(loss.detach(), of_parameters, *parameters)
    return given


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * of for of in ctx.gradients)


def _tensors(delta: Delta) -> tuple[Tensor, ...]:
    if isinstance(delta, DenseDelta):
        return (delta.weight,)
    return delta.inputs, delta.outputs


def _leaf(delta: Delta) -> Delta:
    tensors = [tensor.detach().requires_grad_() for tensor in _tensors(delta)]
    return DenseDelta(*tensors) if isinstance(delta, DenseDelta) else LowRankDelta(*tensors)
