"""A world of constructed records: what is true there, and that edits can be made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from construction.data_set import Terms
from construction.records import construct_records
from construction.world import WorldCounts, write_world
from datamodules.picture_folder import PictureFolder
from datamodules.records import Record
from datamodules.sources.folder import read_world
from datamodules.world import World, world_records
from errors import DataError
from tests.answered_rows import book, draw, person

TERMS = Terms("made of books", "CC-BY-4.0")
ROWS = [book(n) for n in range(1, 9)] + [person(n, named="Book 2") for n in range(8)]


def made(folder: Path, records: list[Record]) -> tuple[World, WorldCounts]:
    pictures = PictureFolder(draw(ROWS, folder / "drawn"))
    counts = write_world(folder / "world", records, pictures, TERMS)
    return World.load(folder / "world"), counts


def records() -> list[Record]:
    return [one.record for one in construct_records(ROWS, stand_ins=False)]


def test_the_world_says_what_the_records_say_is_true(tmp_path: Path) -> None:
    world, counts = made(tmp_path, records())
    assert world.facts["Book 3", "author"] == "Writer 3"
    assert world.facts["Person 3", "trade"] == "weaver"
    assert world.facts["Writer 3", "where_was_born"] == "Town 3", "true before the edit"
    assert world.facts["Writer 9", "where_was_born"] == "Town 9", "of a new answer alone"
    assert world.facts["Emma", "author"] == "Jane Austen", "of the entity that the model named"
    assert (world.entities["Emma"].type, world.entities["Emma"].images) == ("book", {})
    assert world.entities["Book 3"].type == "book"
    assert "smith" in world.entities, "a new answer of which nothing follows is known by name"
    assert counts == WorldCounts(
        entities=len(world.entities), pictured=16, relations=3, facts=len(world.facts),
        unpictured=[], contradicted=[],
    )  # fmt: skip


def test_it_says_where_the_records_come_from(tmp_path: Path) -> None:
    world, _ = made(tmp_path, records())
    expected = {"source": "folder", "origin": TERMS.origin, "licence": TERMS.licence}
    assert read_world(world, name="folder").terms == expected
    write_world(world.root, records(), PictureFolder(tmp_path / "drawn"), Terms("made of books"))
    unstated = read_world(World.load(world.root), name="folder")
    assert unstated.terms == {**expected, "licence": "not stated"}


def test_it_is_asked_as_the_records_ask(tmp_path: Path) -> None:
    world, _ = made(tmp_path, records())
    author = world.relations["author"]
    assert author.wordings == ["Who is the author of {s}?", "Who wrote {s}?"]
    assert world.relations["where_was_born"].wordings[0] == "Where was {s} born?"
    assert world.hops == [("author", "where_was_born")], "through what is true of the writers"
    asked = world.two_hop_question("author", "where_was_born", 0, "Book 1")
    assert asked == "Where was the author of Book 1 born?"
    edits = {record.subject: record for record in world_records(world, "test")}
    given = {record.subject: record for record in records()}
    for subject, edit in edits.items():
        assert subject is not None
        mine = given[subject]
        assert edit.knowledge_edit.question == mine.knowledge_edit.question
        assert edit.knowledge_edit.image_question == mine.knowledge_edit.image_question
        assert edit.knowledge_edit.answer_true == mine.knowledge_edit.answer_true
        assert edit.image == f"images/{mine.image}"
        assert edit.image_rephrase == f"images/{mine.image_rephrase}"
    for split in ("train", "val", "test"):
        assert world_records(world, split)


def test_a_relation_without_a_name_is_its_question(tmp_path: Path) -> None:
    unnamed = [one.model_copy(update={"relation": None}) for one in records()]
    world, counts = made(tmp_path, unnamed)
    assert counts.relations == 3
    assert world.facts["Book 3", "who_is_the_author_of"] == "Writer 3"
    asked = world.two_hop_question("who_is_the_author_of", "where_was_born", 0, "Book 1")
    assert asked == 'Where was the answer to "Who is the author of Book 1?" born?'


def test_the_same_question_is_one_relation_whether_it_is_named_or_not(tmp_path: Path) -> None:
    some = [one.model_copy(update={"relation": None}) if n % 2 else one
            for n, one in enumerate(records())]  # fmt: skip
    world, _ = made(tmp_path, some)
    assert sorted(world.relations) == ["author", "trade", "where_was_born"]


def test_what_one_edit_shows_is_unseen_by_no_other(tmp_path: Path) -> None:
    one = records()[0]
    again = one.model_copy(
        update={"image": one.image_rephrase, "image_rephrase": "book/2_seen.png"}
    )
    world, _ = made(tmp_path, [*records(), again])
    entity = world.entities["Book 1"]
    assert [path.name for path in entity.seen] == ["1_seen.png", "1_unseen.png"]
    assert [path.name for path in entity.unseen] == ["2_seen.png"]


def test_of_two_answers_the_first_counts_and_the_other_is_named(tmp_path: Path) -> None:
    edit = records()[0].knowledge_edit.model_copy(update={"answer_true": "Somebody"})
    doubted = records()[0].model_copy(update={"knowledge_edit": edit})
    world, counts = made(tmp_path, [*records(), doubted])
    assert world.facts["Book 1", "author"] == "Writer 1"
    assert counts.contradicted == ["author of Book 1: 'Writer 1', and then 'Somebody'"]


def test_subjects_with_one_picture_are_known_by_name_alone(tmp_path: Path) -> None:
    some = records()
    some[0] = some[0].model_copy(update={"image_rephrase": None})
    world, counts = made(tmp_path, some)
    assert counts.unpictured == ["Book 1"]
    assert world.entities["Book 1"].images == {}
    assert world.facts["Book 1", "author"] == "Writer 1"


def test_a_world_of_no_pictures_is_refused(tmp_path: Path) -> None:
    bare = [one.model_copy(update={"image": None}) for one in records()]
    with pytest.raises(DataError, match=r"and 1 of the 16 records' subjects are such"):
        made(tmp_path, [*records()[:1], *bare[1:]])
    assert not (tmp_path / "world").exists()
