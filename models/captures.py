"""What enters and leaves linear maps of a frozen decoder, and the gradients at their outputs.

The graph of a capture starts at the lowest of its maps; the network below is never run backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.deltas import Site, linear_shape
from models.factors import Factors, TeachingTokens
from models.hooks import StopForwardError, capture_linears, forward_hooks, stoppable
from models.passes import DecoderPasses
from models.rows import Answers
from models.state import LayerState, PrefixState

LossFunction = Callable[[Tensor, Answers], Tensor]


class LinearMapPasses(DecoderPasses):
    """Passes that keep what is computed at linear maps."""

    def capture(
        self,
        state: PrefixState,
        sites: Sequence[Site],
        at: Answers,
        loss: LossFunction | None = None,
        *,
        edit: Tensor | None = None,
        answers_only: bool = False,
    ) -> tuple[dict[Site, Factors], Tensor]:
        """Layer inputs and output gradients of the edits' own loss, per token of each row.

        Args:
            state: the rows that teach the edits, at or below the lowest site.
            sites: linear maps to capture.
            at: the answers of the same rows.
            loss: (logits (N, V), answers) -> scalar; default: the sum over edits of the mean of
                their rows' mean answer NLL, so that every edit gets the gradients it would get
                alone.
            edit: (R,) the edit that each row teaches, ascending from 0; None: each row one.
            answers_only: whether of every site only the tokens that predict an answer token are
                wanted, as of the last block's MLP, where no other has a gradient.

        Returns:
            The factors of each site, and the logits (N, V).
        """
        linears = {site: self.linear(site) for site in sites}
        captured: dict[Site, tuple[Tensor, Tensor]] = {}
        (part,), tokens = state.apart().parts, TeachingTokens(at, edit)
        loss = loss or tokens.loss
        with torch.enable_grad(), capture_linears(linears, captured):
            logits = self.top(self.up_to_answers(part, state.layer, at, {}, None), {}, None)
            gradients = torch.autograd.grad(
                loss(logits, at), [captured[site][1] for site in sites], allow_unused=False
            )
        factors, where = {}, part.where(at.row, at.position)
        for site, gradient in zip(sites, gradients, strict=True):
            # Of a model that is spread, what a layer says lies where that layer is.
            gradient = self._true_gradient(site, gradient, part)
            sides = (captured[site][0].to(at.row.device), gradient.to(at.row.device))
            if self.is_at_answers(site):
                factors[site] = tokens.of_answers(*sides)
            elif answers_only:
                x, delta = (side.reshape(*part.hidden.shape[:2], -1)[where] for side in sides)
                factors[site] = tokens.of_answers(x, delta)
            else:
                factors[site] = tokens.of_rows(*sides, part.hidden.shape[1])
        return factors, logits.detach()

    @torch.no_grad()
    def read(
        self, state: PrefixState, site: Site, row: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Input and output of a linear map at some tokens: (I, d_in) and (I, d_out).

        Args:
            state: at or below the site's layer.
            site: the map.
            row: (I,).
            position: (I,).
        """
        tokens = Answers(row, position, torch.zeros_like(row), 0)
        input_and_output = state.over(
            tokens, lambda part, at: self._read_part(part, state.layer, site, at)
        )
        d_in, d_out = linear_shape(self.linear(site))
        x, y = input_and_output.split([d_in, d_out], -1)
        return x, y

    def _true_gradient(self, site: Site, gradient: Tensor, part: LayerState) -> Tensor:
        """A gradient at a map's output, without what can be rounding alone.

        The query of a token that looks at itself alone changes nothing: the softmax of one score is
        1. Kernels leave 1e-9 there or nothing, by the shape of the batch, and a normalisation such
        as MEND's would make it as large as any other token's.
        """
        if site.role != "query":
            return gradient
        alone = part.alone(self.layer_kind(site.layer))[..., None]
        whole = gradient.reshape(*part.hidden.shape[:2], -1)
        return whole.masked_fill(alone.to(whole.device), 0).reshape(gradient.shape)

    def _read_part(self, part: LayerState, layer: int, site: Site, at: Answers) -> Tensor:
        """Input and output of a map side by side: (I, d_in + d_out)."""
        vectors: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            whole, where = (*part.hidden.shape[:2], -1), part.where(at.row, at.position)
            here = (tensor.to(part.hidden.device) for tensor in (args[0], output))
            vectors.extend(tensor.reshape(whole)[where] for tensor in here)
            raise StopForwardError

        with forward_hooks([(self.linear(site), stop)]), stoppable():
            self._layers(part, layer, site.layer + 1)
        return torch.cat(vectors, -1)
