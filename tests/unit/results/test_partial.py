"""What a run leaves on disk while it goes on, and what a continuation makes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.scenarios import SCENARIOS
from errors import ConfigError, DataError
from lightning_modules.evaluation import EvaluationModule
from results.outcome import Outcome
from results.partial import BatchResult, PartialResults, edits_of, remove_partial
from tests.serac_cases import looked, picture_model, stirred, worded_batch

IDENTITY: dict[str, Any] = {"seed": 0, "data_digest": "d", "limits": (1, 2)}


def batch(*ids: int) -> BatchResult:
    rows = [
        {
            "edit_id": edit, "subject": "Łódź", "probe": "reliability", "metric": "token_accuracy",
            "value": edit / 7, "pre_text": None, "post_text": "b", "target": "b", "seconds": 0.1,
            "pre_value": edit / 3, "named_before": edit % 2 == 0, "fact_before": None,
        }
        for edit in ids
    ]  # fmt: skip
    return BatchResult(ids, rows, 0.25, {"shown": [float(edit) for edit in ids]})


def begun(folder: Path, *batches: BatchResult) -> PartialResults:
    partial = PartialResults(folder, IDENTITY)
    assert partial.open() == []
    for one in batches:
        partial.add(one)
    return partial


def test_batches_come_back_as_they_were(tmp_path: Path) -> None:
    begun(tmp_path, batch(4, 5), batch(0, 1))
    found = PartialResults(tmp_path, IDENTITY).open()
    assert found == [batch(0, 1), batch(4, 5)]
    assert edits_of(found) == {0, 1, 4, 5}


def test_a_broken_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    partial = begun(tmp_path, batch(0, 1), batch(2, 3), batch(4, 5))
    cut, empty, whole = sorted(partial.folder.glob("*.parquet"))
    (partial.folder / f".{whole.stem}-77.parquet").write_bytes(b"PAR1")  # was being written
    cut.write_bytes(cut.read_bytes()[:-20])
    empty.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert edits_of(PartialResults(tmp_path, IDENTITY).open()) == {4, 5}
    assert caplog.text.count("its edits are made again") == 2


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = begun(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(DataError, match=r"No space left on device.*resume=true goes on"):
        partial.add(batch(0))
    assert [path.name for path in partial.folder.iterdir()] == ["run.json"]


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    begun(tmp_path, batch(0))
    with pytest.raises(ConfigError, match="data_digest was 'd' and is 'e'") as caught:
        PartialResults(tmp_path, IDENTITY | {"data_digest": "e"}).open()
    assert "seed" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "7", "{"])
def test_what_says_nothing_of_its_run_is_named(tmp_path: Path, content: str) -> None:
    begun(tmp_path, batch(0))
    (tmp_path / "partial" / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json, which says what run this was"):
        PartialResults(tmp_path, IDENTITY).open()


def test_a_run_of_an_earlier_version_is_told_from_another_one(tmp_path: Path) -> None:
    begun(tmp_path, batch(0))
    later = IDENTITY | {"dtype": "float32", "device": "cpu"}
    with pytest.raises(ConfigError, match="an earlier version, which did not note dtype, device"):
        PartialResults(tmp_path, later).open()


def test_the_folder_goes_when_the_result_stands(tmp_path: Path) -> None:
    begun(tmp_path, batch(0))
    remove_partial(tmp_path)
    assert not list(tmp_path.iterdir())
    remove_partial(tmp_path)


def test_a_continued_evaluation_finds_what_an_unbroken_one_does(tmp_path: Path) -> None:
    model = picture_model()
    editor = stirred(model)
    batches = [worded_batch(numbers, pictures=True) for numbers in ((1, 2), (3,), (4, 5))]

    def module(folder: Path) -> tuple[EvaluationModule, PartialResults]:
        partial = PartialResults(folder, IDENTITY)
        scenario = SCENARIOS["transitive"]
        return EvaluationModule(model, editor, scenario, editor.encoder, partial=partial), partial

    whole, partial = module(tmp_path / "whole")
    partial.open()
    for one in batches:
        whole.test_step(looked_at(model, one), 0)
    broken, partial = module(tmp_path / "broken")
    partial.open()
    for one in batches[:2]:
        broken.test_step(looked_at(model, one), 0)
    again, partial = module(tmp_path / "broken")
    for earlier in partial.open():
        again.add(earlier)
    measured = again.compute_outcome().seconds
    again.test_step(looked_at(model, batches[1]), 0)  # a batch that comes twice counts once
    again.test_step(looked_at(model, batches[2]), 0)
    found, expected = again.compute_outcome(), whole.compute_outcome()
    assert found.scores == expected.scores
    assert without_time(found) == without_time(expected)
    assert found.report == expected.report
    assert found.report["scope_inside"] > 0
    assert set(found.answer_seconds) == {1, 2, 3, 4, 5}
    assert found.seconds | measured == found.seconds, "the first measurement of an edit stands"


def looked_at(model: Any, one: Any) -> Any:
    with torch.no_grad():
        return looked(model, one)


def without_time(outcome: Outcome) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in outcome.lines]
