"""Files and records that stand there twice, and records that are left out where that is asked."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.check import load_config
from datamodules.datamodule import EditDataModule
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource, folder_problem
from datamodules.sources.tmke import read_tmke
from editors.ike.config import IkeOptions
from editors.rome.config import RomeOptions
from errors import DataError
from models.rows import Rows
from results.log_file import is_for_screen
from runner.assembly import demonstrations
from runner.lengths import check_lengths
from runner.start import Placement
from runner.summary import Run
from tests.unit.datamodules.test_datamodule import batches, make, prompt_encoder
from tests.unit.datamodules.test_datamodule import root as root_of_pictures
from tests.unit.datamodules.test_sources import RECORD, other, write

root = root_of_pictures  # the fixture


def broken(subject: str) -> dict[str, Any]:
    record = other(subject)
    del record["knowledge_edit"]["answer_new"]
    return record


def linked(root: Path) -> str:
    (root / "link.json").symlink_to(root / "test.json")
    return "link.json"


def linked_hard(root: Path) -> str:
    os.link(root / "test.json", root / "hard.json")
    return "hard.json"


WORDS: dict[str, Callable[[Path], str]] = {
    "same word": lambda root: "test.json",
    "a dot": lambda root: "./test.json",
    "up and down": lambda root: f"../{root.name}/test.json",
    "whole path": lambda root: str(root / "test.json"),
    "symbolic link": linked,
    "hard link": linked_hard,
}


@pytest.mark.parametrize("case", WORDS)
def test_a_file_is_not_read_twice(tmp_path: Path, case: str) -> None:
    write(tmp_path / "test.json", RECORD)
    word = WORDS[case](tmp_path)
    with pytest.raises(DataError) as error:
        read_tmke(tmp_path, files=["test.json", word])
    assert f"'{word}' of data.files" in str(error.value)
    assert "'test.json' of data.files" in str(error.value)


@pytest.mark.parametrize("case", WORDS)
def test_a_training_file_is_no_test_file(tmp_path: Path, case: str) -> None:
    write(tmp_path / "test.json", other("Another"))
    write(tmp_path / "rest.json", RECORD)
    word = WORDS[case](tmp_path)
    with pytest.raises(DataError, match=r"of data\.train_files and .* of data\.files are one file"):
        read_tmke(tmp_path, files=["test.json", "rest.json"], train_files=[word])
    if "link" not in case:
        source = read_tmke(tmp_path, train_files=[word])
        assert [record.subject for record in source.records("test")] == [RECORD["subject"]]


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    (tmp_path / "._test.json").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / ".test.json").write_text("[")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "more.JSONL").write_text(json.dumps(other("Another")))
    source = read_tmke(tmp_path)
    assert {record.subject for record in source.records("test")} == {RECORD["subject"], "Another"}
    with pytest.raises(DataError, match=r"\._test\.json"):
        read_tmke(tmp_path, files=["._test.json"])


def test_a_result_that_lies_beside_the_data_is_no_data(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=r"summary\.json should hold a list of records"):
        read_tmke(tmp_path)
    (tmp_path / "edits.parquet").write_bytes(b"")
    assert len(read_tmke(tmp_path).records("test")) == 1


def test_a_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "test.json", RECORD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as bound:
        bound.setattr(os, "scandir", refuse)
        with pytest.raises(DataError, match=r"data\.root .* cannot be read \(Permission denied\)"):
            read_tmke(tmp_path)
        assert folder_problem(tmp_path) == "the folder cannot be read (Permission denied)"
    with monkeypatch.context() as bound:  # a folder that may be listed and not entered
        bound.setattr(os, "stat", refuse)
        bound.setattr(Path, "stat", refuse)
        bound.setattr(Path, "read_bytes", refuse)
        with pytest.raises(DataError):
            read_tmke(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_tmke(Path("x" * 5000))


def test_the_same_record_twice_is_told_with_both_places(tmp_path: Path) -> None:
    fields = RECORD | {"note": "another field", "subject": "  Holden Caprice"}
    write(tmp_path / "a.json", RECORD, other("Another"), RECORD)
    write(tmp_path / "b.json", fields)
    with pytest.raises(DataError) as error:
        read_tmke(tmp_path)
    message = str(error.value)
    assert "2 of the 4 records" in message
    assert f"record 2 of {tmp_path / 'a.json'} (subject 'Holden Caprice')" in message
    assert f"record 0 of {tmp_path / 'b.json'}" in message
    assert f"the same as record 0 of {tmp_path / 'a.json'}" in message
    source = read_tmke(tmp_path, on_error="skip")
    assert [record.subject for record in source.records("test")] == ["Holden Caprice", "Another"]
    assert len(source.left_out["test"]) == 2


def test_another_edit_of_a_subject_is_no_copy(tmp_path: Path) -> None:
    second = copy.deepcopy(RECORD)
    second["knowledge_edit"]["answer_new"] = "Ford"
    write(tmp_path / "a.json", RECORD, second)
    assert len(read_tmke(tmp_path).records("test")) == 2


def test_what_breaks_the_schema_is_left_out_where_that_is_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.json", RECORD, broken("First"), other("Kept"))
    lines = [json.dumps(other("Also kept")), "7", json.dumps(broken("Second"))]
    (tmp_path / "b.jsonl").write_text("\n\n".join(lines))
    with pytest.raises(DataError, match=r"record 1 of .*data\.on_error=skip leaves such"):
        read_tmke(tmp_path)
    source = read_tmke(tmp_path, on_error="skip")
    kept = [record.subject for record in source.records("test")]
    assert kept == ["Holden Caprice", "Kept", "Also kept"]
    assert [source.place("test", number) for number in (1, 2)] == [
        f"record 2 of {tmp_path / 'a.json'}",
        f"record 0 (line 1) of {tmp_path / 'b.jsonl'}",
    ]
    first, number, second = source.left_out["test"]
    assert (first.record, first.subject) == (f"record 1 of {tmp_path / 'a.json'}", "First")
    assert "knowledge_edit.answer_new: Field required" in first.reason
    assert (number.record, number.subject) == (f"record 1 (line 3) of {tmp_path / 'b.jsonl'}", None)
    assert second.record == f"record 2 (line 5) of {tmp_path / 'b.jsonl'}"
    only_kept = tmp_path / "kept"
    only_kept.mkdir()
    write(only_kept / "a.json", RECORD, other("Kept"), other("Also kept"))
    assert source.digest() == read_tmke(only_kept).digest()


def test_where_nothing_is_left_that_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.json", *(broken(f"Car {number}") for number in range(5)))
    source = read_tmke(tmp_path, on_error="skip")
    with pytest.raises(DataError, match=r"left out all 5 records .*'Car 0'.*; and 2 more"):
        source.records("test")
    write(tmp_path / "a.json", *({"subject": f"Car {number}"} for number in range(5)))
    with pytest.raises(DataError) as error:  # twelve fields are missing in each
        read_tmke(tmp_path, on_error="skip").records("test")
    assert len(str(error.value)) < 1200


def test_a_file_that_is_no_json_is_an_error_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[{}")
    with pytest.raises(DataError, match="cut short"):
        read_tmke(tmp_path, on_error="skip")


def mixed(root: Path, *, on_error: Any = "skip", **options: Any) -> RecordSource:
    """Five records that can be used, among them one of each kind that cannot."""
    no_picture = other("No picture") | {"image": "nowhere.jpeg"}
    damaged = other("Damaged") | {"image_rephrase": "damaged.jpeg"}
    (root / "images" / "damaged.jpeg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    long = other("Too long")
    long["locality_question"]["question"] = "Who led the revolt and " * 500
    good = [other(f"Car {number}") for number in range(5)]
    bad = [no_picture, damaged, broken("Broken"), long]
    write(root / "t.json", good[0], *bad[:2], *good[1:3], bad[2], bad[3], *good[3:], good[0])
    return read_tmke(root, on_error=on_error, **options)


def limited(source: RecordSource, **options: Any) -> EditDataModule:
    encoder = prompt_encoder()
    encoder.max_positions = 512
    return make(source, "multimodal", encoder, **options)


GOOD = [f"Car {number}" for number in range(5)]
BAD = {"Broken", "Car 0", "No picture", "Damaged", "Too long"}


def test_each_kind_of_unusable_record_is_left_out_and_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = limited(mixed(root))
    with caplog.at_level(logging.INFO):
        data.check()
        assert not caplog.records
        (batch,) = batches(data)
    assert list(batch.subjects) == GOOD
    assert batch.edit_ids == (0, 1, 2, 3, 4)
    left_out = {record.subject: record for record in data.left_out("test")}
    assert left_out.keys() == BAD
    assert left_out["No picture"].record == f"record 1 of {root / 't.json'}"
    assert "nowhere.jpeg" in left_out["No picture"].reason
    assert "damaged.jpeg" in left_out["Damaged"].reason
    assert left_out["Too long"].record == f"record 6 of {root / 't.json'}"
    assert "reads 512 at once" in left_out["Too long"].reason
    assert "the same as record 0" in left_out["Car 0"].reason
    shown = [line for line in caplog.records if is_for_screen(line)]
    (said,) = [line.getMessage() for line in shown]
    assert said.startswith("test split: 5 records left out (data.on_error=skip): record 5 of")
    assert said.endswith("; and 2 more")
    assert len(caplog.records) == 1 + 5  # each in full, for log.txt alone


def test_a_limit_counts_the_edits_that_can_be_made(root: Path) -> None:
    data = limited(mixed(root), limit=3)
    (batch,) = batches(data)
    assert list(batch.subjects) == GOOD[:3]
    assert {r.subject for r in data.left_out("test")} == BAD - {"Too long"}  # not looked at


def test_the_same_records_are_left_out_again(root: Path) -> None:
    first, second = (limited(mixed(root)) for _ in range(2))
    for data in (first, second):
        data.setup("test")
    second.check()
    assert first.served == second.served == {"test": (0, 3, 4, 6, 7)}
    assert first.left_out("test") == second.left_out("test")
    again = limited(mixed(root))
    again.check()
    again.setup("test")
    assert again.left_out("test") == first.left_out("test")


def test_a_run_does_not_go_on_where_a_picture_came_back(root: Path) -> None:
    """Its edits would have other numbers; the records themselves are the same."""
    cfg: Any = load_config("evaluate", ["editor=none", "experiment=demo"])

    def digests() -> dict[str, str | None]:
        data = limited(mixed(root))
        data.setup("test")
        parts: Any = SimpleNamespace(data=data, model=SimpleNamespace(fingerprint=lambda: "m"))
        return Run(cfg, parts, parts, Placement(cfg, 1, torch.device("cpu"))).digests

    before = digests()
    assert digests() == before
    (root / "images" / "nowhere.jpeg").write_bytes((root / "images" / "b.jpeg").read_bytes())
    after = digests()
    assert after["data_digest"] == before["data_digest"]
    assert after["probe_digest"] != before["probe_digest"]


def test_facts_are_asked_of_what_can_be_used_alone(root: Path) -> None:
    asked: list[int] = []

    def knows(rows: Rows) -> torch.Tensor:
        asked.append(len(rows))
        return torch.ones(len(rows), dtype=torch.bool)

    data = limited(mixed(root, filter_known="pictures"), knows=knows)
    data.setup("test")
    assert [record.subject for record in data.records("test")] == GOOD
    assert (data.known["test"].kept, data.known["test"].candidates) == (5, 5)


@pytest.mark.parametrize("told", ["Car 0", "No picture", "Broken"])
def test_without_skip_each_is_an_error(root: Path, told: str) -> None:
    source = mixed(root)
    records = [json.loads(source.records("test")[0].model_dump_json())]
    bad = {
        "Car 0": records,
        "No picture": [other("No picture") | {"image": "nowhere.jpeg"}],
        "Broken": [broken("Broken")],
    }[told]
    write(root / "t.json", *records, *bad)
    with pytest.raises(DataError):
        limited(read_tmke(root)).check()


def test_a_question_that_cannot_be_derived_is_told_with_its_place(root: Path) -> None:
    unnamed = other("Ann")
    unnamed["knowledge_edit"]["question"] = "Where is Annabel made?"
    write(root / "t.json", RECORD, unnamed)
    with pytest.raises(DataError, match=r"^record 1 of .*t\.json \(subject 'Ann'\)") as caught:
        make(read_tmke(root), "unimodal")
    assert "only as a part of a longer word" in str(caught.value)


def test_an_editor_says_which_records_it_cannot_edit(root: Path) -> None:
    unnamed = other("Car X")
    unnamed["knowledge_edit"]["question"] = "Which company made it?"
    write(root / "t.json", RECORD, unnamed, other("Car A"))
    source = read_tmke(root, on_error="skip")
    options: Any = RomeOptions  # its other options have no part in this
    rome = options.model_construct(name="rome")
    data = EditDataModule(source, {"test": SCENARIOS["unimodal"]}, check_record=rome.check_record)
    data.connect(prompt_encoder(), make(source, "unimodal")._images)  # type: ignore[arg-type]
    data.setup("test")
    assert [record.subject for record in data.records("test")] == ["Holden Caprice", "Car A"]
    (left_out,) = data.left_out("test")
    assert left_out.subject == "Car X"
    assert "editor=rome edits at the subject" in left_out.reason


def test_an_edit_that_changes_nothing_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    same = other("Car X")
    same["knowledge_edit"]["answer_new"] = "GENERAL  Motors"
    write(root / "t.json", RECORD, same)
    with caplog.at_level(logging.WARNING):
        batches(make(read_tmke(root), "unimodal"))
    (line,) = caplog.messages
    assert line.startswith("test split: 1 of 2 edits change nothing")
    assert line.endswith("Car X")


class PutsMuchBefore:
    """An editor with whose texts the question about one car does not fit."""

    def check_lengths(self, edit: Any, asked: Any) -> None:
        if "Car A" in edit[0].question:
            raise DataError("it takes 600 tokens.")


def test_what_an_editor_makes_too_long_is_left_out_and_the_rest_numbered_anew(root: Path) -> None:
    for on_error, fits in (("skip", True), ("error", False)):
        data = make(read_tmke(root, on_error=on_error), "unimodal")  # type: ignore[arg-type]
        data.setup("test")
        if not fits:
            with pytest.raises(DataError, match=r"record 1 of .*\(subject 'Car A'\).*600 tokens"):
                check_lengths(PutsMuchBefore(), data, "test")
            continue
        check_lengths(PutsMuchBefore(), data, "test")
        (batch,) = batches(data)
        assert batch.subjects == ("Holden Caprice", "Car B")
        assert batch.edit_ids == (0, 1)
        assert data.served == {"test": (0, 2)}
        assert [record.reason for record in data.left_out("test")] == ["it takes 600 tokens."]


def test_processes_that_serve_other_edits_do_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(None, 2, torch.device("cpu"))  # type: ignore[type-var]
    of_all: list[object] = [{"test": (0, 1)}, {"test": (0, 2)}]
    monkeypatch.setattr("runner.start.all_gather_objects", lambda served: of_all)
    with pytest.raises(DataError, match="process 1 leaves other records out"):
        placement.check_same_edits(of_all[0])
    of_all[1] = of_all[0]
    placement.check_same_edits(of_all[0])


def test_what_cannot_be_shown_is_no_demonstration(tmp_path: Path) -> None:
    """IKE's examples need a text question about a neighbour; the data stay the same for all."""
    unnamed = other("Car X")
    unnamed["knowledge_edit"]["question"] = "Which company made it?"
    write(tmp_path / "train.json", unnamed, *(other(f"Car {n}") for n in range(3)))
    write(tmp_path / "test.json", RECORD)
    digests = set[str]()
    for on_error, shown in (("error", 4), ("skip", 3)):
        source = read_tmke(tmp_path, train_files=["train.json"], on_error=on_error)  # type: ignore[arg-type]
        ike: Any = IkeOptions
        options = ike.model_construct(k=2)
        assert len(demonstrations(options, source)) == shown
        digests.add(source.digest())
    assert len(digests) == 1
    with pytest.raises(DataError, match="cannot be a demonstration of editor=ike"):
        options.check_demonstration(source.records("train")[0])
