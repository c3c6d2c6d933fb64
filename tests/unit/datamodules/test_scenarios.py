"""Tests of the scenario table: what teaches an edit, and what is asked after it."""

from pathlib import Path

from datamodules.scenarios import (
    IMAGE_PROBES,
    TEXT_BESIDE_PICTURES,
    TEXT_PROBES,
    training_scenario,
)
from datamodules.sources.tmke import read_tmke
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
    edit, prompts = scenario.edit(record), {p: make(record) for p, make in scenario.probes.items()}
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
