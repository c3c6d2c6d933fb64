"""SERAC's arithmetic against the authors' code: similarity, scope, loss, mixture, one step.

Files serac*.npz in TMKE_GOLDEN hold embeddings and logits and what the original makes of them, in
either precision; all sizes are read off the arrays. serac_sampler*.npz hold draws of the original's
hard negatives, of which only a property is common (a hard draw is one of the edit's near ones);
tests/unit/editors/test_serac_negatives.py holds our own draws to it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from editors.serac.scope import IN_SCOPE
from editors.serac.similarity import (
    balanced_bce,
    log_similarity,
    mix_hard,
    mix_soft,
    retrieve,
)
from metrics.functional import kl_divergence, negative_log_likelihood
from tests.parity import vectors

pytestmark = pytest.mark.parity
PATTERN, SAMPLERS = "serac*.npz", "serac_sampler*.npz"
IGNORED = -100
THRESHOLD, NLL_WEIGHT, SCOPE_WEIGHT = 0.5, 0.1, 1.0
VARIANTS = {
    "square": {"distance": "square"},
    "l2": {"distance": "l2"},
    "cos": {"distance": "cos"},
    "bound": {"distance": "square", "bound": True},
    "heads2": {"distance": "square", "heads": 2},
    "pooler_square": {"distance": "square"},
}


class Case:
    def __init__(self, path: Path) -> None:
        self.arrays = vectors.load(path)
        self.values = vectors.tolerance(self.arrays)
        self.gradients = vectors.tolerance(self.arrays, single=1e-4)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def close(self, ours: Tensor, name: str) -> None:
        theirs = self[name]
        assert ours.shape == theirs.shape, name
        relative = self.gradients if ".grad." in name else self.values
        scale = max(float(theirs.abs().max()), 1e-12)
        worst = float((ours.detach() - theirs).abs().max())
        assert worst <= relative * scale, name


@pytest.fixture(params=vectors.parameters(PATTERN, without=SAMPLERS))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_vectors_are_there() -> None:
    vectors.assert_shipped(PATTERN, without=SAMPLERS)


@pytest.mark.parametrize("name", VARIANTS)
def test_similarity_and_scope(case: Case, name: str) -> None:
    queries, entries = case["test_embeds"], case["ctx_embeds"]
    found = log_similarity(queries, entries, **VARIANTS[name])
    case.close(found, f"logsim.{name}")
    scaled = [key for key in case.arrays if key.startswith("logsim_scale") and _of(key) == name]
    assert scaled
    for key in scaled:
        scale = float(key.removeprefix("logsim_scale").rpartition(f".{name}")[0])
        case.close(log_similarity(queries, entries, scale=scale, **VARIANTS[name]), key)
    log_scope, entry = retrieve(found)
    case.close(log_scope.exp(), f"scope_score.{name}")
    assert torch.equal(entry, case[f"scope_idx.{name}"].long())


def test_cross_attention(case: Case) -> None:
    log_p = case["cross_logits"].log_softmax(-1)[:, IN_SCOPE]
    case.close(log_p.reshape(case["logsim.cross"].shape), "logsim.cross")


@pytest.mark.parametrize("suffix", ["", "_zero"])
def test_balanced_cross_entropy(case: Case, suffix: str) -> None:
    log_p, labels = case[f"bce.log_probs{suffix}"], case[f"bce.labels{suffix}"]
    case.close(balanced_bce(log_p, labels.bool()), f"bce.loss{suffix}")


def test_balanced_cross_entropy_without_positives(case: Case) -> None:
    log_p, labels = case["bce.log_probs"][-3:], case["bce.labels"][-3:]
    assert not labels.any()
    case.close(balanced_bce(log_p, labels.bool()), "bce.loss_neg_only")


def test_mixtures(case: Case) -> None:
    base, theirs = case["mix.base_logits"], case["mix.cntr_logits"]
    log_scope, _ = retrieve(case["mix.cls_logsims"])
    case.close(mix_hard(base, theirs, log_scope, THRESHOLD), "mix.out_hard")
    case.close(mix_soft(base, theirs, log_scope), "mix.out_soft")


@pytest.mark.parametrize("all_negatives", [False, True])
def test_a_supervised_step(case: Case, all_negatives: bool) -> None:
    kind = f"sup.allneg{int(all_negatives)}"
    pairs, outer, loc = (case[f"sup.{n}"].long() for n in ("pos_pairs", "outer_rows", "loc_rows"))
    used = len(outer)
    entries = case["ctx_embeds"].clone().requires_grad_(True)
    queries = case["test_embeds"].clone().requires_grad_(True)
    logits = case["mix.cntr_logits"][:used].clone().requires_grad_(True)
    log_p = log_similarity(queries, entries[:used])
    positives = log_p[outer][pairs[:, 0], pairs[:, 1]]
    others = log_p[loc]
    negatives = others.flatten() if all_negatives else others.diagonal()
    inside = torch.cat([torch.ones(len(positives)), torch.zeros(len(negatives))]).bool()
    scope = balanced_bce(torch.cat([positives, negatives]), inside)
    labels = case["sup.labels"].long()
    labelled = labels != IGNORED
    nll = negative_log_likelihood(logits[labelled], labels[labelled]).mean()
    total = NLL_WEIGHT * nll + SCOPE_WEIGHT * scope
    case.close(nll, f"{kind}.l_cntr")
    case.close(scope, f"{kind}.l_cls")
    case.close(total, f"{kind}.l_total")
    total.backward()
    for place in range(used):
        case.close(_grad(entries)[place], f"{kind}.grad.c{place}")
    for place in range(len(queries)):
        case.close(_grad(queries)[place], f"{kind}.grad.t{place}")
    case.close(_grad(logits), f"{kind}.grad.cntr_logits")


def test_metrics(case: Case) -> None:
    logits, post, labels = case["m.logits"], case["m.post"], case["m.labels"].long()
    mask = labels != IGNORED
    nll = negative_log_likelihood(logits[mask], labels[mask]).mean()
    case.close(nll, "m.shift0.nll")
    case.close(-nll, "m.shift0.log_prob")
    case.close((-nll).exp(), "m.shift0.prob")
    assert int(mask.sum()) == int(case["m.shift0.n_tokens"])
    right = (logits.argmax(-1) == labels) | ~mask
    assert float(right.all(1).double().mean()) == pytest.approx(float(case["m.shift0.acc"]))
    agree = (logits.argmax(-1) == post.argmax(-1)) | ~mask
    assert float(agree.all(1).double().mean()) == pytest.approx(float(case["m.retain"]))
    case.close(kl_divergence(logits[mask], post[mask]).mean(), "m.kl")


def _of(key: str) -> str:
    """`logsim_scale0.25.square` -> `square`."""
    return key.rpartition(".")[2]


def _grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad
