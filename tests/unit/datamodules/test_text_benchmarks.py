"""zsRE and CounterFact: text alone, what they lack is absent, every mistake is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from configs.rules import rule_problems
from configs.schema import ScenarioOptions
from datamodules.prompts import Prompt
from datamodules.scenarios import SCENARIOS, ScenarioName
from datamodules.source import RecordSource
from editors.ike.demonstrations import neighbours
from editors.serac.negatives import out_of_scope
from errors import DataError
from tests.benchmark_files import options, read
from tests.unit.datamodules.test_datamodule import batches, make

ZSRE: dict[str, Any] = {
    "subject": "UniFirst",
    "src": "What is the product made by UniFirst?",
    "pred": "cloth",
    "rephrase": "What will be the product of UniFirst?",
    "alt": "unmanned aircraft",
    "answers": ["uniform", "workwear"],
    "loc": "nq question: who is walter in the big lebowski",
    "loc_ans": "Walter Sobchak",
    "cond": "uniform >> unmanned aircraft || What is the product made by UniFirst?",
}
HOP = {"New Question": "What flies that UniFirst makes?", "New Answer": "A drone"}
COUNTERFACT: dict[str, Any] = {
    "case_id": 42,
    "prompt": "The profession of Arun Nehru is",
    "target_new": "actor",
    "subject": "Arun Nehru",
    "ground_truth": "politician",
    "rephrase_prompt": "Arun Nehru is known for",
    "locality_prompt": "George Washington's profession is a",
    "locality_ground_truth": "politician",
}
SAMPLES = {"zsre": ZSRE, "counterfact": COUNTERFACT}


def asked(source: RecordSource, number: int = 0) -> Mapping[str, Prompt]:
    """Probe -> what the unimodal scenario asks of a record; probes that it lacks are absent."""
    record = source.records("test")[number]
    prompts = {name: probe(record) for name, probe in SCENARIOS["unimodal"].probes.items()}
    return {name: prompt for name, prompt in prompts.items() if prompt is not None}


def test_a_record_of_zsre_asks_what_it_has_and_nothing_else(tmp_path: Path) -> None:
    source = read("zsre", tmp_path, ZSRE, {**ZSRE, "subject": "X", "portability": HOP})
    assert asked(source) == {
        "reliability": Prompt(ZSRE["src"], "unmanned aircraft"),
        "generality": Prompt(ZSRE["rephrase"], "unmanned aircraft"),
        "locality_far": Prompt("who is walter in the big lebowski", "Walter Sobchak", plain=True),
    }
    assert source.records("test")[0].knowledge_edit.answer_true == "uniform"
    assert asked(source, 1)["portability"] == Prompt(HOP["New Question"], "A drone")
    assert not source.cloze  # questions, in the prompt's template
    assert not source.plain_locality
    assert neighbours(source.records("test")[0]) == [asked(source)["locality_far"][:2]]
    assert out_of_scope(source.records("test")[0]) == [asked(source)["locality_far"].question]


def test_a_record_of_counterfact_asks_its_clozes(tmp_path: Path) -> None:
    source = read("counterfact", tmp_path, COUNTERFACT)
    assert asked(source) == {
        "reliability": Prompt("The profession of Arun Nehru is", "actor"),
        "generality": Prompt("Arun Nehru is known for", "actor"),
        "locality_near": Prompt("George Washington's profession is a", "politician"),
    }


@pytest.mark.parametrize("as_what", ["cloze", "question"])
def test_a_cloze_stands_without_the_template_unless_asked_as_a_question(
    tmp_path: Path, as_what: str
) -> None:
    source = read("counterfact", tmp_path, COUNTERFACT, asked=as_what)
    (batch,) = batches(make(source, "unimodal"))
    texts = batch.rows.texts
    assert len(texts) == 3
    assert {text.plain for text in texts} == {as_what == "cloze"}


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("zsre", {"alt": ""}, "alt: "),
        ("zsre", {"answers": []}, "answers: "),
        ("zsre", {"answers": "uniform"}, "answers: "),
        ("zsre", {"rephrase": 7}, "rephrase: a text is needed"),
        ("zsre", {"portability": {"New Question": "Who?"}}, r"portability\.New Answer: "),
        ("counterfact", {"locality_prompt": None}, "locality_prompt: "),
        ("counterfact", {"target_new": " "}, "target_new: "),
    ],
)
def test_a_record_that_breaks_the_schema_is_named_or_left_out(
    tmp_path: Path, name: str, changed: dict[str, object], message: str
) -> None:
    sample = SAMPLES[name]
    broken = {**sample, "subject": "Broken", **changed}
    with pytest.raises(DataError, match=rf"record 1 of .*test\.json breaks the .*: {message}"):
        read(name, tmp_path, sample, broken)
    source = read(name, tmp_path, sample, broken, on_error="skip")
    assert [record.subject for record in source.records("test")] == [sample["subject"]]
    assert [record.subject for record in source.left_out["test"]] == ["Broken"]


@pytest.mark.parametrize("shown", ["transitive", "reverse", "joint"])
@pytest.mark.parametrize("name", SAMPLES)
def test_pictures_are_refused_of_text_alone(tmp_path: Path, name: str, shown: ScenarioName) -> None:
    sections = {
        "data": options(name, tmp_path, filter_known="pictures"),
        "scenario": ScenarioOptions(name=shown),
    }
    known, scenario = rule_problems("evaluate", sections)
    assert scenario.startswith(f"scenario={shown}: data={name} is text alone")
    able = "cckeb, countries, folder, hub, mcmke, mmedit, mmke, tmke, vlkeb, world"
    assert f"data with pictures is {able}" in scenario
    assert known.startswith("data.filter_known=pictures: ")
    sections = {"data": options(name, tmp_path), "scenario": ScenarioOptions(name="unimodal")}
    assert rule_problems("evaluate", sections) == []
    source = read(name, tmp_path, SAMPLES[name])
    with pytest.raises(DataError, match=r"has no picture of .* only scenario=unimodal"):
        make(source, "transitive")


def test_a_byte_order_mark_and_a_cut_file(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps([ZSRE]), encoding="utf-8-sig")
    assert len(options("zsre", tmp_path).read().records("test")) == 1
    (tmp_path / "test.json").write_text(json.dumps([ZSRE])[:-20], encoding="utf-8")
    with pytest.raises(DataError, match="it was cut short"):
        options("zsre", tmp_path).read()
