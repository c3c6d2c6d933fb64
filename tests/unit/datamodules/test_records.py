"""The fields of a record: what is text, what is a picture's path, and which names are one name."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from datamodules.records import name_key
from datamodules.sources.tmke import read_tmke
from errors import DataError
from tests.unit.datamodules.test_sources import RECORD, other, write

COMPOSED, DECOMPOSED = "S\u00e3o Paulo", "Sa\u0303o Paulo"
SPELLINGS = [
    (COMPOSED, DECOMPOSED),
    ("Holden Caprice", "HOLDEN  caprice"),
    ("Holden Caprice", "Holden\u00a0Caprice"),
    ("Stra\u00dfe", "STRASSE"),
    ("\ufb01lm 2", "film \uff12"),
]
WRONG: dict[tuple[str, ...], list[tuple[object, str]]] = {
    ("knowledge_edit", "answer_new"): [
        (1984, r"knowledge_edit\.answer_new: a text is needed; put the number in quotes .*1984"),
        (1984.0, r"put the number in quotes .*1984\.0"),
        (True, r"answer_new: Input should be a valid string \(it is True\)"),
        ("", r"answer_new: String should have at least 1 character"),
        (" \t\u2003", r"answer_new: String should have at least 1 character"),
        ("\u200b\ufeff", r"answer_new: the text holds nothing that can be seen .*u200b"),
        ("\ud83d", r"answer_new: .*valid string"),
    ],
    ("image",): [
        ("../a.png", r"image: a path inside the folder of the pictures is needed, without \.\."),
        ("b/../../a.png", r"without \.\. \(it is 'b/\.\./\.\./a\.png'\)"),
        ("/etc/a.png", r"image: a path relative to the folder"),
        ("C:/a.png", r"image: a path relative to the folder"),
        ("a\\b.png", r"image: a path has / between its folders"),
        ("a\0.png", r"image: a path holds no zero byte"),
    ],
}
CASES = [(keys, value, told) for keys, cases in WRONG.items() for value, told in cases]


@pytest.mark.parametrize(("keys", "value", "told"), CASES, ids=[ascii(v) for _, v, _ in CASES])
def test_a_field_of_another_kind_is_refused(
    tmp_path: Path, keys: tuple[str, ...], value: object, told: str
) -> None:
    record = copy.deepcopy(RECORD)
    node = record if len(keys) == 1 else record[keys[0]]
    node[keys[-1]] = value
    write(tmp_path / "t.json", RECORD | {"subject": "Another"}, record)
    with pytest.raises(DataError, match=f"record 1 of .*{told}"):
        read_tmke(tmp_path)


def test_a_name_with_dots_or_a_colon_is_a_picture_as_any(tmp_path: Path) -> None:
    names = ["a..b.png", "..a.png", "c:d.png", "e/.f.png", "~g.png"]
    write(tmp_path / "t.json", *(other(f"Car {n}") | {"image": n} for n in names))
    assert [record.image for record in read_tmke(tmp_path).records("test")] == names


@pytest.mark.parametrize(("one", "two"), SPELLINGS)
def test_two_spellings_are_one_name(one: str, two: str) -> None:
    assert name_key(one) == name_key(two)
    assert name_key(name_key(one)) == name_key(one)


def test_other_names_stay_apart() -> None:
    names = [
        "Holden Caprice",
        "Holden Caprices",
        "Holden-Caprice",
        "Sao Paulo",
        COMPOSED,
        "C",
        "C++",
    ]
    assert len({name_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(("one", "two"), SPELLINGS)
def test_a_subject_in_two_splits_is_found_however_it_is_spelled(
    tmp_path: Path, one: str, two: str
) -> None:
    write(tmp_path / "test.json", other(one))
    write(tmp_path / "train.json", other(two), other("Another"))
    with pytest.raises(DataError, match=r"test split .* shares 1 of 1 subjects .* train split"):
        read_tmke(tmp_path, train_files=["train.json"])


def test_validation_holds_out_every_spelling_of_its_subjects(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    names = [f"Car {n}" for n in range(20)]
    write(tmp_path / "train.json", *(other(n) for n in names), *(other(n.upper()) for n in names))
    source = read_tmke(tmp_path, train_files=["train.json"])
    train, val = (
        {name_key(record.subject) for record in source.records(split)} for split in ("train", "val")
    )
    assert len(val) == 2
    assert len(source.records("val")) == 4
    assert not train & val


def test_the_validation_split_is_drawn_as_before(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    write(tmp_path / "train.json", *(other(f"Car {n}") for n in range(30)))
    source = read_tmke(tmp_path, train_files=["train.json"], seed=3)
    assert [r.subject for r in source.records("val")] == ["Car 6", "Car 17", "Car 28"]


def test_a_subject_may_hold_what_means_something_in_a_pattern(tmp_path: Path) -> None:
    names = ["C++ (language)", "A.C. Milan [1899]", "$\\alpha^2$", "What?", "100 %", "{x}"]
    records = [other(name) for name in names]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    for record, name in zip(read_tmke(tmp_path).records("test"), names, strict=True):
        same = record.text_question_about(record.same_type_entity_question)
        assert same == "Which company is Ford Mustang produced by?", name
