"""MALMEN's network: (k, g) -> (k~, g~), per token, of a key and its value gradient.

Tan et al. (ICLR 2024), as MEND's: with y = [k; g] normalised by running mean and deviation, each
block computes

    y <- y + scale[m] * max(y A B + b, 0) + shift[m]

where m is the position of the edited matrix among those of its shape, which share the network. At
the start B is zero and the network is the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from editors.malmen.config import MalmenOptions
from editors.mend.statistics import RunningStatistics
from editors.mend.transform import RectifiedLowRank


class Block(nn.Module):
    """One block.

    Args:
        dim: input and output width.
        options: rank (at most `dim`) and the deviation of A's initial values.
        n_modes: matrices that share it.
    """

    def __init__(self, dim: int, options: MalmenOptions, n_modes: int) -> None:
        super().__init__()
        rank = min(options.rank, dim)
        self.a = nn.Parameter(torch.randn(dim, rank) * options.init_std)
        self.b = nn.Parameter(torch.zeros(rank, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.scale = nn.Parameter(torch.ones(n_modes, dim))
        self.shift = nn.Parameter(torch.zeros(n_modes, dim))

    def forward(self, y: Tensor, mode: int) -> Tensor:
        """(T, dim) -> (T, dim)."""
        h: Tensor = RectifiedLowRank.apply(y, self.b.mT, self.a.mT, self.bias, None, False)
        return torch.addcmul(y + self.shift[mode], h, self.scale[mode])


class TokenNetwork(nn.Module):
    """The network of one shape of matrices.

    Args:
        d_in: width of keys.
        d_out: width of value gradients.
        options: the network's.
        n_modes: matrices that share it.
    """

    def __init__(self, d_in: int, d_out: int, options: MalmenOptions, n_modes: int) -> None:
        super().__init__()
        self.dims = (d_in, d_out)
        self.statistics = RunningStatistics(d_in + d_out, options.name)
        blocks = range(options.n_blocks)
        self.blocks = nn.ModuleList(Block(d_in + d_out, options, n_modes) for _ in blocks)

    def joined(self, keys: Tensor, gradients: Tensor) -> Tensor:
        """[k; g] in the network's number type: (T, d_in), (T, d_out) -> (T, d_in + d_out)."""
        return torch.cat([keys, gradients], -1).to(self.statistics.mean.dtype)

    def forward(self, keys: Tensor, gradients: Tensor, mode: int) -> tuple[Tensor, Tensor]:
        """(T, d_in), (T, d_out) -> the same shapes; the statistics stay as they are.

        Raises:
            ModelError: the statistics have seen too little, see `RunningStatistics.normalise`.
        """
        y = self.statistics.normalise(self.joined(keys, gradients))
        for block in self.blocks:
            y = block(y, mode)
        k, g = y.split(self.dims, -1)
        return k, g
