"""Tests of the scenario table: what teaches an edit, and what is asked after it."""

import re
from pathlib import Path
from typing import get_args

import pytest

from datamodules.prompts import Prompt
from datamodules.scenarios import (
    DRAWN_FIELDS,
    IMAGE_PROBES,
    SCENARIOS,
    TEXT_BESIDE_PICTURES,
    TEXT_PROBES,
    ScenarioName,
    training_scenario,
)
from datamodules.sources.tmke import read_tmke
from errors import DataError
from metrics.headlines import HEADLINES, headlines_of, variants_of
from reporting.paper import paper_columns
from tests.unit.datamodules.test_sources import RECORD, write


def test_text_probes_beside_pictures_ask_what_they_ask_alone(tmp_path: Path) -> None:
    write(tmp_path / "t.json", RECORD)
    record = read_tmke(tmp_path).records("test")[0]
    assert set(TEXT_BESIDE_PICTURES) == {
        "reliability_t", "generality_t", "portability_t", "stability_same_t", "stability_diff_t",
        "leak_same_t", "leak_diff_t",
    }  # fmt: skip
    assert not set(TEXT_BESIDE_PICTURES) & set(IMAGE_PROBES)
    for name, make_prompt in TEXT_BESIDE_PICTURES.items():
        prompt = make_prompt(record)
        assert prompt is not None
        assert prompt.image is None
        assert prompt == TEXT_PROBES[name.removesuffix("_t")](record)


def test_a_transitive_training_asks_in_text_and_about_both_pictures(tmp_path: Path) -> None:
    write(tmp_path / "t.json", RECORD)
    record = read_tmke(tmp_path).records("test")[0]
    asked = {"generality_t", "reliability_s", "generality_u", "named_s", "named_u"}
    scenario = training_scenario("transitive", "transitive", asked)
    assert scenario.probes.keys() == asked
    (edit,) = scenario.edit(record)
    prompts = {probe: make(record) for probe, make in scenario.probes.items()}
    assert edit.image is None
    assert prompts["generality_t"] == TEXT_PROBES["generality"](record)
    for name in ("reliability_s", "generality_u"):
        assert prompts[name] == IMAGE_PROBES[name](record)
    # Who is shown has been named: the text question, beside each of the two pictures.
    assert prompts["named_s"] == edit._replace(image=record.image)
    assert prompts["named_u"] == edit._replace(image=record.image_rephrase)
    assert record.image != record.image_rephrase
    without = record.model_copy(update={"image_rephrase": None})
    assert scenario.probes["named_u"](without) is None
    assert scenario.images(record) == sorted([str(record.image), str(record.image_rephrase)])


def test_the_table_holds_every_edit_with_every_kind_of_probe(tmp_path: Path) -> None:
    write(tmp_path / "t.json", RECORD)
    record = read_tmke(tmp_path).records("test")[0]
    text = Prompt(record.knowledge_edit.question or "", "Hon Hai")
    shown = Prompt(record.knowledge_edit.image_question or "", "Hon Hai", "a_0.jpeg")
    expected = {
        "unimodal": ((text,), TEXT_PROBES),
        "transitive": ((text,), IMAGE_PROBES),
        "multimodal": ((shown,), IMAGE_PROBES),
        "reverse": ((shown,), TEXT_PROBES),
        "joint": ((text, shown), {**IMAGE_PROBES, **TEXT_BESIDE_PICTURES}),
    }
    assert list(SCENARIOS) == list(expected) == list(get_args(ScenarioName))
    for name, (edit, probes) in expected.items():
        scenario = SCENARIOS[name]
        assert scenario.name == name
        assert scenario.edit(record) == edit
        assert dict(scenario.probes) == dict(probes)
        shows = any(prompt.image for prompt in edit) or probes is not TEXT_PROBES
        assert bool(scenario.images(record)) == shows
    assert SCENARIOS["reverse"].images(record) == ["a_0.jpeg"]


def test_every_probe_has_a_metric_and_every_metric_a_probe() -> None:
    assert list(HEADLINES) == list(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        of_metrics = {probe for line in HEADLINES[name] for probe in line.probes}
        hops = {probe for probe in of_metrics if probe.endswith("hop")}
        assert of_metrics - hops == set(scenario.probes)
        assert set(paper_columns(name)) <= {line.name for line in HEADLINES[name]}


def test_what_is_asked_in_text_has_no_parts_by_pictures() -> None:
    """`Reliability_T` of scenario=joint has a gain, and no picture that was read or not."""
    names = [line.name for line in variants_of("joint", headlines_of("joint"))]
    assert "Reliability_T_gain" in names
    assert "Reliability_S_read" in names
    in_text = re.compile(r"(Reliability|Generality|Portability|Stability|Leak|Locality)_T")
    with_parts = [name for name in names if name.endswith(("read", "unread", "named", "unnamed"))]
    assert not [name for name in with_parts if in_text.match(name)]
    reverse = [line.name for line in variants_of("reverse", headlines_of("reverse"))]
    assert reverse == [line.name for line in variants_of("unimodal", headlines_of("unimodal"))]


def test_probes_drawn_from_other_records_are_named_beside_pictures_too() -> None:
    for probe, field in DRAWN_FIELDS.items():
        assert probe.split("_")[0] in ("stability", "leak")
        assert field == f"{probe.split('_')[1]}_type_entity_question"
        assert probe in {**TEXT_PROBES, **IMAGE_PROBES, **TEXT_BESIDE_PICTURES}
    assert len(DRAWN_FIELDS) == 8


def test_a_scenario_says_which_form_a_record_lacks(tmp_path: Path) -> None:
    write(tmp_path / "t.json", RECORD)
    record = read_tmke(tmp_path).records("test")[0].model_copy(update={"image": None})
    for name in ("reverse", "joint"):
        with pytest.raises(DataError, match="has no picture of 'Holden Caprice'"):
            SCENARIOS[name].edit(record)
