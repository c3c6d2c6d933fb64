"""MEND's gradient transform network: (x, delta) -> (x~, delta~), per token.

Mitchell et al., Fast Model Editing at Scale (ICLR 2022), section 3: the gradient of a linear map is
a sum of rank-one terms, dL/dW = sum_t delta_t x_t^T, and a small network edits the two factors
instead of their product. With z = [x; delta] normalised, each layer computes

    h = U (V z) + b,   h = scale[m] * h + shift[m],   z <- z + max(h, 0)

where m is the position of the edited matrix among those that share the network.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from editors.mend.config import MendOptions
from editors.mend.statistics import RunningStatistics
from metrics.precision import autocast_of

Sides = Literal["both", "x", "delta", "smaller"]


class RectifiedLowRank(torch.autograd.Function):
    """max(scale * (U V z) + bias, 0), and z on top of it.

    For the gradient z, V z and a byte an element are kept. U stands for all the matrices that share
    it: as a product with each one's scale there would be a copy of it for every matrix.

    At 0 the gradient of the maximum passes, as clamp's does and relu's does not: with U = 0 all are
    0.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, u: Tensor, v: Tensor, bias: Tensor, scale: Tensor | None, skip: bool
    ) -> Tensor:
        """(K, dim), (dim, rank), (rank, dim), (dim,), (dim,) -> (K, dim)."""
        inner = z @ v.mT
        h = (inner @ u.mT).to(bias.dtype)
        if scale is None:
            h += bias
        else:
            torch.addcmul(bias, h, scale, out=h)
        ctx.save_for_backward(h >= 0, z, inner, u, v, scale)
        ctx.skip, ctx.autocast = skip, autocast_of(z.device)
        h.clamp_(min=0)
        return h.add_(z) if skip else h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of z, U, V, bias and scale."""
        passes, z, inner, u, v, scale = ctx.saved_tensors
        of_h, of_scale, of_z = gradient * passes, None, None
        with ctx.autocast():
            of_u = (of_h.mT @ inner).to(u.dtype)
            of_bias = of_h.sum(0)
            if scale is not None:
                of_scale = torch.linalg.vecdot(of_u, u)
                of_u *= scale[:, None]
                of_h *= scale
            of_inner = of_h @ u
            of_v = of_inner.mT @ z
            if ctx.needs_input_grad[0]:
                of_z = of_inner @ v
        if of_z is not None and ctx.skip:
            of_z = of_z.to(gradient.dtype).add_(gradient)
        return of_z, of_u, of_v, of_bias, of_scale, None


class LRLinear(nn.Module):
    """A low-rank square layer with an affine map per mode.

    Args:
        dim: input and output width.
        options: rank (at most `dim`) and initial values; `id` starts as the identity (U = 0, skip
            connection), `xavier` has no skip.
        n_modes: matrices that share the layer; None for no affine map.
    """

    def __init__(self, dim: int, options: MendOptions, n_modes: int | None) -> None:
        super().__init__()
        rank = min(options.rank, dim)
        self.skip = options.init == "id"
        self.u = nn.Parameter(torch.zeros(dim, rank))
        self.v = nn.Parameter(torch.randn(rank, dim) * options.v_init_std)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.scale = None if n_modes is None else nn.Parameter(torch.ones(n_modes, dim))
        self.shift = None if n_modes is None else nn.Parameter(torch.zeros(n_modes, dim))
        if options.init == "xavier":
            nn.init.xavier_uniform_(self.u, gain=nn.init.calculate_gain("relu"))
            nn.init.xavier_uniform_(self.v)

    def forward(self, z: Tensor, mode: int | None) -> Tensor:
        """(K, dim) -> (K, dim)."""
        bias: Tensor = self.bias
        scale: Tensor | None = None
        if mode is not None and self.scale is not None and self.shift is not None:
            scale = self.scale[mode]
            bias = bias * scale + self.shift[mode]
        moved: Tensor = RectifiedLowRank.apply(z, self.u, self.v, bias, scale, self.skip)
        return moved


class IDMLP(nn.Module):
    """`n_hidden` + 1 LRLinear layers, the last one clamped like the others.

    Args:
        dim: width of all layers.
        options: the number of layers, and see `LRLinear`.
        n_modes: see there.
    """

    def __init__(self, dim: int, options: MendOptions, n_modes: int | None) -> None:
        super().__init__()
        layers = range(options.n_hidden + 1)
        self.layers = nn.ModuleList(LRLinear(dim, options, n_modes) for _ in layers)

    def forward(self, z: Tensor, mode: int | None = None) -> Tensor:
        """(K, dim) -> (K, dim)."""
        for layer in self.layers:
            z = layer(z, mode)
        return z


class GradientTransform(nn.Module):
    """The transform of one shape of matrices.

    Args:
        x_dim: d_in.
        delta_dim: d_out.
        options: the networks'.
        n_modes: matrices that share the network; None for a network of one matrix.
        sides: without `options.combine`, which sides have a network: `both`, one, or the `smaller`
            one (x where both are equal), as published code offers. The other is normalised only.
    """

    def __init__(
        self,
        x_dim: int,
        delta_dim: int,
        options: MendOptions,
        n_modes: int | None = None,
        sides: Sides = "both",
    ) -> None:
        super().__init__()
        self.dims = (x_dim, delta_dim)
        self.statistics = RunningStatistics(x_dim + delta_dim) if options.normalise else None
        if sides == "smaller":
            sides = "x" if x_dim <= delta_dim else "delta"

        def net(dim: int) -> IDMLP:
            return IDMLP(dim, options, n_modes)

        combine = options.combine
        self.mlp = net(x_dim + delta_dim) if combine else None
        self.mlp_x = net(x_dim) if not combine and sides != "delta" else None
        self.mlp_delta = net(delta_dim) if not combine and sides != "x" else None

    def forward(self, x: Tensor, delta: Tensor, mode: int | None = None) -> tuple[Tensor, Tensor]:
        """(K, d_in), (K, d_out) of surviving tokens -> the same shapes.

        In train mode the tokens enter the running statistics before these normalise them.

        Raises:
            ModelError: normalisation without statistics, see `RunningStatistics.normalise`.
        """
        z = torch.cat([x, delta], -1).to(_compute_dtype(self))
        if self.statistics is not None:
            if self.training:
                self.statistics.update(z)
            z = self.statistics.normalise(z)
        if self.mlp is not None:
            x, delta = self.mlp(z, mode).split(self.dims, -1)
            return x, delta
        x, delta = z.split(self.dims, -1)
        return (
            x if self.mlp_x is None else self.mlp_x(x, mode),
            delta if self.mlp_delta is None else self.mlp_delta(delta, mode),
        )


def _compute_dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
