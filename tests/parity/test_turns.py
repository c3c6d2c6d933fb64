"""Edits made turn by turn against the obvious way: a copy whose weights are overwritten.

As `test_sequential.py` has it for single edits: of a turn, MEND's reference makes every edit on a
copy of its own and adds up what that changed; FT's descends on all edits of the turn at once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from datamodules.prompts import Prompt
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from editors.base import DeltaEdit, Editor
from lightning_modules.batch import BatchModule
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.many_edits import ManyEditsModule
from lightning_modules.sequential import SequentialModule
from metrics.collection import headline_metrics
from models.deltas import linear_weight
from models.multimodal import MultimodalModel
from tests.builders import trainer
from tests.editors import fine_tune
from tests.parity.test_sequential import Apply, _float64, model, source
from tests.parity.test_slow_reference import (
    FT,
    Slow,
    datamodule,
    encoder,
    mend,
    score,
    slow_ft,
    slow_mend,
)

pytestmark = pytest.mark.parity
__all__ = ["_float64", "model", "source"]  # fixtures
TURNS = (range(2), range(2, 4), range(4, 5))
POINTS = (2, 4, 5)
Turns = Sequence[Sequence[Prompt]]


class AllTogether:
    """One descent on all edits of a turn."""

    def __call__(self, slow: Slow, hf: PreTrainedModel, turn: Turns) -> None:
        slow_ft(slow, hf, [prompt for edit in turn for prompt in edit])


class AddedUp:
    """What each edit of a turn changes alone, added up."""

    def __init__(self, apply: Apply) -> None:
        self.apply = apply

    def __call__(self, slow: Slow, hf: PreTrainedModel, turn: Turns) -> None:
        before = copy.deepcopy(hf.state_dict())
        alone = []
        for edit in turn:
            edited = copy.deepcopy(hf)
            self.apply(slow, edited, edit)
            alone.append(edited.state_dict())
        with torch.no_grad():
            for name, value in hf.state_dict().items():
                for of_edit in alone:
                    value += of_edit[name] - before[name]


def both_ways(kind: str, model: MultimodalModel, source: RecordSource) -> tuple[Editor, Any]:
    """An editor, and what its reference does to a copy."""
    if kind == "ft":
        return fine_tune(**FT), AllTogether()
    trained = mend(model, source)
    return trained, AddedUp(slow_mend(trained))


def reference(
    model: MultimodalModel, apply: Any, source: RecordSource, scenario: str, turns: Sequence[range]
) -> tuple[PreTrainedModel, dict[int, dict[str, float]]]:
    """The copy after all turns, and the metrics of all edits so far after each."""
    slow, edited = Slow(model, source), copy.deepcopy(model.hf)
    records, curve = list(source.records("test")), {}
    for turn in turns:
        apply(slow, edited, [SCENARIOS[scenario].edit(records[number]) for number in turn])
        scores = [score(slow, model.hf, edited, one, scenario) for one in records[: turn.stop]]
        curve[turn.stop] = {name: 100 * fmean(s[name] for s in scores) for name in scores[0]}
    return edited, curve


def ran(
    kind: type[ManyEditsModule],
    model: MultimodalModel,
    editor: Editor,
    source: RecordSource,
    scenario: str,
    batch_size: int,
    **protocol: Any,
) -> ManyEditsModule:
    data = datamodule(model, source, scenario, batch_size)
    module = kind(model, editor, data, **protocol)
    trainer().test(module, verbose=False)
    return module


def assert_equal(
    module: ManyEditsModule, scenario: str, expected: dict[int, dict[str, float]]
) -> None:
    assert list(module.curve) == list(expected)
    for n, outcome in module.curve.items():
        metrics = headline_metrics(outcome.scores, scenario, resamples=2)
        for name, value in expected[n].items():
            assert metrics[name].mean == pytest.approx(value, abs=1e-6), (n, name)


def assert_changed_alike(
    module: ManyEditsModule, model: MultimodalModel, edited: PreTrainedModel
) -> None:
    copied = copy.deepcopy(model)
    copied.hf.load_state_dict(edited.state_dict())
    assert isinstance(module.edits, DeltaEdit)
    for site, delta in module.edits.deltas.items():
        change = linear_weight(copied.linear(site)) - linear_weight(model.linear(site))
        assert (delta.dense()[0] - change).abs().max() < 1e-8 * change.abs().max(), site


@pytest.mark.parametrize(("kind", "scenario"), [("ft", "unimodal"), ("mend", "multimodal")])
def test_turns_equal_overwritten_weights(
    model: MultimodalModel, source: RecordSource, kind: str, scenario: str
) -> None:
    editor, apply = both_ways(kind, model, source)
    edited, expected = reference(model, apply, source, scenario, TURNS)
    for batch_size in (1, 4):
        module = ran(
            SequentialModule, model, editor, source, scenario, batch_size, points=POINTS, turn=2
        )
        assert_equal(module, scenario, expected)
        assert_changed_alike(module, model, edited)


@pytest.mark.parametrize(("kind", "scenario"), [("ft", "transitive"), ("mend", "unimodal")])
def test_a_batch_equals_weights_that_are_overwritten_once(
    model: MultimodalModel, source: RecordSource, kind: str, scenario: str
) -> None:
    editor, apply = both_ways(kind, model, source)
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    expected: dict[int, dict[str, float]] = {}
    for n in (2, 5):
        edited, of_one = reference(model, apply, source, scenario, [range(n)])
        expected |= of_one
    module = ran(BatchModule, model, editor, source, scenario, 2, points=(2, 5))
    assert_equal(module, scenario, expected)
    assert_changed_alike(module, model, edited)
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("kind", ["mend", "ft"])
def test_a_batch_of_one_is_a_single_edit(
    model: MultimodalModel, source: RecordSource, kind: str
) -> None:
    editor, _ = both_ways(kind, model, source)
    batch = ran(BatchModule, model, editor, source, "unimodal", 4, points=(1,))
    single = EvaluationModule(model, editor, SCENARIOS["unimodal"], encoder(model))
    trainer().test(single, datamodule=datamodule(model, source, "unimodal", 1), verbose=False)

    def lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = [row for row in rows if row["edit_id"] == 0]
        return [{k: v for k, v in row.items() if k != "seconds"} for row in first]

    assert lines(batch.outcome.lines) == lines(single.outcome.lines)
