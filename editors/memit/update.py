"""The update of one layer by all edits of a turn, as factor pairs.

Of n edits with keys K (n, d_in) and residuals R (n, d_out), both in rows:

    MEMIT       dW = R^T K (lambda C + K^T K)^-1                        (Meng et al. 2023, eq. 14)
    AlphaEdit   dW = R^T K P (K_p^T K_p P + K^T K P + lambda I)^-1      (Fang et al. 2025, eq. 14)

C is the second moment of the layer's keys, P the projection on the null space of C, K_p the keys of
earlier turns. Both are the least squares of `editors.ridge` in other coordinates: with C = L L^T
and the keys K L^-T, and with the projected keys K P (P P = P), of which K_p P are some. The factors
of dW are the dual keys and R: no d_out x d_in matrix is built, and what is factored beside C is
n x n, or d_in x d_in where edits are more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from editors.ridge import dual_keys
from errors import ModelError
from metrics.precision import in_float64, single


class Coordinates(Protocol):
    """Where the least squares of a layer are solved."""

    def coordinates(self, keys: Tensor) -> Tensor:
        """Keys there, in float64: (..., d_in) -> (..., d_in)."""
        ...

    def inputs(self, dual: Tensor) -> Tensor:
        """What dual keys are as inputs of the map, in float64: (..., d_in) -> (..., d_in)."""
        ...


class Identity:
    """Where there is no second moment: C = I."""

    def coordinates(self, keys: Tensor) -> Tensor:
        """The keys as they are."""
        return in_float64(keys)

    def inputs(self, dual: Tensor) -> Tensor:
        """The dual keys as they are."""
        return dual


# Of d eps: pivots of singular matrices were up to 140, of regular ones of random keys from 1e7.
_ROUNDING = 1e4


@dataclass(frozen=True)
class Whitening:
    """C = L L^T, under which keys of unit second moment are L^-1 k.

    Attributes:
        lower: L (d_in, d_in), in float64.
    """

    lower: Tensor

    @classmethod
    def of(cls, second_moment: Tensor, layer: int) -> Whitening:
        """Factors C (d_in, d_in) of a layer.

        Raises:
            ModelError: it is singular.
        """
        second_moment = in_float64(second_moment)
        lower, info = torch.linalg.cholesky_ex(second_moment)
        # Of a null space of few directions the pivots are rounding, and may be positive.
        largest = second_moment.diagonal().max()
        rounding = _ROUNDING * len(lower) * torch.finfo(lower.dtype).eps * largest
        if int(info) or bool(lower.diagonal().square().min() <= rounding):
            raise ModelError(
                f"editor.second_moments: that of layer {layer} is singular, so that there are keys "
                "whose change it makes free: its text has too few tokens for its "
                f"{len(second_moment)} dimensions. Make it from more text, or set "
                "editor.second_moments=null for the identity."
            )
        return cls(lower)

    def coordinates(self, keys: Tensor) -> Tensor:
        """L^-1 k."""
        return self._solve(self.lower, in_float64(keys), upper=False)

    def inputs(self, dual: Tensor) -> Tensor:
        """L^-T k."""
        return self._solve(self.lower.mT, dual, upper=True)

    def _solve(self, triangle: Tensor, keys: Tensor, *, upper: bool) -> Tensor:
        flat = keys.flatten(0, -2)
        solved = torch.linalg.solve_triangular(triangle, flat.mT, upper=upper).mT
        return solved.view(keys.shape)


@dataclass(frozen=True)
class NullSpace:
    """The projection P = I - U U^T on the directions in which C has next to nothing.

    Attributes:
        above: U (d_in, s), eigenvectors of C whose eigenvalues reach the threshold, in float64.
    """

    above: Tensor

    @classmethod
    def of(cls, second_moment: Tensor, threshold: float, layer: int) -> NullSpace:
        """Of C (d_in, d_in) of a layer.

        Raises:
            ModelError: no eigenvalue is below the threshold, or all are.
        """
        values, vectors = torch.linalg.eigh(in_float64(second_moment))  # ascending
        n_below = int((values < threshold).sum())
        if not n_below:
            raise ModelError(
                f"editor.threshold={threshold:g}: no eigenvalue of the second moment of layer "
                f"{layer} is below it (the smallest is {float(values[0]):.3g}, the median "
                f"{float(values.median()):.3g}), so that there is no null space to write into. "
                "Give a larger threshold."
            )
        if n_below == len(values):
            raise ModelError(
                f"editor.threshold={threshold:g}: all eigenvalues of the second moment of layer "
                f"{layer} are below it (the largest is {float(values[-1]):.3g}, the median "
                f"{float(values.median()):.3g}), so that no key of the text would be left alone. "
                "Give a smaller threshold, or editor.null_space=false for MEMIT."
            )
        return cls(vectors[:, n_below:])

    def coordinates(self, keys: Tensor) -> Tensor:
        """P k."""
        k = in_float64(keys)
        return k - (k @ self.above) @ self.above.mT

    def inputs(self, dual: Tensor) -> Tensor:
        """The dual keys as they are: P of them are they."""
        return dual


def update_inputs(
    keys: Tensor, ridge: float, coordinates: Coordinates, earlier: Tensor | None = None
) -> Tensor:
    """The inputs of the factor pairs whose outputs are R: (E, n, d_in) -> (E, n, d_in).

    Args:
        keys: K of E updates of n edits.
        ridge: lambda.
        coordinates: of the layer.
        earlier: keys of earlier turns (E, m, d_in), which the update should leave alone as well.
    """
    k = coordinates.coordinates(keys)
    if earlier is not None:
        k = torch.cat([coordinates.coordinates(earlier), k], 1)
    dual = dual_keys(k, ridge)[:, -keys.shape[1] :]
    return coordinates.inputs(dual).to(keys.device, single(keys.dtype))
