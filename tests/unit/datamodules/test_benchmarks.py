"""The field's benchmarks: each record asks what its files say, and nothing is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.prompts import Prompt, true_questions
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from errors import DataError
from tests.benchmark_files import (
    CAPTION,
    CCKEB,
    CCKEB_PICTURES,
    MCMKE,
    MEND,
    MMEDIT,
    MMKE,
    MMKE_VISUAL,
    MULTIHOP,
    NESTED,
    ONE_HOP,
    VLKEB,
    asked,
    draw_pictures,
    options,
    read,
    vlkeb_of,
    write_json,
    write_mcmke,
)
from tests.unit.datamodules.test_datamodule import batches, make

SHOWN = "Where was the one in the picture founded?"
LOCALITY = {
    "locality_t_far": Prompt("who wrote the longest letter", "Ada Quill", plain=True),
    "locality_i_far": Prompt("Which river is in the image?", "the Eldwater", "m.0b2/yahoo_3.jpg"),
}


def joined(root: Path, *pictures: Any, **changed: Any) -> RecordSource:
    """CCKEB's miniature beside some records of VLKEB."""
    write_json(root / "vlkeb" / "eval.json", list(pictures or CCKEB_PICTURES))
    (root / "cckeb").mkdir(exist_ok=True)
    return read("cckeb", root / "cckeb", *CCKEB, vlkeb_root=str(root / "vlkeb"), **changed)


def test_vlkeb_edits_what_a_picture_shows(tmp_path: Path) -> None:
    source = read("vlkeb", tmp_path, VLKEB)
    (record,) = source.records("test")
    assert asked(source, "multimodal") == {
        "reliability_s": Prompt(VLKEB["src"], "Port Vell", "m.0a1/google_1.jpg"),
        "reliability_u": Prompt(VLKEB["src"], "Port Vell", "m.0a1/bing_2.jpg"),
        "generality_s": Prompt(VLKEB["rephrase"], "Port Vell", "m.0a1/google_1.jpg"),
        "generality_u": Prompt(VLKEB["rephrase"], "Port Vell", "m.0a1/bing_2.jpg"),
        **LOCALITY,
    }
    assert record.subject == "Holm, Arden"  # `pred`, which is written with underscores
    assert source.image_root == tmp_path / "mmkb_images"
    # `src` was written for another entity, so it tells nobody whether the picture is known.
    assert record.knowledge_edit.answer_true is None
    with pytest.raises(DataError, match=r"does not say what is true.* data\.filter_known=none"):
        true_questions(record)
    for scenario in ("unimodal", "transitive", "joint"):
        with pytest.raises(DataError, match=r"none in text: only scenario=multimodal can be asked"):
            SCENARIOS[scenario].edit(record)
    with pytest.raises(DataError, match=r"none in text: only scenario=multimodal can be asked"):
        SCENARIOS["reverse"].probes["reliability"](record)


@pytest.mark.parametrize(
    ("sample", "hop", "expected", "steps"),
    [
        (ONE_HOP, 1, ("What is the time zone of the town in the picture?", "Coast Time"), 1),
        (ONE_HOP, 2, None, None),
        (MULTIHOP, 1, ("Question of 1 steps?", "Answer 1"), 1),
        (MULTIHOP, 2, ("Question of 2 steps?", "Answer 2"), 2),
        (MULTIHOP, 3, None, None),
        (MULTIHOP, 4, ("Question of 4 steps?", "Answer 4"), 4),
        (VLKEB, 1, None, None),
    ],
)
def test_vlkeb_asks_the_hop_that_is_chosen(
    tmp_path: Path, sample: Any, hop: int, expected: tuple[str, str] | None, steps: int | None
) -> None:
    source = read("vlkeb", tmp_path, sample, hop=hop)
    portability = asked(source, "multimodal").get("portability")
    assert (None if portability is None else portability[:2]) == expected
    assert source.records("test")[0].hops == steps


def test_cckeb_is_a_text_edit_with_pictures_of_its_entity(tmp_path: Path) -> None:
    source = joined(tmp_path)
    probes = asked(source, "transitive")
    assert {name: probes[name] for name in ("reliability_s", "reliability_u")} == {
        "reliability_s": Prompt(SHOWN, "Hills", "m.0c1/a.jpg", aliases=("Highland",)),
        "reliability_u": Prompt(SHOWN, "Hills", "m.0c1/b.jpg", aliases=("Highland",)),
    }
    assert probes["locality_i_far"] == LOCALITY["locality_i_far"]
    assert "generality_s" not in probes  # there is no paraphrase about a picture
    taught = Prompt("Where was Port Vell founded?", "Hills", aliases=("Highland",))
    assert SCENARIOS["transitive"].edit(source.records("test")[0]) == (taught,)
    record = source.records("test")[0]
    assert record.subject == "Port Vell"
    assert record.knowledge_edit.answer_true == "Coast"
    assert source.image_root == tmp_path / "vlkeb" / "mmkb_images"


def test_edits_of_cckeb_that_are_not_joined_are_counted_and_listed(tmp_path: Path) -> None:
    for on_error in ("error", "skip"):
        source = joined(tmp_path, on_error=on_error)
        assert [record.subject for record in source.records("test")] == ["Port Vell", "Ida Stone"]
        (left_out,) = source.left_out["test"]
        assert left_out.subject == "Nobody Known"
        assert left_out.reason.startswith("the files of VLKEB have no picture of 'Nobody Known'")
    one = vlkeb_of("Port_Vell", "m.0c1", image_rephrase="m.0c1/a.jpg")
    source = joined(tmp_path, one, CCKEB_PICTURES[1])
    assert source.left_out["test"][0].reason.startswith("the files of VLKEB have one picture of")
    with pytest.raises(DataError, match="the source's own rule has left out all 3 records"):
        joined(tmp_path, VLKEB).records("test")


def test_cckeb_says_what_is_no_file_of_vlkeb(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a record of data=cckeb, and data\.vlkeb_files needs"):
        joined(tmp_path, *CCKEB)
    with pytest.raises(DataError, match=r"breaks the VLKEB schema: image_rephrase: .*needed"):
        joined(tmp_path, {**VLKEB, "image_rephrase": "../a.jpg"})
    with pytest.raises(
        DataError, match=r"record 0 of .* breaks the VLKEB schema: .*pred.* data\.vlkeb_files="
    ):
        joined(tmp_path, {"a": 1})


def test_mmedit_mends_answers_and_captions(tmp_path: Path) -> None:
    source = read("mmedit", tmp_path, MMEDIT)
    probes = asked(source, "multimodal")
    assert probes["reliability_s"] == Prompt(MMEDIT["src"], "2", MMEDIT["image"])
    assert probes["generality_u"] == Prompt(MMEDIT["rephrase"], "2", MMEDIT["image_rephrase"])
    (record,) = source.records("test")
    assert (record.subject, record.about) == (None, MMEDIT["image"])
    draw_pictures(source, "multimodal")
    (batch,) = batches(make(source, "multimodal"))
    assert batch.subjects == (MMEDIT["image"],)
    assert {text.question for text in batch.rows.texts if text.plain} == set()


def test_a_caption_stands_without_the_template_and_its_locality_does_not(tmp_path: Path) -> None:
    source = read("mmedit", tmp_path, CAPTION, task="caption")
    draw_pictures(source, "multimodal")
    (batch,) = batches(make(source, "multimodal"))
    plain = {text.question for text in batch.rows.texts if text.plain}
    assert plain == {"a photo of", "a photograph of"}
    assert all(text.picture for text in batch.rows.texts if text.plain)


def test_mmke_edits_a_description_or_one_fact_of_it(tmp_path: Path) -> None:
    source = read("mmke", tmp_path, MMKE, MMKE_VISUAL)
    probes = asked(source, "multimodal")
    assert probes["reliability_s"] == Prompt(MMKE["src"], MMKE["alt"], MMKE["image"])
    assert probes["portability"] == Prompt("Where is that league?", "Holm", MMKE["image"])
    visual = asked(source, "multimodal", 1)
    assert visual["portability"].image == "val2014/hop.jpg"
    assert visual["reliability_s"].question == MMKE["src"]
    assert visual["reliability_u"].question == "What does this gesture mean?"
    assert source.records("test")[0].entity_type == "human"

    facts = read("mmke", tmp_path, MMKE, MMKE_VISUAL, edit="relation")
    assert asked(facts, "unimodal").keys() == {"reliability", "locality_far"}
    (taught,) = SCENARIOS["transitive"].edit(facts.records("test")[0])
    assert taught[:2] == ("What is Ida Stone's birth name?", "Ida Moor")
    shown = asked(facts, "transitive")["reliability_s"]
    assert shown[:2] == ("What is the birth name of the human in the image?", "Ida Moor")
    # Its two questions have two answers, so it is no pair, and nothing is asked of its picture.
    assert facts.records("test")[1].knowledge_edit.image_question is None


@pytest.mark.parametrize("direction", ["text", "picture"])
def test_mcmke_has_both_forms_of_a_fact_in_both_directions(tmp_path: Path, direction: str) -> None:
    write_mcmke(tmp_path, MCMKE)
    source = options("mcmke", tmp_path, direction=direction).open()
    assert len(source.records("test")) == len(MCMKE)
    names, new = ("N. capital",), "New capital"
    text, shown = asked(source, "unimodal"), asked(source, "transitive")
    assert text["reliability"] == Prompt("What is the capital of Arden?", new, aliases=names)
    assert text["generality"] == Prompt("Name the capital of Arden.", new, aliases=names)
    assert shown["reliability_s"] == Prompt(
        "What is the capital of the country in the picture?", new, "p0_u0.jpg", aliases=names
    )
    assert shown["reliability_u"].image == "p0_u1.jpg"  # the first that is not the edit's own
    assert shown["locality_i_far"] == Prompt(
        "What is said?", "English", "q_u2.jpg", aliases=("en",)
    )
    record = source.records("test")[0]
    assert (record.relation, record.entity_type) == ("capital", "country")


@pytest.mark.parametrize(
    ("direction", "lacking", "scenario"),
    [("text", "iro_edit", "unimodal"), ("picture", "sro_edit", "multimodal")],
)
def test_a_fact_of_mcmke_in_one_form_has_the_other_form_absent(
    tmp_path: Path, direction: str, lacking: str, scenario: str
) -> None:
    form = lacking.split("_")[0]
    alone = {part: line for part, line in MCMKE[0].items() if not part.startswith(form)}
    write_mcmke(tmp_path, [alone, MCMKE[1]])
    source = options("mcmke", tmp_path, direction=direction, draw=False).open()
    first, second = source.records("test")
    assert [taught.answer for taught in SCENARIOS[scenario].edit(first)] == ["New capital"]
    with pytest.raises(DataError, match="can be asked of it"):
        SCENARIOS["multimodal" if scenario == "unimodal" else "unimodal"].edit(first)
    assert second.knowledge_edit.question
    assert second.knowledge_edit.image_question


def test_the_form_of_mends_authors(tmp_path: Path) -> None:
    other = {**MEND, "input": "Who made the Kite?", "filtered_rephrases": []}
    source = read("zsre", tmp_path, MEND, other)
    first, second = source.records("test")
    assert asked(source, "unimodal") == {
        "reliability": Prompt(MEND["input"], "kites"),
        "generality": Prompt("What does Ironwell make?", "kites"),
    }
    assert (first.subject, first.knowledge_edit.answer_true) == ("Ironwell", "uniforms")
    assert second.subject is None  # the page that its answer was read from is not in the question
    assert asked(source, "unimodal", 1).keys() == {"reliability"}


def test_the_form_of_romes_authors(tmp_path: Path) -> None:
    source = read("counterfact", tmp_path, NESTED)
    assert asked(source, "unimodal") == {
        "reliability": Prompt("The mother tongue of Ida Stone is", "Ardish"),
        "generality": Prompt("Ida Stone spoke the language", "Ardish"),
        "locality_near": Prompt("Una Reed's mother tongue is", "Holmish"),
    }
    assert source.cloze
    assert source.records("test")[0].relation == "P103"


def test_a_record_writes_new_fields_only_where_it_has_them(tmp_path: Path) -> None:
    plain = read("vlkeb", tmp_path, VLKEB).records("test")[0]
    new = {"answer_new_aliases", "answer_aliases", "steps", "unseen_question", "is_cloze", "drawn"}
    assert not [name for name in new if f'"{name}"' in plain.model_dump_json()]
    caption = read("mmedit", tmp_path, CAPTION, task="caption").records("test")[0]
    assert json.loads(caption.model_dump_json())["is_cloze"] is True
