"""The second moment of ROME's keys: the sum, its file, and the command that makes it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from analysis import second_moment as command
from editors.rome.moments import load_second_moment, save_second_moment, second_moment
from editors.rome.update import factored, left_vector
from errors import DataError, ModelError
from models.deltas import Site
from models.editable import EditableModel
from tests.builders import text_model
from tests.rome_cases import KINDS, model_and_encoder

LINES = ["Who founded Gofin Works?", "", "The car is produced by Tama Duva.", "Lisburg"]


def batches(*, left: bool = False) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for lengths in ((9, 4, 7), (5, 12)):
        ids = torch.randint(4, 90, (len(lengths), max(lengths)), generator=draw)
        steps = torch.arange(max(lengths))
        mask = torch.stack([steps >= max(lengths) - n if left else steps < n for n in lengths])
        found.append((ids, mask))
    return found


@torch.no_grad()
def slow_moment(model: EditableModel, site: Site) -> tuple[Tensor, int]:
    """One unpadded document at a time through transformers' own model."""
    keys: list[Tensor] = []
    handle = model.linear(site).register_forward_hook(
        lambda _module, args, _output: keys.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    for ids, mask in batches():
        for row, real in zip(ids, mask, strict=True):
            model.hf(input_ids=row[real][None])
    handle.remove()
    each = torch.cat(keys).double()
    total = torch.stack([torch.outer(key, key) for key in each]).sum(0)
    return total / len(each), len(each)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [0, 2])
def test_padding_does_not_count(kind: str, layer: int) -> None:
    model, _ = model_and_encoder(kind)
    site = Site(layer, "mlp_out")
    found, tokens = second_moment(model, site, batches())
    expected, count = slow_moment(model, site)
    assert tokens == count == 9 + 4 + 7 + 5 + 12
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_sum_is_kept_in_float64() -> None:
    model = text_model("llama").to(torch.bfloat16)
    found, _ = second_moment(model, Site(1, "mlp_out"), batches() * 50)
    once, _ = second_moment(model, Site(1, "mlp_out"), batches())
    torch.testing.assert_close(found, once, rtol=1e-12, atol=0)


def test_a_nearly_singular_moment_is_solved_in_float64() -> None:
    draw = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(40, 40, generator=draw, dtype=torch.float64))[0]
    sizes = torch.logspace(0, -9, 40, dtype=torch.float64)
    moment = directions @ torch.diag(sizes) @ directions.mT
    key = torch.randn(1, 40, generator=draw)
    exact = directions @ torch.diag(1 / sizes) @ directions.mT @ key[0].double()
    found = left_vector(key, factored(moment))[0]
    assert found.dtype == torch.float32
    assert (found - exact / exact.norm()).abs().max() <= 1e-6
    rounded = torch.linalg.solve(moment.float(), key[0])
    assert (rounded / rounded.norm() - exact / exact.norm()).abs().max() > 1e-4


def test_a_file_is_taken_by_its_own_model_and_layer_alone(tmp_path: Path) -> None:
    model, other = text_model("llama"), text_model("llama", seed=1)
    path = tmp_path / "c.safetensors"
    moment = torch.rand(24, 24, dtype=torch.float64)
    save_second_moment(path, moment, facts={"model": model.fingerprint(), "layer": "1"})
    assert torch.equal(load_second_moment(str(path), model, 1), moment)
    with pytest.raises(ModelError, match=f"model {model.fingerprint()} instead of"):
        load_second_moment(str(path), other, 1)
    with pytest.raises(ModelError, match=r"layer 1 instead of 2.*--layer 2"):
        load_second_moment(str(path), model, 2)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"cannot be read.*--layer 1"):
        load_second_moment(str(path), model, 1)
    with pytest.raises(ModelError, match=r"cannot be read.*analysis.second_moment"):
        load_second_moment(str(tmp_path / "d"), model, 1)


# The command


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
    assert command.read_texts(path, "text") == expected


def test_documents_of_a_folder_and_of_another_column(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    table(folder / "part.parquet", column="body")
    assert command.read_texts(folder, "body") == [line for line in LINES if line]
    with pytest.raises(DataError, match=r"no column 'text'; it has body, number.*--column"):
        command.read_texts(folder, "text")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.txt", None, "no such file"),
        ("a.docx", "x", "known are .txt"),
        ("empty.txt", "\n \n", "holds no text"),
        ("bad.jsonl", "{", "cannot be read"),
    ],
)
def test_unreadable_text_is_named(
    tmp_path: Path, name: str, content: str | None, part: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=part) as caught:
        command.read_texts(path, "text")
    assert f"--text {path}" in str(caught.value)


def test_documents_are_cut_to_what_the_model_reads() -> None:
    model, encoder = model_and_encoder("opt")
    long = "Tama Duva " * 200
    (ids, mask), (last, _) = command.tokenised(model, encoder.tokenizer, [long, "car", "model"], 2)
    assert ids.shape == mask.shape == (2, model.max_positions)
    assert mask.sum(1)[0] == model.max_positions
    assert ids[1][mask[1]].tolist() == encoder.tokenizer("car")["input_ids"]
    assert len(last) == 1


def test_the_command_writes_a_file_that_says_what_it_is(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    text = table(tmp_path / "corpus.txt")
    words = ["model=llava_tiny", "--layer", "0", "--text", str(text), "--cache", str(tmp_path)]
    assert command.main([*words, "--samples", "2"]) == 0
    said = capsys.readouterr().out
    (path,) = tmp_path.glob("*.safetensors")
    assert str(path) in said
    assert "2 documents" in said
    with safe_open(path, framework="pt") as file:
        facts, moment = file.metadata(), file.get_tensor("second_moment")
    assert (facts["layer"], facts["documents"]) == ("0", "2")
    assert path.name.startswith("llava_tiny_model-") and facts["model"] in path.name  # noqa: PT018
    assert facts["data"] in path.name
    assert torch.equal(moment, moment.mT)
    assert torch.linalg.eigvalsh(moment).min() > -1e-9
    written = path.stat().st_mtime_ns
    assert command.main([*words, "--samples", "2"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written
    assert command.main([*words, "--samples", "3"]) == 0  # another sample, another file
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--layer", "0", "--samples", "0"], "--samples and --batch should be at least 1"),
        (["--layer", "-1"], "--layer at least 0"),
        (["--layer", "9"], "layer 9 was asked for"),
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
    assert command.main([*words, *given, *model]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert part in error
    assert "Traceback" not in error
    assert not (tmp_path / "cache").exists()
