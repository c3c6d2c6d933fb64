"""What UltraEdit knows of all tokens so far, and how it normalises by it (Gu et al., 2025, sec. 3).

    k^ = (k - mean_k) / (sd_k + 1e-7)        g^ = (g - mean_g) / (sd_g + 1e-7)

each coordinate by itself. Whitening (StableEdit, ICML 2026) takes the correlations out besides:

    g^ <- g^ ((1 - s) R + s I)^-1/2          R the correlations of the coordinates of g

which is the whitening that leaves each coordinate closest to what it was (ZCA-cor; Kessy et al.,
2018). R of fewer tokens than coordinates is singular, so it is shrunk towards the identity
(Schaefer and Strimmer, 2005); at a shrinkage s of 1 nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from editors.mend.statistics import EPSILON
from editors.moments import Moments
from errors import ModelError
from models.deltas import Site
from models.factors import Factors


@dataclass(frozen=True)
class SiteStatistics:
    """Moments of the keys and of the value gradients at one linear map, in float64.

    Attributes:
        keys: of (d_in,), of each coordinate.
        gradients: of (d_out,), of each coordinate or of each pair.
    """

    keys: Moments
    gradients: Moments

    @classmethod
    def of(cls, tokens: Factors, *, pairs: bool) -> SiteStatistics:
        """Those of the tokens of E edits, of each edit.

        Args:
            tokens: in float64.
            pairs: whether gradients are to be whitened.
        """
        return cls(
            Moments.of(tokens.x, tokens.mask), Moments.of(tokens.delta, tokens.mask, pairs=pairs)
        )

    def merged(self, other: SiteStatistics) -> SiteStatistics:
        """Those of all tokens of both."""
        return SiteStatistics(self.keys.merged(other.keys), self.gradients.merged(other.gradients))

    def of_coordinates(self) -> SiteStatistics:
        """The same without the scatter of pairs."""
        return SiteStatistics(self.keys, self.gradients.of_coordinates())


Statistics = Mapping[Site, SiteStatistics]
NOTHING: Statistics = {}  # of no token


def merged(first: Statistics, then: Statistics) -> Statistics:
    """Those of all tokens of both, site by site."""
    both = {site: first[site].merged(then[site]) for site in first if site in then}
    return {**first, **then, **both}


def normalised(values: Tensor, moments: Moments) -> Tensor:
    """(value - mean) / (deviation + 1e-7).

    Args:
        values: (E, n, d).
        moments: of E groups, of two vectors or more each.
    """
    return (values - moments.mean[..., None, :]) / (moments.std + EPSILON)[..., None, :]


def whitened(values: Tensor, moments: Moments, shrinkage: float) -> Tensor:
    """Normalised values without what is left of their correlations, one group after the other.

    Args:
        values: (E, n, d), as `normalised` makes them.
        moments: of E groups, with the scatter of pairs.
        shrinkage: s in (0, 1].
    """
    identity = torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)
    scale = (moments.std + EPSILON) * (moments.count - 1).sqrt()[:, None]
    groups = []
    for value, scatter, of_group in zip(values, moments.scatter, scale, strict=True):
        if not bool(of_group.isfinite().all()):  # no token: all of it is padding
            groups.append(value)
            continue
        shrunk = (1 - shrinkage) * scatter / (of_group[:, None] * of_group) + shrinkage * identity
        eigenvalues, vectors = torch.linalg.eigh(shrunk)
        groups.append((value @ vectors * eigenvalues.rsqrt()) @ vectors.mT)
    return torch.stack(groups)


def check_pairs(seen: Statistics) -> None:
    """Refuses earlier edits whose gradients cannot be whitened.

    Raises:
        ModelError: their statistics have no correlations.
    """
    if not all(of_site.gradients.has_pairs for of_site in seen.values()):
        raise ModelError(
            "editor.whitening=true on top of an UltraEdit edit that was made without it, and so "
            "has the deviations of its gradients and not their correlations. Make that edit with "
            "editor.whitening=true too, or this one with editor.whitening=false."
        )


def check_counts(statistics: SiteStatistics, mask: Tensor) -> None:
    """Refuses an edit of one token that nothing else is known of: it has no deviation.

    Args:
        statistics: of E edits, their own tokens among those that they are of.
        mask: (E, n) which of these there are.

    Raises:
        ModelError: naming the option.
    """
    if bool(((statistics.keys.count == 1) & mask.any(1)).any()):
        raise ModelError(
            "editor.warm_up=0: UltraEdit normalises by the deviation of all tokens so far, and an "
            "update of a single answer token, the first one, has none. Give editor.warm_up a "
            "number of training edits that statistics are taken of before, such as 100, or "
            "editor.statistics a file of them; or let the first update have more edits."
        )
