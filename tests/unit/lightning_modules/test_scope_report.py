"""What an evaluation reports besides scores: the scope's quality, and what editors say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.scenarios import SCENARIOS
from lightning_modules.evaluation import EvaluationModule
from metrics.scope import ScopeQuality
from results.outcome import ScoredEdits
from results.partial import BatchResult
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch


def test_quality_counts_what_fires_and_should() -> None:
    quality = ScopeQuality(0.5)
    quality.update(torch.tensor([0.9, 0.6, 0.2]), torch.tensor([True, False, True]))
    quality.update(torch.tensor([0.5, 0.8]), torch.tensor([False, True]))
    found = {name: float(value) for name, value in quality.compute().items()}
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["inside"] == pytest.approx((0.9 + 0.2 + 0.8) / 3)
    assert found["outside"] == pytest.approx((0.6 + 0.5) / 2)
    assert found["margin"] == pytest.approx(found["inside"] - found["outside"])


def test_a_router_that_never_fires_is_seen() -> None:
    quality = ScopeQuality(0.5)
    quality.update(torch.tensor([0.1, 0.2]), torch.tensor([True, False]))
    found = quality.compute()
    assert float(found["recall"]) == 0
    assert math.isnan(float(found["precision"]))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_an_evaluation_reports_the_scope_of_its_probes(threshold: float) -> None:
    model = picture_model()
    editor = stirred(model)
    editor.threshold = threshold
    module = EvaluationModule(model, editor, SCENARIOS["transitive"], editor.encoder)
    batches = [worded_batch(numbers, pictures=True) for numbers in ((1, 2), (4,))]
    batches = [
        replace(b, probes={n: rows for n, rows in b.probes.items() if n in module_probes()})
        for b in batches
    ]
    inside, outside = [], []
    for batch in batches:
        module.test_step(batch, 0)
        edit, state = made(model, editor, looked(model, batch))
        with torch.no_grad():
            found = edit.scope_probabilities(model, looked(model, batch).rows, state)
        for name, rows in batch.probes.items():
            if name.startswith(("reliability", "generality")):
                inside += found[rows].tolist()
            elif name.startswith("locality"):
                outside += found[rows].tolist()
    outcome = module.compute_outcome()
    report = outcome.report
    hits = sum(p > threshold for p in inside)
    fired = hits + sum(p > threshold for p in outside)
    assert report["scope_recall"] == pytest.approx(hits / len(inside))
    assert report.get("scope_precision", 0.0) == pytest.approx(hits / fired if fired else 0.0)
    assert report["scope_inside"] == pytest.approx(sum(inside) / len(inside), rel=1e-5)
    assert report["scope_outside"] == pytest.approx(sum(outside) / len(outside), rel=1e-5)
    assert set(outcome.answer_seconds) == {1, 2, 4}


@pytest.mark.parametrize("keeps", [True, False])
def test_a_pass_that_serves_both_answers_counts_among_the_seconds_of_answering(
    keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that the base model's upper layers alone move; the edit takes no time."""
    model = picture_model()
    editor, batch = stirred(model), worded_batch((1, 2), pictures=True)
    editor.asks_unedited = keeps
    module = EvaluationModule(model, editor, SCENARIOS["transitive"], editor.encoder)
    passes, suffix = list[int](), model.suffix

    def timed(*args: Any, **options: Any) -> Tensor:
        passes.append(1)
        return suffix(*args, **options)

    monkeypatch.setattr(model, "suffix", timed)
    monkeypatch.setattr(module, "_now", lambda: 10.0 * len(passes))
    known = {n: rows for n, rows in batch.probes.items() if n in module_probes()}
    module.test_step(replace(batch, probes=known), 0)
    outcome = module.compute_outcome()
    assert len(passes) == (1 if keeps else 2)
    assert outcome.answer_seconds == {1: 5.0, 2: 5.0}
    assert set(outcome.seconds.values()) == {0.0}


def module_probes() -> set[str]:
    return set(SCENARIOS["transitive"].probes)


def test_reports_are_means_over_the_edits_of_all_processes() -> None:
    first = BatchResult((0, 1), [], 0.5, {"shown": [1.0, 1.0], "dropped": [3.0, 3.0]})
    second = BatchResult((2,), [], 0.2, {"shown": [4.0], "dropped": [0.0]})
    scored = ScoredEdits([])
    for batch in (first, second, first):  # a batch that came twice counts once
        scored.add(batch)
    outcome = scored.outcome()
    assert outcome.report == {"shown": 2.0, "dropped": 2.0}
    assert outcome.answer_seconds == {0: 0.5, 1: 0.5, 2: 0.2}
