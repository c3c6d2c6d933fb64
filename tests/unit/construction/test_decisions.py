"""What a reviewer decided is made of the records that were looked at, and of no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from construction.decisions import (
    FORM,
    Decision,
    apply_decisions,
    check_current,
    digest_of,
    read_decisions,
)
from construction.fields import FIELDS, PARTS, changed, texts_of
from construction.records import Constructed, construct_records
from datamodules.picture_folder import PictureFolder
from datamodules.records import Record
from errors import DataError
from tests.answered_rows import book, draw, person, with_locality

ROWS = [with_locality(book(n), "snow.png") for n in (1, 3, 5)] + [person(n) for n in (1, 3)]


@pytest.fixture
def pictures(tmp_path: Path) -> PictureFolder:
    return PictureFolder(draw(ROWS, tmp_path / "images"))


def decided(one: Constructed, pictures: PictureFolder, verdict: str, **more: Any) -> Decision:
    content = {"id": one.id, "digest": digest_of(one.record, pictures), "verdict": verdict}
    return Decision.model_validate({**content, **more})


def record() -> Record:
    return construct_records(ROWS)[0].record


def test_every_text_of_a_complete_record_can_be_changed_and_stands_nowhere_else() -> None:
    texts = texts_of(record())
    assert texts.keys() == FIELDS.keys()
    before = record()
    for name in texts:
        about = {"question", "paraphrase", "one_hop"}
        new = f"changed {name} of Book 1" if name in about else f"changed {name}"
        after = changed(before, {name: new}, ())
        assert texts_of(after) == texts | {name: new}
        places = after.model_dump_json().count(new)
        assert places == len(FIELDS[name].paths)


def test_a_new_answer_is_new_wherever_it_stands() -> None:
    after = changed(record(), {"answer_new": "Ann Lee"}, ())
    assert after.rephrase_question is not None
    assert after.knowledge_edit.answer_new == after.rephrase_question.answer_new == "Ann Lee"
    assert after.new_single_hops[0].answer == "Ann Lee"
    assert "Ann Lee" not in [hop.answer for hop in after.single_hops]


@pytest.mark.parametrize("part", [part for part in PARTS if part.drops], ids=lambda p: p.name)
def test_a_part_that_is_left_out_is_gone_with_its_pictures(part: Any) -> None:
    before, after = record(), changed(record(), {}, [part.name])
    assert all(getattr(before, name) is not None for name in part.drops)
    assert all(getattr(after, name) is None for name in part.drops)
    assert texts_of(after).keys() == texts_of(before).keys() - {field.name for field in part.fields}
    assert not set(after.drawn) & set(part.drops)
    chains = after.single_hops, after.new_single_hops
    assert [len(chain) for chain in chains] == [1 if part.name == "one_hop" else 2] * 2


@pytest.mark.parametrize(
    ("texts", "left_out", "why"),
    [
        ({"subject": "x"}, (), "'subject' is no field: entity_type, "),
        ({}, ("edit",), "'edit' cannot be left out: unseen, "),
        ({"answer_new": "writer 1"}, (), "answer_new is the same as answer_true"),
        ({"question": "Who?"}, (), "question 'Who?' does not name the subject 'Book 1'"),
        ({"image_question": "Book 1?"}, (), "image_question 'Book 1?' names the subject"),
        ({"paraphrase": "\u200b"}, (), "rephrase_question.rephrase_question: the text holds"),
    ],
)  # fmt: skip
def test_a_change_that_makes_no_sense_is_refused(
    texts: dict[str, str], left_out: tuple[str, ...], why: str
) -> None:
    with pytest.raises(DataError, match=re.escape(why)):
        changed(record(), texts, left_out)


def test_a_field_that_the_record_has_not_got_cannot_be_changed() -> None:
    without = construct_records([person(1)])[0].record
    with pytest.raises(DataError, match="the record has no one_hop, which is changed to 'x'"):
        changed(without, {"one_hop": "x"}, ())


def test_decisions_are_applied(pictures: PictureFolder) -> None:
    constructed = construct_records(ROWS)
    decisions = [
        decided(constructed[0], pictures, "accept", note="good"),
        decided(constructed[1], pictures, "edit", texts={"paraphrase": "By whom is Book 3?"},
                left_out=["different_type"]),
        decided(constructed[2], pictures, "reject"),
    ]  # fmt: skip
    reviewed = apply_decisions(constructed, decisions, pictures)
    check_current(reviewed, Path("decisions.json"))
    first, second = reviewed.records
    assert first == constructed[0]
    assert second.record.rephrase_question is not None
    assert second.record.rephrase_question.rephrase_question == "By whom is Book 3?"
    assert second.lacks == {"diff_type_entity_question": "left out in review"}
    assert not second.is_complete
    assert "diff_type_entity_question" not in second.lent
    assert reviewed.edited == [constructed[1].id]
    assert reviewed.rejected == [constructed[2].id]
    assert reviewed.undecided == [one.id for one in constructed[3:]]


def test_who_shows_a_rejected_picture_is_named(pictures: PictureFolder) -> None:
    constructed = construct_records(ROWS)
    lender = constructed[0].lent["diff_type_entity_question"]
    verdicts = {one.id: "reject" if one.id == lender else "accept" for one in constructed}
    decisions = [decided(one, pictures, verdicts[one.id]) for one in constructed]
    reviewed = apply_decisions(constructed, decisions, pictures)
    expected = [one.id for one in reviewed.records if lender in one.lent.values()]
    assert constructed[0].id in expected
    assert reviewed.borrowers == expected


@pytest.mark.parametrize("change", ["record", "picture"])
def test_a_decision_about_what_has_changed_since_is_stale(
    pictures: PictureFolder, change: str
) -> None:
    constructed = construct_records(ROWS)
    decisions = [decided(one, pictures, "accept") for one in constructed]
    if change == "record":
        answers = ROWS[0].answers.model_copy(update={"paraphrase": "Book 1 is by whom?"})
        constructed = construct_records(
            [ROWS[0].model_copy(update={"answers": answers}), *ROWS[1:]]
        )
    else:
        file = pictures.root / "book" / "1_unseen.png"
        file.write_bytes(file.read_bytes()[:-1] + b"!")  # as long as before
    reviewed = apply_decisions(constructed, decisions, pictures)
    assert [one.subject for one in reviewed.stale] == ["Book 1"]
    assert constructed[0].id not in [one.id for one in reviewed.records]
    with pytest.raises(
        DataError, match=r"^decisions=d\.json: 1 are about records that have changed"
    ):
        check_current(reviewed, Path("d.json"))


def test_a_decision_about_no_record_is_refused(pictures: PictureFolder) -> None:
    constructed = construct_records(ROWS)
    decisions = [decided(one, pictures, "accept") for one in constructed]
    reviewed = apply_decisions(constructed[1:], decisions, pictures)
    with pytest.raises(DataError, match=f"1 are about no record: {constructed[0].id}"):
        check_current(reviewed, Path("d.json"))


def test_accepting_changes_nothing(pictures: PictureFolder) -> None:
    constructed = construct_records(ROWS)
    one = decided(constructed[0], pictures, "accept", texts={"paraphrase": "x"})
    with pytest.raises(DataError, match=f"record {constructed[0].id} accepts it and changes para"):
        apply_decisions(constructed, [one], pictures)


ONE = {"id": "a", "digest": "b", "verdict": "accept"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "Input should be a valid dictionary"),
        ({"form": "tmke review 2", "decisions": []}, "form: Input should be 'tmke review 1'"),
        ({"form": FORM}, "decisions: Field required"),
        ({"form": FORM, "decisions": [{**ONE, "verdict": "keep"}]}, "decisions.0.verdict: "),
        ({"form": FORM, "decisions": [{**ONE, "texts": {"a": 1}}]}, "texts.a: a text is needed"),
        ({"form": FORM, "decisions": [{**ONE, "text": {}}]}, "decisions.0.text: "),
        ({"form": FORM, "decisions": [ONE, ONE]}, "1 records are decided about twice: a"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: object, why: str) -> None:
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"decisions={file}: .*{why}"):
        read_decisions(file)
