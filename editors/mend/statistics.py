"""Running mean and deviation of MEND's inputs, per coordinate, over every token ever seen.

The published code adds one token at a time (Welford); merging a batch of tokens at once gives the
same numbers (`editors.moments`), and the same formula merges the tokens of several processes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from editors.moments import Moments
from editors.processes import of_all_processes
from errors import ModelError

EPSILON = 1e-7  # added to the deviation, as published


class RunningStatistics(nn.Module):
    """Mean and unbiased deviation that a checkpoint carries along.

    The count is an integer: rows with pictures bring hundreds of tokens each, and float32 cannot
    count past 2^24. A count of zero is what "not initialised" means.

    Args:
        dim: width of the tokens.
        editor: the name of the editor that they are fed to, for errors.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, dim: int, editor: str = "mend") -> None:
        super().__init__()
        self._editor = editor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("squares", torch.zeros(dim))

    @property
    def ready(self) -> bool:
        """Whether a deviation can be told: two tokens or more were seen."""
        return int(self.count) > 1

    @property
    def std(self) -> Tensor:
        """Unbiased standard deviation: (dim,)."""
        return self._moments.std

    @property
    def _moments(self) -> Moments:
        return Moments(self.count, self.mean, self.squares)

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Adds tokens (K, dim), those of every process where there are several."""
        count = self.count.new_tensor(len(values))
        mean = values.mean(0) if len(values) else torch.zeros_like(self.mean)
        squares = (values - mean).square().sum(0)
        moments = torch.stack([mean.to(self.mean), squares.to(self.mean)])
        parts = zip(of_all_processes(count), of_all_processes(moments), strict=True)
        for n, (of_mean, of_squares) in parts:  # in rank order, so that all merge alike
            self._merge(n, of_mean, of_squares)

    def normalise(self, values: Tensor) -> Tensor:
        """(value - mean) / (deviation + 1e-7): (K, dim) -> (K, dim).

        Raises:
            ModelError: fewer than two tokens were seen, or the statistics are not finite.
        """
        if not self.ready:
            raise ModelError(
                f"{self._editor.upper()}'s input statistics have seen {int(self.count)} token(s) "
                "and need two or more: this editor was never trained, or its checkpoint is not a "
                f"trained one. Train it with train.py editor={self._editor}, or evaluate the "
                "checkpoint of a training run."
            )
        std = self.std
        if not bool((std + self.mean).isfinite().all()):
            raise ModelError(
                f"{self._editor.upper()}'s input statistics hold values that are not finite, so "
                "every edit would be NaN. The checkpoint comes from a run that broke down: use an "
                "earlier one."
            )
        return (values - self.mean) / (std + EPSILON)

    def _merge(self, count: Tensor, mean: Tensor, squares: Tensor) -> None:
        if not int(count):
            return
        after = self._moments.merged(Moments(count, mean, squares))
        self.count.copy_(after.count)
        self.mean.copy_(after.mean)
        self.squares.copy_(after.scatter)
