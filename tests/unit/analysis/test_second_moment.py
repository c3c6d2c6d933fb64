"""The command that estimates the second moment of ROME's keys."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from analysis.__main__ import main
from analysis.second_moment import fact_texts, read_texts, token_batches
from datamodules.world import World, generate_world, world_records
from errors import DataError
from tests.rome_cases import model_and_encoder

LINES = ["Who founded Gofin Works?", "", "The car is produced by Tama Duva.", "Lisburg"]


def table(path: Path, column: str = "text") -> Path:
    frame = pd.DataFrame({column: LINES, "number": range(len(LINES))})
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".json":
        frame.to_json(path, orient="records")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_documents_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / name)
    expected = [line for line in LINES if line]
    assert read_texts(path, "text") == expected


def test_documents_of_a_folder_and_of_another_column(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    table(folder / "part.parquet", column="body")
    assert read_texts(folder, "body") == [line for line in LINES if line]
    with pytest.raises(DataError, match=r"no column 'text'; it has body, number.*--column"):
        read_texts(folder, "text")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.txt", None, "no such file"),
        ("a.docx", "x", "known are .txt"),
        ("empty.txt", "\n \n", "holds no text"),
        ("bad.jsonl", "{", "cannot be read"),
        ("latin.txt", b"caf\xe9", "is not UTF-8 text: byte 0xe9 stands at 3"),
        ("wide.txt", "cafe".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_unreadable_text_is_named(
    tmp_path: Path, name: str, content: str | bytes | None, part: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=part) as caught:
        read_texts(path, "text")
    assert f"--text {path}" in str(caught.value)


def test_documents_are_cut_to_what_the_model_reads() -> None:
    model, encoder = model_and_encoder("opt")
    long = "Tama Duva " * 200
    (ids, mask), (last, _) = token_batches(model, encoder.tokenizer, [long, "car", "model"], 2)
    assert ids.shape == mask.shape == (2, model.max_positions)
    assert mask.sum(1)[0] == model.max_positions
    assert ids[1][mask[1]].tolist() == encoder.tokenizer("car")["input_ids"]
    assert len(last) == 1


def test_the_command_writes_a_file_that_says_what_it_is(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    text = table(tmp_path / "corpus.txt")
    words = [
        "second_moment",
        "model=llava_tiny",
        "--layer",
        "2,0",
        "--text",
        str(text),
        "--cache",
        str(tmp_path),
    ]
    assert main([*words, "--samples", "2"]) == 0
    printed = capsys.readouterr().out
    path, upper = sorted(tmp_path.glob("*.safetensors"))
    assert [line.split(":")[0] for line in printed.splitlines()] == [str(path), str(upper)]
    assert printed.count("2 documents") == 2
    with safe_open(upper, framework="pt") as file:
        assert file.metadata()["layer"] == "2"
    upper.unlink()  # only what is missing is made again, below
    with safe_open(path, framework="pt") as file:
        facts, moment = file.metadata(), file.get_tensor("second_moment")
    assert (facts["layer"], facts["documents"]) == ("0", "2")
    assert path.name.startswith("llava_tiny_model-") and facts["model"] in path.name  # noqa: PT018
    assert facts["data"] in path.name
    assert torch.equal(moment, moment.mT)
    assert torch.linalg.eigvalsh(moment).min() > -1e-9
    written = path.stat().st_mtime_ns
    assert main([*words, "--samples", "2"]) == 0
    again = capsys.readouterr().out.splitlines()
    assert ["is there already" in line for line in again] == [True, False]
    assert upper.is_file()
    assert path.stat().st_mtime_ns == written
    assert main([*words, "--samples", "3"]) == 0  # another sample, other files
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--layer", "0", "--samples", "0"], "--samples and --batch should be at least 1"),
        (["--layer", "-1"], "--layer at least 0"),
        (["--layer", "0,9"], "layer 9 was asked for"),
        (["--layer", "0", "model=nope"], "model=nope"),
    ],
)
def test_a_wrong_command_ends_with_one_sentence(
    tmp_path: Path, root: Path, words: list[str], part: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(root)
    given = ["--text", str(table(tmp_path / "a.txt")), "--cache", str(tmp_path / "cache")]
    model = [] if any(word.startswith("model=") for word in words) else ["model=llava_tiny"]
    assert main(["second_moment", *words, *given, *model]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert part in error
    assert "Traceback" not in error
    assert not (tmp_path / "cache").exists()


def test_without_a_text_it_is_made_of_true_facts_each_once(tmp_path: Path) -> None:
    _, encoder = model_and_encoder("opt")
    world = World.load(generate_world(tmp_path / "w", size=20, cities=12, seen_views=4))
    records = world_records(world, "test", seed=0)[:3]
    texts = fact_texts([*records, *records], encoder)
    expected = []
    for record in records:
        edit, rephrase = record.knowledge_edit, record.rephrase_question
        assert rephrase is not None
        expected += [
            f"Question: {question} Short answer: {edit.answer_true}"
            for question in (edit.question, rephrase.rephrase_question)
        ]
    assert texts == list(dict.fromkeys(expected))
    silent = record.knowledge_edit.model_copy(update={"answer_true": None})
    with pytest.raises(DataError, match="no training record says in text what is true"):
        fact_texts([record.model_copy(update={"knowledge_edit": silent})], encoder)


def test_a_byte_order_mark_is_no_letter_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo".encode("utf-8-sig"))
    assert read_texts(path, "text") == ["one", "two"]
