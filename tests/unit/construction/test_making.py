"""Records, review page, accepted records and a world, as `python -m construction` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.construction_words import load_construction_config
from construction.answers import AnsweredRow
from construction.decisions import FORM, digest_of
from construction.making import Made, Maker
from construction.records import Constructed, construct_records
from datamodules.picture_folder import PictureFolder
from datamodules.world import World
from errors import ConfigError, DataError
from tests.answered_rows import book, draw, person
from tests.benchmark_files import options

ROWS = [book(n) for n in range(1, 5)] + [person(n) for n in range(1, 5)]
Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    draw(ROWS, tmp_path / "images")
    facts = "".join(f"{one.row.model_dump_json()}\n" for one in ROWS)
    (tmp_path / "facts.jsonl").write_text(facts)

    def made(*words: str, rows: list[AnsweredRow] = ROWS) -> Made:
        places = f"rows={tmp_path / 'facts.jsonl'}", f"output_dir={tmp_path / 'out'}"
        return Maker(load_construction_config([*places, *words])).make(rows)

    return made


def decide(folder: Path, constructed: list[Constructed], **verdicts: str) -> Path:
    """Accepts all records but those of some subjects, of which it says what is typed or nothing."""
    pictures = PictureFolder(folder / "images")
    decisions = [
        {"id": one.id, "digest": digest_of(one.record, pictures), "verdict": verdict}
        for one in constructed
        if (verdict := verdicts.get((one.record.subject or "").replace(" ", "_"), "accept"))
    ]
    file = folder / "decisions.json"
    file.write_text(json.dumps({"form": FORM, "decisions": decisions}))
    return file


def test_records_and_a_page_are_made_and_what_they_lack_is_said(make: Make, tmp_path: Path) -> None:
    made = make()
    source = options("hub", tmp_path / "out/records").read()
    assert list(source.records("test")) == [one.record for one in construct_records(ROWS)]
    assert source.terms == {
        "source": "hub",
        "origin": "made with `python -m construction` of facts.jsonl and answers of gpt-4o",
        "licence": "not stated",
    }
    page = (tmp_path / "out/review.html").read_text()
    assert "<title>Review of facts.jsonl</title>" in page
    assert all(one.row.subject in page for one in ROWS)
    assert made.summary["records"]["records"] == 8
    assert made.summary["records"]["complete"] == 0
    assert {"field": "locality_question", "why": "the row has none", "records": 8} in (
        made.summary["records"]["lacks"]
    )
    assert "  8 without locality_question: the row has none" in made.lines
    assert not (tmp_path / "out/reviewed").exists()
    assert not (tmp_path / "out/world").exists()


def test_accepted_records_are_a_set_of_their_own_and_the_world_is_theirs(
    make: Make, tmp_path: Path
) -> None:
    verdicts = {"Book_2": "reject", "Person_4": "reject", "Person_3": ""}
    file = decide(tmp_path, construct_records(ROWS), **verdicts)
    made = make(f"decisions={file}", "world=true", "records.licence=CC-BY-4.0")
    source = options("hub", tmp_path / "out/reviewed").read()
    assert source.terms["origin"].startswith("made and reviewed with `python -m construction` of ")
    assert source.terms["licence"] == "CC-BY-4.0"
    subjects = [record.subject for record in source.records("test")]
    assert subjects == ["Book 1", "Book 3", "Book 4", "Person 1", "Person 2"]
    assert len(options("hub", tmp_path / "out/records").read().records("test")) == 8
    rejected = [one.row.id for one in ROWS if one.row.subject in ("Book 2", "Person 4")]
    reviewed = made.summary["reviewed"]
    assert (reviewed["accepted"], reviewed["rejected"]) == (5, rejected)
    assert reviewed["undecided"] == [ROWS[6].row.id]
    assert any(
        "5 records accepted (0 of them edited), 2 rejected, 1 without" in line
        for line in made.lines
    )
    world = World.load(tmp_path / "out/world")
    assert {entity.name for entity in world.pictured} == set(subjects)
    assert made.summary["world"]["pictured"] == 5


def test_stale_decisions_are_refused_or_left_out_and_the_page_is_new(
    make: Make, tmp_path: Path
) -> None:
    file = decide(tmp_path, construct_records(ROWS))
    answers = ROWS[0].answers.model_copy(update={"paraphrase": "Book 1 is by whom?"})
    rows = [ROWS[0].model_copy(update={"answers": answers}), *ROWS[1:]]
    with pytest.raises(DataError, match=r"1 are about records that have changed.*on_error=skip"):
        make(f"decisions={file}", rows=rows)
    assert "Book 1 is by whom?" in (tmp_path / "out/review.html").read_text()
    made = make(f"decisions={file}", "on_error=skip", rows=rows)
    assert made.summary["reviewed"]["accepted"] == 7
    assert made.summary["reviewed"]["stale"][0].startswith(
        f"record {ROWS[0].row.id} (subject 'Book"
    )


def test_kin_stand_ins_and_pictures_of_entities_are_the_users(make: Make, tmp_path: Path) -> None:
    draw([book(9)], tmp_path / "images")
    table = tmp_path / "entities.json"
    table.write_text('{"Emma": "book/9_seen.png"}')
    make("records.kin=[book/person]", f"records.entity_pictures={table}")
    records = options("hub", tmp_path / "out/records").read().records("test")
    assert {record.diff_type_entity_question for record in records} == {None}
    assert records[0].same_entity_image == "book/9_seen.png"
    assert records[4].drawn == ("same_type_entity_question",)
    far = tmp_path / "far.jsonl"
    far.write_text('{"question": "What falls in winter?", "answer": "snow"}')
    make("records.stand_ins=false", f"records.locality={far}")
    records = options("hub", tmp_path / "out/records").read().records("test")
    assert {record.same_entity_image for record in records} == {None}
    assert {r.locality_question.answer for r in records if r.locality_question} == {"snow"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"Emma": "no.png"}', "1 pictures, and 1 of them is not in pictures=.*images: no.png"),
        ('{"Emma": "../no.png"}', "Emma: a path inside the folder of the pictures is needed"),
        ('["Emma"]', "Input should be a valid dictionary"),
    ],
)
def test_a_table_of_pictures_that_cannot_be_used_is_refused(
    make: Make, tmp_path: Path, content: str, why: str
) -> None:
    table = tmp_path / "entities.json"
    table.write_text(content)
    with pytest.raises(DataError, match=f"records.entity_pictures={table}.*{why}"):
        make(f"records.entity_pictures={table}")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_before_anybody_is_asked(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decisions=no\.json: there is no such file; the review"):
        make("decisions=no.json")
    with pytest.raises(ConfigError, match=r"records\.seed"):
        make("records.seed=a")
    (tmp_path / "out/world").mkdir(parents=True)
    (tmp_path / "out/world/mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"out/world would be .* what is not ours: mine\.txt"):
        make()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["world"]


def test_a_review_that_accepts_nothing_is_told(make: Make, tmp_path: Path) -> None:
    verdicts = {(one.row.subject).replace(" ", "_"): "reject" for one in ROWS}
    file = decide(tmp_path, construct_records(ROWS), **verdicts)
    with pytest.raises(DataError, match=r"accepts none of the 8 records"):
        make(f"decisions={file}")


def test_what_a_killed_run_was_writing_goes_and_what_is_not_ours_stays(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "out/.records-12-abcdef/images").mkdir(parents=True)
    (tmp_path / "out/.review-12-abcdef.html").write_text("half")
    (tmp_path / "out/.mine").write_text("")
    make()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".mine", "records", "review.html",
    ]  # fmt: skip


def test_nothing_is_made_of_nothing(make: Make, tmp_path: Path) -> None:
    assert make(rows=[]) == Made()
    assert not (tmp_path / "out").exists()
