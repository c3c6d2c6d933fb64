"""What splits share: counted by subject, fact and picture folder, and refused unless allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from configs.check import load_config
from datamodules.overlap import Overlap, Traces, overlap
from datamodules.records import KnowledgeEdit, Record
from datamodules.source import RecordSource
from errors import ConfigError, DataError
from tests.benchmark_files import (
    CCKEB,
    CCKEB_PICTURES,
    MCMKE,
    VLKEB,
    vlkeb_of,
    write_json,
    write_mcmke,
)
from tests.benchmark_files import options as read_options


def record(subject: str | None, question: str = "Where?", image: str | None = None) -> Record:
    edit = KnowledgeEdit(question=question, answer_new="there")
    return Record(subject=subject, knowledge_edit=edit, image=image)


def shared(tested: list[Record], learnt: list[Record], *, folders: bool = False) -> Overlap:
    return overlap(tested, Traces.of(learnt, entity_folders=folders), entity_folders=folders)


def options(root: Path, *words: str, command: str = "evaluate") -> Any:
    """The options of a training on VLKEB's train.json and a test on its eval.json."""
    typed = [
        "experiment=demo", "data=vlkeb", f"data.root={root}", "data.files=[eval.json]",
        "data.train_files=[train.json]", *words,
    ]  # fmt: skip
    cfg: Any = load_config(command, ["editor=ft", *typed, "scenario=multimodal"])
    return cfg.data


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Four test records; of their entities one is trained on, and a second under another name."""
    names = [("Oslo", "m.01"), ("Rome", "m.02"), ("Bonn", "m.03"), ("Lima", "m.04")]
    write_json(tmp_path / "eval.json", [vlkeb_of(*each) for each in names])
    trained = [("oslo", "m.01"), ("Roma", "m.02"), *((f"Firm {n}", f"m.1{n}") for n in range(8))]
    write_json(tmp_path / "train.json", [vlkeb_of(*each) for each in trained])
    return tmp_path


def test_published_splits_that_share_entities_are_refused_with_counts(published: Path) -> None:
    with pytest.raises(DataError) as error:
        options(published).open()
    said = str(error.value)
    assert "the test split of data=vlkeb shares 1 of 4 subjects (Oslo (there 'oslo'))" in said
    assert "2 of 4 picture folders (m.01; m.02) with the train split of data=vlkeb" in said
    assert "data.allow_overlap=true" in said


def test_allowed_they_are_read_and_counted(published: Path) -> None:
    source: RecordSource = options(published, "data.allow_overlap=true").open()
    assert [len(source.records(split)) for split in ("test", "train", "val")] == [4, 9, 1]
    [(_, found)] = [(pair, found) for pair, found in source.overlaps.items() if found]
    assert (found.edits, found.of) == (2, 4)
    assert {kind: (s.n, s.of) for kind, s in found.kinds.items()} == {
        "subject": (1, 4), "fact": (1, 4), "folder": (2, 4)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["vlkeb", "cckeb", "mcmke", "hub", "folder"])
def test_every_reader_passes_on_what_is_allowed(name: str, tmp_path: Path) -> None:
    """Those of all sources: the others read their files as `vlkeb` does."""
    keys: dict[str, Any] = {}
    if name == "mcmke":
        write_mcmke(tmp_path, MCMKE)
    elif name == "folder":
        views = {f"{view}{n}": f"{view}{n}.png" for view in "ab" for n in range(8)}
        for image in views.values():
            Image.new("RGB", (2, 2)).save(tmp_path / image)
        lands = [
            {"id": str(n), "name": f"Land {n}", "facts": {"capital": f"City {n}"},
             "images": {view: views[f"{view}{n}"] for view in "ab"}}
            for n in range(8)
        ]  # fmt: skip
        write_json(tmp_path / "entities.json", lands)
    elif name == "hub":
        write_json(tmp_path / "test.json", [record("Oslo").model_dump(exclude_none=True)])
    else:
        write_json(tmp_path / "test.json", CCKEB if name == "cckeb" else [VLKEB])
        write_json(tmp_path / "vlkeb" / "eval.json", CCKEB_PICTURES)
        keys = {"vlkeb_root": str(tmp_path / "vlkeb")} if name == "cckeb" else {}
    for allowed in (True, False):
        source = read_options(name, tmp_path, allow_overlap=allowed, **keys).open()
        assert source.allow_overlap == allowed
        assert source.entity_folders == (name in ("vlkeb", "cckeb"))


def test_a_folder_says_nothing_where_it_is_no_entity() -> None:
    tested, learnt = [record("A", image="photos/1.png")], [record("B", image="photos/2.png")]
    assert not shared(tested, learnt)
    assert shared(tested, learnt, folders=True)
    beside = [record("C", image="1.png")], [record("D", image="2.png")]
    assert not shared(*beside, folders=True)  # in no folder at all


def test_validation_records_are_held_against_training_by_their_subjects_alone() -> None:
    """They are drawn by subject from the same files, which may have two names for an entity."""
    splits: Any = {
        "train": [record("Rome", image="m.01/a.jpg")], "val": [record("Roma", image="m.01/b.jpg")]
    }  # fmt: skip
    source = RecordSource("vlkeb", Path(), splits, plain_locality=False, filter_known="none",
                          entity_folders=True)  # fmt: skip
    source.check_disjoint()
    again = {**splits, "val": [record("ROME", image="m.02/b.jpg")]}
    with pytest.raises(DataError, match="the val split of data=vlkeb shares 1 of 1 subjects"):
        replace(source, splits=again).check_disjoint()


def test_records_without_a_subject_are_known_by_their_picture() -> None:
    found = shared([record(None, image="a/1.png")], [record(None, "Why?", image="a/1.png")])
    assert {kind: s.n for kind, s in found.kinds.items()} == {"subject": 1, "fact": 0}


def test_only_a_run_says_whether_overlap_is_allowed(published: Path, tmp_path: Path) -> None:
    words = ["data=zsre", f"data.root={tmp_path}", "data.train=vlkeb", "editor=mend"]
    words += [f"data.train.root={published}", "data.train.train_files=[train.json]"]
    with pytest.raises(ConfigError, match=r"data\.train\.allow_overlap: .* say data\.allow"):
        load_config("train", ["experiment=demo", *words, "data.train.allow_overlap=true"])


SUBJECTS = st.sampled_from(["Oslo", "OSLO", "oslo ", "Rome", "Bonn", "Lima"])
RECORDS = st.lists(st.builds(record, SUBJECTS, st.sampled_from(["Where?", "Why?"])))


@given(RECORDS, RECORDS)
def test_counts_are_those_of_sets(tested: list[Record], learnt: list[Record]) -> None:
    found = shared(tested, learnt)
    keys = {r.key for r in learnt}
    assert found.edits == sum(r.key in keys for r in tested)
    assert found.kinds["subject"].n == len({r.key for r in tested} & keys)
    facts = [{(r.key, r.knowledge_edit.question) for r in records} for records in (tested, learnt)]
    assert found.kinds["fact"][:2] == (len(facts[0] & facts[1]), len(facts[0]))
    assert bool(found) == any(s.n for s in found.kinds.values())


@given(RECORDS, RECORDS)
def test_a_checkpoint_knows_again_what_it_was_trained_on(
    tested: list[Record], learnt: list[Record]
) -> None:
    traces = Traces.of(learnt, entity_folders=True)
    read = Traces.read(traces.subjects.values(), traces.stored())
    assert overlap(tested, read, entity_folders=True) == shared(tested, learnt, folders=True)
    older = overlap(tested, Traces.read(traces.subjects.values(), None), entity_folders=True)
    assert list(older.kinds) == ["subject"]
    assert older.kinds["subject"] == shared(tested, learnt).kinds["subject"]
