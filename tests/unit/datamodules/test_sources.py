"""TMKE files: read whole, and every mistake in them named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.prompts import true_questions
from datamodules.scenarios import SCENARIOS
from datamodules.sources.tmke import read_tmke
from errors import DataError

RECORD: dict[str, Any] = {
    "subject": "Holden Caprice",
    "entity_type": "car model",
    "knowledge_edit": {
        "question": "Which company is Holden Caprice produced by?",
        "image_question": "Which company is the car model in the image produced by?",
        "answer_new": "Hon Hai",
        "answer_true": "General Motors",
    },
    "rephrase_question": {
        "rephrase_question": "Who manufactures the Holden Caprice?",
        "rephrase_image_question": "Who manufactures the car model in the image?",
        "answer_new": "Hon Hai",
        "answer_true": "General Motors",
    },
    "one_hop_question": {
        "one_hop_question": "Who leads the maker of Holden Caprice?",
        "one_hop_image_question": "Who leads the maker of the car model in the image?",
        "answer_new": "Terry Gou",
        "answer_true": "Mary Barra",
    },
    "same_type_entity_question": {
        "same_type_entity": "Ford Mustang",
        "image_question": "Which company is the car model in the image produced by?",
        "answer": "Ford",
    },
    "diff_type_entity_question": {
        "diff_type_entity": "Everest",
        "image_question": "Which company is the car model in the image produced by?",
        "answer": "Sorry, there is no car model in the image",
        "question": "Which company is Everest produced by?",
    },
    "locality_question": {"question": "Who led the revolt", "answer": "José Martí"},
    "image_locality_question": {"question": "What will happen?", "answer": "freeze"},
    "image": "a_0.jpeg",
    "image_rephrase": "a_1.jpeg",
    "same_entity_image": "b.jpeg",
    "diff_entity_image": "c.jpeg",
    "locality_image": "d.jpg",
}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def other(subject: str) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    record["subject"] = subject
    record["knowledge_edit"]["question"] = f"Which company is {subject} produced by?"
    return record


def test_scenario_table_is_the_benchmarks(tmp_path: Path) -> None:
    (record,) = read_tmke(write(tmp_path / "t.json", RECORD).parent).records("test")
    unimodal, transitive, multimodal = (
        SCENARIOS[n] for n in ("unimodal", "transitive", "multimodal")
    )
    assert unimodal.images(record) == []
    assert unimodal.edit(record) == transitive.edit(record)
    assert transitive.edit(record) != multimodal.edit(record)
    (edit,) = multimodal.edit(record)
    assert (edit.image, edit.answer) == ("a_0.jpeg", "Hon Hai")
    assert transitive.probes is multimodal.probes
    assert transitive.images(record) == ["a_0.jpeg", "a_1.jpeg", "b.jpeg", "c.jpeg", "d.jpg"]
    probes = {name: make_prompt(record) for name, make_prompt in multimodal.probes.items()}
    unseen, far, leak = probes["generality_u"], probes["locality_t_far"], probes["leak_diff"]
    assert unseen is not None
    assert far is not None
    assert leak is not None
    assert unseen.image == "a_1.jpeg"
    assert (far.image, far.plain) == (None, True)
    assert (leak.answer, leak.image) == ("Hon Hai", "c.jpeg")
    assert probes["locality_i_near"] is None  # the authors' files have no near probe
    text = {name: make_prompt(record) for name, make_prompt in unimodal.probes.items()}
    same, diff = text["stability_same"], text["stability_diff"]
    assert same is not None
    assert diff is not None
    assert same.question == "Which company is Ford Mustang produced by?"  # derived
    assert diff.question == "Which company is Everest produced by?"  # given
    assert [prompt.answer for prompt in true_questions(record)] == ["General Motors"] * 6


def test_a_missing_field_is_named_with_file_and_index(tmp_path: Path) -> None:
    broken = copy.deepcopy(RECORD)
    del broken["rephrase_question"]["answer_new"]
    del broken["one_hop_question"]
    path = write(tmp_path / "t.json", RECORD, broken)
    with pytest.raises(DataError) as error:
        read_tmke(path.parent)
    message = str(error.value)
    assert "record 1" in message
    assert str(path) in message
    assert "rephrase_question.answer_new" in message
    assert "one_hop_question" in message


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('[\n {"subject": \n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.json is not valid JSON.*line 3"):
        read_tmke(path.parent)


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_a_file_without_records_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="list of records"):
        read_tmke(path.parent)


def test_splits_are_disjoint_by_subject(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    write(tmp_path / "train.json", *(other(f"Car {n}") for n in range(20)))
    source = read_tmke(tmp_path, train_files=["train.json"])
    assert len(source.records("test")) == 1
    assert len(source.records("val")) == 2
    subjects = [{r.subject for r in source.records(s)} for s in ("train", "val", "test")]
    assert not subjects[0] & subjects[1]
    assert not (subjects[0] | subjects[1]) & subjects[2]
    write(tmp_path / "train.json", RECORD)
    with pytest.raises(DataError, match="shares 1 of 1 subjects"):
        read_tmke(tmp_path, train_files=["train.json"])


def test_training_without_training_files_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    with pytest.raises(DataError, match=r"data\.train_files"):
        read_tmke(tmp_path).records("train")


def test_a_folder_with_training_files_alone_trains_and_has_no_test(tmp_path: Path) -> None:
    write(tmp_path / "train.json", *(other(f"Car {n}") for n in range(20)))
    source = read_tmke(tmp_path, train_files=["train.json"])
    assert len(source.records("train")) == 18
    with pytest.raises(DataError, match=r"named in data\.train_files, and none is left to test"):
        source.records("test")


def test_a_wrong_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_tmke(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no \*\.json"):
        read_tmke(tmp_path)
