"""Running mean and scatter of vectors that come in parts.

Parts of any size are merged at once (Chan et al., 1983),

    mean' = mean + d k/n',    S' = S + S_part + d^2 n k/n',    d = mean_part - mean,  n' = n + k

which gives the numbers of one vector added after the other (Welford), in any order of the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and scatter of some vectors, or of those of each of several groups.

    Attributes:
        count: (...,) int64: float32 cannot count past 2^24.
        mean: (..., d).
        scatter: (..., d) the sum of squared distances from the mean, of each coordinate; or
            (..., d, d) of the products of the distances in two, whose diagonal that is.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, values: Tensor, mask: Tensor, *, pairs: bool = False) -> Moments:
        """Those of E groups.

        Args:
            values: (E, n, d).
            mask: (E, n), false on padding.
            pairs: whether the scatter is that of pairs of coordinates.
        """
        count = mask.sum(1)
        mean = values.masked_fill(~mask[..., None], 0).sum(1) / count.clamp(min=1)[:, None]
        centred = (values - mean[:, None]).masked_fill(~mask[..., None], 0)
        scatter = centred.mT @ centred if pairs else centred.square().sum(1)
        return cls(count, mean, scatter)

    @property
    def has_pairs(self) -> bool:
        """Whether the scatter is that of pairs of coordinates."""
        return self.scatter.ndim > self.mean.ndim

    @property
    def std(self) -> Tensor:
        """Unbiased standard deviation: (..., d); nan of fewer than two vectors."""
        squares = self.scatter.diagonal(dim1=-2, dim2=-1) if self.has_pairs else self.scatter
        return (squares / (self.count - 1)[..., None]).sqrt()

    def merged(self, other: Moments) -> Moments:
        """Those of both together; leading axes are broadcast.

        Of pairs of coordinates where both have those, of each coordinate alone otherwise.
        """
        if self.has_pairs != other.has_pairs:
            return self.of_coordinates().merged(other.of_coordinates())
        total = self.count + other.count
        share = other.count.to(self.mean.dtype) / total.clamp(min=1)  # int / int would be float32
        weight, shift = (self.count * share)[..., None], other.mean - self.mean
        if self.has_pairs:
            between = shift[..., :, None] * (shift * weight)[..., None, :]
        else:
            between = shift.square() * weight
        mean = self.mean + shift * share[..., None]
        return Moments(total, mean, self.scatter + (other.scatter + between))

    def of_coordinates(self) -> Moments:
        """The same with the scatter of each coordinate alone."""
        if not self.has_pairs:
            return self
        return Moments(self.count, self.mean, self.scatter.diagonal(dim1=-2, dim2=-1))
