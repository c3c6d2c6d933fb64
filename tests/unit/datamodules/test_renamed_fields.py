"""Which field was meant by a name that no schema knows."""

import pytest
from pydantic import Field, ValidationError

from datamodules.records import Part, Record, field_errors
from datamodules.renamed_fields import field_names, instead_of
from datamodules.split_files import read_record
from datamodules.tmke_record import TmkeRecord
from errors import DataError
from tests.unit.datamodules.test_sources import RECORD

OURS = {
    "subject": "Middlemarch",
    "knowledge_edit": {"question": "Who wrote Middlemarch?", "answer_new": "Jane Doe"},
}
KNOWN = {"question", "image_question", "answer_true"}


@pytest.mark.parametrize(
    ("field", "keys", "said"),
    [
        ("subject", ["subjects"], "'subjects': rename it"),
        ("subject", ["Subject", "subject_type"], "'Subject': rename it"),
        ("answer_new", ["answer-new"], "'answer-new': rename it"),
        ("answer_new", ["Answer New"], "'Answer New': rename it"),
        ("question", ["image_question"], "the record has 'image_question')"),
        ("answer_new", ["answer_true"], "the record has 'answer_true')"),
        ("answer_new", ["alt", "src"], "the record has 'alt', 'src')"),
    ],
)  # fmt: skip
def test_what_an_object_has_in_place_of_a_field(field: str, keys: list[str], said: str) -> None:
    assert said in instead_of(field, dict.fromkeys(keys, "?"), KNOWN)


@pytest.mark.parametrize("value", [None, [], {}, "a", {1: 2}, {f"k{n}": n for n in range(9)}])
def test_what_cannot_be_told_is_not_told(value: object) -> None:
    assert instead_of("subject", value, KNOWN) == ""


def test_names_are_those_that_stand_in_files() -> None:
    class Asked(Part):
        asked: str = Field(alias="Q&A")

    assert {"Q&A", "answer_new", "subject", "image"} <= field_names((Part, Record))
    assert "asked" not in field_names((Asked,))


def test_a_nested_field_is_told_by_what_lies_beside_it() -> None:
    renamed = dict(RECORD["knowledge_edit"])
    renamed["answers_new"] = renamed.pop("answer_new")
    with pytest.raises(ValidationError) as error:
        TmkeRecord.model_validate({**RECORD, "knowledge_edit": renamed})
    assert field_errors(error.value) == (
        "knowledge_edit.answer_new: Field required "
        "(the record has 'answers_new': rename it if that is meant)"
    )


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        ({"images": "a.png"}, "images: no field is called so, .* rename it to 'image'"),
        ({"Relation": "author"}, "Relation: .* rename it to 'relation'"),
        ({"single_hop": []}, "single_hop: .* rename it to 'single_hops'"),
        (
            {"knowledge_edit": {"question": "?", "answer_new": "a", "answer_trues": "b"}},
            r"knowledge_edit\.answer_trues: .* rename it to 'answer_true'",
        ),
        (
            {"new_single_hops": [{"question": "?", "answer": "a", "answer_alias": ["b"]}]},
            r"new_single_hops\.answer_alias: .* rename it to 'answer_aliases'",
        ),
    ],
)
def test_an_optional_field_under_another_name_is_not_lost_in_silence(
    renamed: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError, match=f"breaks the record schema: {said}"):
        read_record({**OURS, **renamed})


@pytest.mark.parametrize(
    "beside", [{"image_id": 3}, {"image": "a.png", "images": ["a.png"]}, {"note": "?"}, {}]
)
def test_a_field_of_someone_elses_is_passed_over(beside: dict[str, object]) -> None:
    assert read_record({**OURS, **beside}).subject == "Middlemarch"
