"""Edits in sequence: what is scored when, against what, and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from editors.base import DeltaEdit, Editor
from editors.ft.editor import FineTune
from editors.none.editor import Unedited
from editors.turn import Turn
from errors import ConfigError
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.sequential import SequentialModule
from lightning_modules.turns import check_points
from metrics.collection import headline_metrics
from metrics.headlines import WITH_BEFORE
from models.editable import EditableModel, PrefixState
from models.llava import Llava
from models.rows import Answers, EditBatch, Rows
from results.folder import CURVE_SCHEMA
from results.partial import BatchResult, PartialResults
from tests.builders import llava, trainer
from tests.editors import fine_tune
from tests.parity.test_slow_reference import (
    IMAGE_ID,
    TOKENIZER,
    datamodule,
    encoder,
    five_records,
)
from tests.unit.datamodules.test_sources import other, write

POINTS = (2, 3, 5)
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return five_records(tmp_path_factory.mktemp("tmke"))


@pytest.fixture(scope="module")
def model() -> Llava:
    return llava(vocabulary=len(TOKENIZER), image_token=IMAGE_ID)


@pytest.fixture(scope="module")
def usual(model: Llava, source: RecordSource) -> SequentialModule:
    """Five edits, scored at `POINTS`."""
    return ran(sequence(model, strong(), source))


def strong() -> FineTune:
    """It mostly reaches its targets and disturbs what was there."""
    return fine_tune(steps=20, lr=2e-2, stop_loss=0.1, stop_when_argmax=True)


def sequence(
    model: EditableModel,
    editor: Editor,
    source: RecordSource,
    *,
    points: tuple[int, ...] = POINTS,
    batch_size: int = 2,
    scenario: str = "unimodal",
    done: PartialResults | None = None,
) -> SequentialModule:
    return SequentialModule(
        model,
        editor,
        datamodule(model, source, scenario, batch_size),
        partial=done,
        points=points,
    )


def ran(module: SequentialModule) -> SequentialModule:
    trainer().test(module, verbose=False)
    return module


def untimed(rows: Lines, *left_out: str) -> Lines:
    kept = [{k: v for k, v in r.items() if k not in ("seconds", *left_out)} for r in rows]
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))


def test_every_point_asks_all_edits_so_far(usual: SequentialModule) -> None:
    rows = usual.curve_lines()
    assert all(set(row) == set(CURVE_SCHEMA.names) for row in rows)
    for n in POINTS:
        here = [row for row in rows if row["edits_in_place"] == n]
        asked = [(row["edit_id"], row["probe"], row["metric"]) for row in here]
        assert {edit for edit, _, _ in asked} == set(range(n))
        assert (
            len(asked) == len(set(asked)) == n * 23
        )  # seven with three measures, locality has two
    last = [row for row in rows if row["edits_in_place"] == POINTS[-1]]
    outcome = usual.outcome
    assert untimed(outcome.lines) == untimed(last, "edits_in_place")
    assert set(outcome.seconds) == set(outcome.answer_seconds) == set(range(5))
    point = usual.curve[5].scores
    assert {key: of_edits for key, of_edits in outcome.scores.items() if of_edits} == point


def test_an_edit_has_the_time_that_it_took_at_every_point(usual: SequentialModule) -> None:
    by_point = [outcome.seconds for outcome in usual.curve.values()]
    assert len(set(by_point[-1].values())) == 5
    for seconds in by_point:
        assert seconds.items() <= by_point[-1].items()


def test_an_answer_at_a_point_takes_the_mean_over_edits(
    usual: SequentialModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(self: SequentialModule, batch: EditBatch, *_: object) -> BatchResult:
        return BatchResult(batch.edit_ids, [], float(len(batch.edit_ids)))

    monkeypatch.setattr(SequentialModule, "_score_all", score)
    assert usual.edits is not None
    point = usual._score_point(5, usual.edits)  # in batches of 2, 2 and 1
    assert point.edit_ids == (0, 1, 2, 3, 4)
    assert point.answer_seconds == pytest.approx((2 + 2 + 2 + 2 + 1) / 5)


def test_the_size_of_a_batch_changes_nothing(
    usual: SequentialModule, model: Llava, source: RecordSource
) -> None:
    larger = ran(sequence(model, strong(), source, batch_size=4))
    assert untimed(larger.curve_lines()) == untimed(usual.curve_lines())


def test_what_was_found_right_after_an_edit_is_its_part_of_that_point(
    model: Llava, source: RecordSource
) -> None:
    module = ran(sequence(model, strong(), source, points=(1, 2, 3, 4, 5), batch_size=1))
    made = module.when_made[5].lines
    for n, outcome in module.curve.items():
        newest = [row for row in outcome.lines if row["edit_id"] == n - 1]
        assert untimed(newest) == untimed([row for row in made if row["edit_id"] == n - 1])
    forgotten = module.curve[5].lines
    assert untimed(forgotten) != untimed(made), "no edit disturbs another: this shows nothing"


def test_before_is_always_the_unedited_model(model: Llava, source: RecordSource) -> None:
    module = ran(sequence(model, strong(), source, points=(1, 2, 3, 4, 5)))
    single = EvaluationModule(model, Unedited(), SCENARIOS["unimodal"], encoder(model))
    trainer().test(single, datamodule=datamodule(model, source, "unimodal", 5), verbose=False)
    unedited = {
        (row["edit_id"], row["probe"], row["metric"]): (row["post_text"], row["value"])
        for row in single.outcome.lines
    }
    rows = module.curve_lines()
    for row in rows:
        text, value = unedited[row["edit_id"], row["probe"], row["metric"]]
        assert row["pre_text"] == text
        assert row["pre_value"] == (value if row["metric"] in WITH_BEFORE else None)
    moved = [row for row in rows if row["probe"] == "locality_far" and row["value"] < 1]
    assert moved


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_unedited_model_has_a_flat_curve(
    model: Llava, source: RecordSource, scenario: str
) -> None:
    module = ran(sequence(model, Unedited(), source, scenario=scenario))
    for outcome in module.curve.values():
        metrics = headline_metrics(outcome.scores, scenario, resamples=2)
        localities = [v.mean for name, v in metrics.items() if name.startswith("Locality") and v.n]
        assert localities
        assert set(localities) == {100}
    rows = module.curve_lines()
    first = [row for row in rows if row["edit_id"] < 2]
    flat = [
        untimed([r for r in first if r["edits_in_place"] == n], "edits_in_place") for n in POINTS
    ]
    assert flat[0] == flat[1] == flat[2]


def test_the_base_is_the_same_bit_for_bit(model: Llava, source: RecordSource) -> None:
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    ran(sequence(model, strong(), source))
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_too_few_edits_are_told_with_both_numbers(model: Llava, source: RecordSource) -> None:
    with pytest.raises(ConfigError, match=r"protocol\.n=1,7 makes 7 edits, .* has 5\. .* above 5"):
        sequence(model, strong(), source, points=(1, 7))
    check_points((1, 5), datamodule(model, source, "unimodal", 2))


class Passing:
    """An edit that knows nothing of others."""

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        return model.suffix(state, at=at)


class Alone(Unedited):
    name = "alone"

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Any) -> Any:
        return Passing()


def test_edits_that_cannot_stay_are_refused(model: Llava, source: RecordSource) -> None:
    with pytest.raises(ConfigError, match="editor=alone makes edits that cannot stay in place"):
        ran(sequence(model, Alone(), source))


def test_a_point_that_was_scored_is_not_scored_again(
    model: Llava, source: RecordSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = PartialResults(tmp_path, {})
    assert done.open() == []
    whole = ran(sequence(model, strong(), source, done=done))
    assert len(list(done.folder.glob("*.parquet"))) == len(POINTS)
    sorted(done.folder.glob("*.parquet"))[-1].unlink()  # the last point is missing
    scored: list[int] = []
    counted = SequentialModule._score_point

    def point(self: SequentialModule, n: int, edits: Any) -> BatchResult:
        scored.append(n)
        return counted(self, n, edits)

    monkeypatch.setattr(SequentialModule, "_score_point", point)
    again = sequence(model, strong(), source, done=done)
    earlier = PartialResults(tmp_path, {}).open()
    in_place = [{line["edits_in_place"] for line in result.lines} for result in earlier]
    assert sorted(map(sorted, in_place)) == [[2], [3]]
    for result in earlier:
        again.add(result)
    ran(again)
    assert scored == [POINTS[-1]]
    assert untimed(again.curve_lines()) == untimed(whole.curve_lines())
    assert untimed(again.outcome.lines) == untimed(whole.outcome.lines)
    assert len(list(done.folder.glob("*.parquet"))) == len(POINTS)


def test_the_summary_has_metrics_of_every_point(usual: SequentialModule) -> None:
    found = usual.summary_fields(
        lambda outcome: headline_metrics(outcome.scores, "unimodal", resamples=50)
    )
    assert list(found) == ["curve", "left_out", "not_taught", "when_made"]
    for part in found.values():
        assert list(part) == ["2", "3", "5"]
    last = headline_metrics(usual.outcome.scores, "unimodal", resamples=50)
    assert found["curve"]["5"] == {name: value.as_dict() for name, value in last.items()}
    for part in ("curve", "when_made"):
        assert [found[part][n]["Reliability"]["n"] for n in ("2", "3", "5")] == [2, 3, 5]
    made, left = (found[part]["5"]["Reliability"]["mean"] for part in ("when_made", "curve"))
    assert made > left > 0
    assert found["left_out"] == {"2": 0, "3": 0, "5": 0}
    assert found["not_taught"] == {"2": {}, "3": {}, "5": {}}
    json.dumps(found, allow_nan=False)


def edited_question(number: int) -> str:
    return f"Which company is Car {number} produced by?"


def crossing(root: Path) -> RecordSource:
    """Edit 0's locality question is edit 2's own, edit 1's stability question is edit 0's."""
    pictured = five_records(root)
    records = [other(f"Car {number}") for number in range(3)]
    for number, record in enumerate(records):
        rephrased = f"Who manufactures the Car {number}?"
        record["rephrase_question"]["rephrase_question"] = rephrased
    records[0]["locality_question"]["question"] = edited_question(2)
    records[1]["same_type_entity_question"]["same_type_entity"] = "Car 0"
    (root / "test.json").unlink()
    write(root / "test.json", *records)
    return replace(read_tmke(root), image_root=pictured.image_root)


def test_probes_that_another_edit_in_place_contradicts_are_left_out(
    model: Llava, tmp_path: Path
) -> None:
    source = crossing(tmp_path)
    module = ran(sequence(model, Unedited(), source, points=(1, 2, 3)))
    probes = partial(asked, module.curve_lines())
    assert "locality_far" in probes(1, 0)
    assert "locality_far" in probes(2, 0)
    assert "locality_far" not in probes(3, 0)
    assert not {"stability_same", "leak_same"} & probes(2, 1)
    assert {"stability_diff", "leak_diff", "locality_far"} <= probes(2, 1)
    assert module.left_out() == {1: 0, 2: 2, 3: 3}
    made = asked([row | {"edits_in_place": 0} for row in module.when_made[3].lines], 0, 0)
    assert "locality_far" in made, "edit 2 had not been made"
    assert headline_metrics(module.curve[3].scores, "unimodal", resamples=2)["Locality"].n == 2


def asked(rows: Lines, n: int, edit: int) -> set[str]:
    return {r["probe"] for r in rows if (r["edits_in_place"], r["edit_id"]) == (n, edit)}


def test_deltas_are_kept_without_a_graph(model: Llava, source: RecordSource) -> None:
    """A trained editor's deltas hang on its weights, and hundreds of graphs would be kept."""
    (batch, *_) = datamodule(model, source, "unimodal", 1).test_dataloader()
    state = model.prefix(batch.rows, 2)
    edit = strong().edit(model, batch, state)
    hanging = {
        site: replace(delta, weight=delta.dense().requires_grad_())  # type: ignore[call-arg]
        for site, delta in edit.deltas.items()
    }
    kept = DeltaEdit(hanging).after(DeltaEdit(hanging).after(None))
    for site, delta in kept.deltas.items():
        assert not delta.dense().requires_grad
        torch.testing.assert_close(delta.dense(), 2 * hanging[site].dense().detach())
