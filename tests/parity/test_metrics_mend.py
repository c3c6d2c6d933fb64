"""The flat functions against values from MEND's released code.

A file holds logits (B, T, V), post_logits, labels (-100: ignored), mask, and the binary twins; the
values are `mend.shiftS.*` (S = 1: logits of t - 1 predict label t), `mend.kl_loc` and the binary
ones. Any `metrics_mend*.npz` in TMKE_GOLDEN is tested.

The binary case needs no functions of its own: one logit z is the softmax of (0, z).
"""

import pytest
import torch
from torch import Tensor

from metrics.functional import (
    answer_positions,
    exact_match,
    kl_divergence,
    negative_log_likelihood,
)
from tests.parity.vectors import assert_shipped, below, load, parameters, tolerance

pytestmark = pytest.mark.parity

PATTERN = "metrics_mend*.npz"


@pytest.fixture(params=parameters(PATTERN))
def vectors(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    return below(load(request.param), "")


def test_there_are_vectors() -> None:
    assert_shipped(PATTERN)


@pytest.mark.parametrize("shift", [0, 1])
def test_answer_scores(vectors: dict[str, Tensor], shift: int) -> None:
    logits, labels = vectors["logits"], vectors["labels"].long()
    flat, target, row = answer_positions(logits, labels, shift=bool(shift))
    _compare(vectors, f"mend.shift{shift}", _scores(flat, target, row, len(labels)))


def test_binary_scores(vectors: dict[str, Tensor]) -> None:
    target = vectors["binary_labels"].flatten().long()
    rows = torch.arange(len(target))
    _compare(
        vectors, "mend.binary", _scores(_pair(vectors, "binary_logits"), target, rows, len(rows))
    )


def test_locality_divergence(vectors: dict[str, Tensor]) -> None:
    mask = vectors["mask"].bool()
    found = kl_divergence(vectors["logits"][mask], vectors["post_logits"][mask]).mean()
    _compare(vectors, "mend", {"kl_loc": found})


def test_binary_locality_divergence(vectors: dict[str, Tensor]) -> None:
    pre, post = _pair(vectors, "binary_logits"), _pair(vectors, "binary_post")
    _compare(vectors, "mend", {"kl_loc_binary": kl_divergence(pre, post).mean()})


def _scores(flat: Tensor, target: Tensor, row: Tensor, n_rows: int) -> dict[str, Tensor]:
    """MEND's batch-level numbers: means over tokens, and over rows for `acc`."""
    nll = negative_log_likelihood(flat, target)
    match = exact_match(flat.argmax(-1), target, row, n_rows)
    return {
        "nll": nll.mean(),
        "log_prob": -nll.mean(),
        "prob": (-nll).exp().mean(),
        # A row without labels counts as right there.
        "acc": match.nan_to_num(1).double().mean(),
        "n_tokens": torch.tensor(len(target)),
    }


def _pair(vectors: dict[str, Tensor], name: str) -> Tensor:
    """(N, 2) logits with the same softmax as the sigmoid of one logit."""
    logits = vectors[name].flatten()
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def _compare(vectors: dict[str, Tensor], prefix: str, found: dict[str, Tensor]) -> None:
    tolerated = tolerance({name: value.numpy() for name, value in vectors.items()})
    for name, value in found.items():
        expected = vectors[f"{prefix}.{name}"].double()
        assert value.item() == pytest.approx(expected.item(), rel=tolerated, abs=tolerated), name
