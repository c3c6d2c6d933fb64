"""What a model was taught while it was made, and which edits are left out for that."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from datamodules.datamodule import EditDataModule
from datamodules.fact_marks import FactMarks, TaughtFacts, read_fact_marks
from datamodules.images import ImageStore
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS, training_scenario
from datamodules.source import RecordSource, Split
from errors import DataError, ModelError
from tests.unit.datamodules.test_datamodule import misses, pixels, prompt_encoder
from tests.unit.datamodules.test_sources import RECORD, other

CAPITAL = "capital"


def record(subject: str, relation: str | None = CAPITAL) -> Record:
    return Record.model_validate(other(subject) | {"relation": relation})


def marks(folder: Path, **facts: object) -> FactMarks:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"facts": facts}), encoding="utf-8")
    return read_fact_marks(folder)


def made(
    folder: Path, *subjects: str, known: str = "none", served: bool = False, **options: Any
) -> EditDataModule:
    """Of a model that was taught the capitals of A and C, and had B's unlocked."""
    taught = marks(folder, taught=[["A", CAPITAL], ["C", CAPITAL]], unlocked=[["B", CAPITAL]])
    splits: dict[Split, list[Record]] = {"test": [record(subject) for subject in subjects]}
    splits["train"] = [record("A"), record("B")]
    text = training_scenario("unimodal", "text", {"generality"})
    scenarios = {"test": SCENARIOS["unimodal"], "train": text}
    data = EditDataModule(
        RecordSource("t", folder, splits, True, known),  # type: ignore[arg-type]
        scenarios,  # type: ignore[arg-type]
        taught=TaughtFacts(taught, are_served=served), **options,
    )  # fmt: skip
    data.connect(prompt_encoder(), ImageStore(pixels), misses("E"))
    data.check()
    data.setup()
    return data


def subjects(data: EditDataModule) -> list[str]:
    return [record.about for record in data.records("test")]


def test_marks_belong_to_subject_and_relation(tmp_path: Path) -> None:
    found = marks(tmp_path, known_before=[["Łódź", CAPITAL]], taught=[["A", CAPITAL]])
    assert found.of(record("łódź")) == "known_before", "however it is spelled"
    assert found.of(record("Łódź", "continent")) is None
    assert found.of(record("Łódź", None)) is None
    assert found.of(Record.model_validate(RECORD)) is None
    counts = found.counts([record("Łódź"), record("A"), record("A"), record("B")])
    assert counts == {"known_before": 1, "unlocked": 0, "taught": 2, "unmarked": 1}
    both = marks(tmp_path, known_before=[["A", CAPITAL]], taught=[["A", CAPITAL]])
    assert both.of(record("A")) == "taught"


@pytest.mark.parametrize("content", [None, "{}", '{"facts": 7}', '{"facts": {"all": [1]}}', "[]"])
def test_a_model_may_say_nothing_of_its_facts(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert not read_fact_marks(tmp_path)
    assert not read_fact_marks("HuggingFaceTB/SmolVLM-256M-Instruct")


@pytest.mark.parametrize("taught", [[["A"]], [["A", 1]], "A", [["A", "b", "c"]], {"A": "b"}])
def test_marks_that_are_no_pairs_are_named(taught: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json: facts\.taught holds .* expected are"):
        marks(tmp_path, taught=taught)


def test_a_manifest_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json cannot be read as JSON"):
        read_fact_marks(tmp_path)


@pytest.mark.parametrize("known", ["none", "text"])
def test_test_edits_of_taught_facts_are_left_out_and_counted(
    known: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = made(tmp_path, "A", "B", "C", "D", known=known)
    assert subjects(data) == ["B", "D"]
    assert data.n_edits("train") == 2, "a training takes all"
    counts = data.fact_counts("test")
    assert counts is not None
    assert counts["taught_left_out"] == 2
    assert counts["marks"] == {"known_before": 0, "unlocked": 1, "taught": 0, "unmarked": 1}
    assert ("candidates" in counts) == (known == "text")
    assert counts.get("candidates", 2) == 2, "those that were left out were not asked about"
    assert "1 unlocked, 1 unmarked; 2 records left out as taught (data.taught=true" in caplog.text


def test_taught_facts_are_edited_where_that_is_asked(tmp_path: Path) -> None:
    data = made(tmp_path, "A", "B", "C", "D", served=True)
    assert subjects(data) == ["A", "B", "C", "D"]
    counts = data.fact_counts("test")
    assert counts is not None
    assert (counts["taught_left_out"], counts["marks"]["taught"]) == (0, 2)


@pytest.mark.parametrize("known", ["none", "text"])
def test_the_limit_counts_edits_that_are_made(known: str, tmp_path: Path) -> None:
    assert subjects(made(tmp_path, "A", "E", "C", "B", "D", known=known, limit=2)) == (
        ["E", "B"] if known == "none" else ["B", "D"]
    )


def test_where_every_fact_was_taught_there_is_nothing_to_edit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"taught 2 facts of the test split .*data\.taught=true"):
        made(tmp_path, "A", "C")
