"""`python -m datamodules check`: what is in a data set, what is wrong with it, and how it ends."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules.__main__ import main
from datamodules.checking.tally import Tally, names
from datamodules.mentions import mentions
from datamodules.records import KnowledgeEdit, Record
from datamodules.source import RecordSource
from runner.checked import log_contents
from tests.benchmark_files import CCKEB, CCKEB_PICTURES, write_json
from tests.tokenizers_small import opt_tokenizer
from tests.unit.datamodules.test_sources import other
from tests.unit.datamodules.test_text_benchmarks import ZSRE
from tests.unit.test_imports import ROOT

Json = dict[str, Any]
PICTURES = ("a_0.jpeg", "a_1.jpeg", "b.jpeg", "c.jpeg", "d.jpg")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four sound records, and all of their pictures."""
    write_records(tmp_path, *(car(f"Car {letter}") for letter in "ABCD"))
    (tmp_path / "images").mkdir()
    for number, name in enumerate(PICTURES):
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / "images" / name)
    return tmp_path


def write_records(root: Path, *records: Json) -> None:
    write_json(root / "test.json", list(records))


def car(subject: str, **changed: Any) -> Json:
    """A record that teaches an answer of its own, with other fields in its edit."""
    record = other(subject)
    record["knowledge_edit"] |= {"answer_new": f"Maker of {subject}", **changed}
    return record


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", *words])
    out, err = capsys.readouterr()
    return code, out, err


def checked(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, Any]:
    """The status, and what is said in JSON."""
    code, out, err = run(capsys, "data=tmke", f"data.root={root}", *words, "--json")
    assert err == ""
    return code, json.loads(out)


def kinds(report: Any) -> dict[str, tuple[int, int]]:
    return {each["kind"]: (each["count"], each["of"]) for each in report["findings"]}


def test_sound_data_are_counted_and_end_with_status_0(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = checked(capsys, root, "--strict", "data.files=[test.json]")
    assert (code, report["findings"], report["licence"]) == (0, [], "not stated")
    test = report["splits"]["test"]
    assert list(report["splits"]) == ["test"]
    assert (test["records"], test["subjects"], test["pictures"]) == (4, 4, 5)
    assert (test["targets"], test["commonest"]["Maker of Car A"]) == (4, 1)
    assert test["relations"] == {"Which company is {} produced by?": 4}
    assert test["types"] == {"car model": 4}
    assert test["text_probes"]["stability_same"] == test["picture_probes"]["reliability_u"] == 4
    assert "locality_near" not in test["text_probes"]
    code, out, _ = run(capsys, "data=tmke", f"data.root={root}")
    assert code == 0
    assert "test: 4 records about 4 subjects, 5 pictures" in out
    assert "4  Which company is {} produced by?" in out
    assert "Nothing is wrong." in out


def empty(root: Path) -> None:
    write_records(root, *map(car, "AB"), car("C", answer_new=" \u200b"), car("D"))


def broken(root: Path) -> None:
    write_records(root, *map(car, "AB"), {**car("C"), "image": "../c.jpg"}, car("D"))


def copied(root: Path) -> None:
    write_records(root, *map(car, "ABCA"))


def missing(root: Path) -> None:
    (root / "images" / "d.jpg").unlink()


def damaged(root: Path) -> None:
    picture = root / "images" / "b.jpeg"
    picture.write_bytes(picture.read_bytes()[:-40])


def underivable(root: Path) -> None:
    records = [car(name) for name in "ABCD"]
    records[2]["knowledge_edit"]["question"] = "Who makes it?"
    write_records(root, *records)


def nameless(root: Path) -> None:
    records = [car(name) for name in "ABCD"]
    records[1]["knowledge_edit"]["question"] = "Who makes Bear?"
    records[1]["same_type_entity_question"]["question"] = "Who makes it?"
    write_records(root, *records)


def idle(root: Path) -> None:
    write_records(root, *map(car, "ABC"), car("D", answer_new="general  MOTORS"))


def repeated(root: Path) -> None:
    write_records(root, *map(car, "ABC"), {**car("c"), **_asked_like(car("C"))})


def contradicting(root: Path) -> None:
    second = {**car("c"), **_asked_like(car("C"))}
    second["knowledge_edit"] = {**second["knowledge_edit"], "answer_new": "Fiat"}
    write_records(root, *map(car, "ABC"), second)


def _asked_like(record: Json) -> Json:
    return {"knowledge_edit": copy.deepcopy(record["knowledge_edit"])}


def twins(root: Path) -> None:
    images = root / "images"
    (images / "a_1.jpeg").write_bytes((images / "a_0.jpeg").read_bytes())


def dominating(root: Path) -> None:
    taught = ["Fiat"] * 4 + [f"Maker {number}" for number in range(56)]
    write_records(root, *(car(f"Car {n}", answer_new=a) for n, a in enumerate(taught)))


@pytest.mark.parametrize(
    ("change", "kind", "n", "of", "said"),
    [
        (empty, "empty_texts", 1, 4, "record 2 of"),
        (broken, "unusable_records", 1, 4, "inside the folder of the pictures"),
        (copied, "copies", 1, 4, "it is the same as record 0 of"),
        (missing, "missing_pictures", 1, 5, "d.jpg (record 0 of"),
        (damaged, "unreadable_pictures", 1, 5, "b.jpeg (record 0 of"),
        (underivable, "underivable", 1, 4, "'Who makes it?' does not name the subject 'C'"),
        (nameless, "absent_subjects", 1, 4, "'Who makes Bear?' does not name 'B'"),
        (idle, "idle_edits", 1, 4, "(subject 'D'): 'general  MOTORS'"),
        (repeated, "repeated_edits", 1, 4, "'Maker of C', and so record 2 of"),
        (contradicting, "several_answers", 1, 4, "'Fiat', and record 2 of"),
        (twins, "same_pictures", 4, 4, "(subject 'Car A'): a_0.jpeg"),
        (dominating, "dominant_targets", 4, 60, "'Fiat': 4 (7%)"),
    ],
)
def test_what_is_wrong_is_counted_and_named(
    change: Callable[[Path], None], kind: str, n: int, of: int, said: str,
    root: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change(root)
    code, report = checked(capsys, root)
    found = kinds(report)
    assert found.pop(kind) == (n, of)
    # Without its name in the question, no question about another entity can be made of it.
    assert found.keys() <= ({"absent_subjects"} if kind == "underivable" else set())
    (finding,) = (each for each in report["findings"] if each["kind"] == kind)
    assert said in finding["first"][0]
    assert code == int(finding["is_problem"])
    code, out, _ = run(capsys, "data=tmke", f"data.root={root}", "--strict")
    assert code == 1
    assert f"{'problem' if finding['is_problem'] else 'note'}, test: {n} of {of}" in out


def test_everything_that_is_wrong_is_found_in_one_go(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps(car(f"Car {n}")) for n in range(9)]
    lines[2], lines[5] = "{broken", lines[1]
    (root / "test.json").unlink()
    (root / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in PICTURES:
        (root / "images" / name).unlink()
    code, report = checked(capsys, root)
    assert code == 1
    assert kinds(report) == {
        "unusable_records": (1, 9), "copies": (1, 9), "missing_pictures": (5, 5)
    }  # fmt: skip
    assert [len(each["first"]) for each in report["findings"]] == [1, 1, 5]
    _, out, _ = run(capsys, "data=tmke", f"data.root={root}")
    assert "and 2 more, which --json lists" in out
    _, report = checked(capsys, root, "--no-pictures")
    assert "missing_pictures" not in kinds(report)


def test_overlaps_are_told_and_not_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(root / "train.json", [car("car a"), *(car(f"Bus {n}") for n in range(9))])
    words = ("data.files=[test.json]", "data.train_files=[train.json]")
    code, report = checked(capsys, root, *words)
    assert code == 1
    (overlap,) = (each for each in report["findings"] if each["kind"] == "overlap")
    assert (overlap["split"], overlap["count"], overlap["of"]) == ("test", 1, 4)
    assert overlap["detail"]["with"] == "train"
    assert overlap["detail"]["subject"]["first"] == ["Car A (there 'car a')"]
    assert list(report["splits"]) == ["train", "val", "test"]


def test_training_records_of_another_source_are_looked_at_as_its_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firms = [{**ZSRE, "subject": s, "src": f"What is made by {s}?"} for s in ("CAR A", "Firm")]
    write_json(root / "zsre" / "train.json", [*firms, {**ZSRE, "alt": ""}])
    words = ("data.train=zsre", f"data.train.root={root}/zsre",
             "data.train.train_files=[train.json]", "data.files=[test.json]")  # fmt: skip
    code, report = checked(capsys, root, *words)
    assert code == 1
    assert {s: r["source"] for s, r in report["splits"].items()} == {
        "train": "zsre",
        "test": "tmke",
    }
    assert kinds(report) == {"overlap": (1, 4), "empty_texts": (1, 3)}
    _, out, _ = run(capsys, "data=tmke", f"data.root={root}", *words)
    assert "train of data=zsre: 2 records about 2 subjects" in out


def test_a_file_of_another_source_is_told_as_such(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(root / "test.json", [ZSRE])
    code, out, _ = run(capsys, "data=tmke", f"data.root={root}")
    assert code == 1
    assert "so use data=zsre for its file" in out
    assert "probe" not in out.partition("problem")[0]


def test_what_a_source_leaves_out_by_its_own_rule_is_no_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "vlkeb" / "eval.json", CCKEB_PICTURES)
    write_json(tmp_path / "eval.json", CCKEB)
    words = ("data=cckeb", f"data.root={tmp_path}", f"data.vlkeb_root={tmp_path}/vlkeb")
    code, out, _ = run(capsys, *words, "--no-pictures")
    assert code == 0
    assert "note, test: 1 of 3 records are left out by the source's own rule" in out


def test_answers_as_a_tokenizer_reads_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "words"
    opt_tokenizer().save_pretrained(folder)
    write_records(root, *map(car, "AB"), car("C", answer_new="General Electric"))
    code, report = checked(capsys, root, "--tokenizer", str(folder), "--strict")
    assert (code, kinds(report)) == (1, {"same_first_token": (1, 3)})
    assert report["tokenizers"] == [str(folder)]
    (finding,) = report["findings"]
    assert "'General Motors' and 'General Electric' begin with 'Ġ" in finding["first"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "choose the data: data is one of cckeb,"),
        (("data=zsrre",), "did you mean zsre?"),
        (("data=zsre",), "data.root is required"),
        (("data=zsre", "data.root=/no/such/folder"), "there is no such folder"),
        (("data=zsre", "model=llava"), "model: only data=NAME"),
        (("data=zsre", "data.root=.", "data.rot=x"), "did you mean data.root"),
        (("data=zsre", "data.root=.", "data.train=tmke"), "data.train.root is required"),
        (("data=world", "--tokenizer", "/no/such"), "no tokenizer can be read from '/no/such'"),
    ],
)
def test_a_mistake_of_the_user_ends_with_status_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "data=zsre", "--jsno"])
    assert "unrecognized arguments: --jsno" in capsys.readouterr().err


def test_no_model_and_nothing_of_one_is_loaded(root: Path) -> None:
    code = (
        "import sys\nfrom datamodules.__main__ import main\n"
        f"status = main(['check', 'data=tmke', 'data.root={root}'])\n"
        "heavy = 'torch lightning transformers datasets pandas'.split()\n"
        "print(status, sorted(set(heavy) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\n0 []\n"), done.stderr


def test_a_run_says_what_is_worth_knowing_of_its_edits(caplog: pytest.LogCaptureFixture) -> None:
    edit = KnowledgeEdit(question="Who makes it?", answer_new="Fiat", answer_true="Fiat")
    records = [Record(subject=name, knowledge_edit=edit) for name in "ABCD"]
    source = RecordSource("tmke", Path(), {"test": records}, plain_locality=False,
                          filter_known="none")  # fmt: skip
    with caplog.at_level(logging.INFO):
        log_contents(source, ["test"])
    lines = {record.getMessage(): getattr(record, "is_off_screen", False)
             for record in caplog.records}  # fmt: skip
    off_screen, absent, dominant = lines
    assert off_screen == "test split: 4 records about 4 subjects, 1 answers to teach"
    assert absent.startswith("test split: 4 of 4 edits do not name their subject in text: record 0")
    assert dominant.endswith("one target that dominates (100%): 'Fiat': 4 (100%)")
    assert list(lines.values()) == [True, False, False]
    told = Tally.of(records, lambda number: f"record {number}").as_dict("test")
    assert {f["kind"]: (f["n"], len(f["first"])) for f in told["findings"]} == {
        "absent_subjects": (4, 3), "idle_edits": (4, 3), "dominant_targets": (4, 1)
    }  # fmt: skip


def test_a_training_may_teach_several_answers_to_one_question() -> None:
    edits = [KnowledgeEdit(question="Who makes A?", answer_new=maker) for maker in ("Fiat", "Seat")]
    tally = Tally.of([Record(subject="A", knowledge_edit=edit) for edit in edits], str)
    assert [finding.kind for finding in tally.findings("test")] == ["several_answers"]
    assert tally.findings("train") == []


TEXT = st.text(st.sampled_from("aAé é_1.\u0301東の"), max_size=12)


@given(TEXT, st.text(st.sampled_from("aAé1東"), min_size=1, max_size=3))
def test_a_subject_is_named_where_mentions_finds_it(question: str, subject: str) -> None:
    assert names(question, subject) == bool(mentions(question, subject))
