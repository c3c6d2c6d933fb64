"""`python -m models check`: what is found, what is missed, and what is said about it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from configs.check import load_config
from configs.overrides import group_options
from errors import ConfigError
from models.__main__ import main
from models.check import Report, check_model
from models.minigpt4.__main__ import _parser as conversion

REVISION = "0123456789abcdef0123456789abcdef01234567"
SHARDS = tuple(f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
Change = Callable[[Path], object]


def write(folder: Path, *, sharded: bool = True) -> Path:
    """A LLaVA folder as the hub has it, with few and small weights."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.json": json.dumps({"model_type": "llava"}), "tokenizer.json": "{}",
        "tokenizer_config.json": "{}", "preprocessor_config.json": "{}",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    names = SHARDS if sharded else ("model.safetensors",)
    for name in names:
        save_file({f"weight of {name}": torch.ones(1000)}, folder / name)
    if sharded:
        index = {
            "metadata": {"total_size": 8000},
            "weight_map": {f"weight of {name}": name for name in names},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "llava")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a screen on which no cell is broken."""
    monkeypatch.setenv("COLUMNS", "400")
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def bad(report: Report) -> dict[str, str]:
    return {item.file: item.problem or "missing" for item in report.items if not item.good}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("sharded", [True, False])
def test_a_complete_folder(
    sharded: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "made", sharded=sharded)
    code, out, err = run(capsys, "model=llava", f"model.path={folder}")
    assert (code, err) == (0, "")
    assert "llava: complete" in out
    assert "MISSING" not in out
    assert "4.1 kB" in out
    assert "preprocessor_config.json" in out
    assert all((name in out) == sharded for name in SHARDS)


CHANGES: dict[str, tuple[Change, str, str]] = {
    "missing shard": (lambda f: (f / SHARDS[1]).unlink(), SHARDS[1], "missing"),
    "shard cut off": (
        lambda f: (f / SHARDS[0]).write_bytes((f / SHARDS[0]).read_bytes()[:-1]),
        SHARDS[0], "is cut off or damaged",
    ),
    "git-lfs pointer": (
        lambda f: (f / SHARDS[0]).write_text("version https://git-lfs.github.com/spec/v1\n"),
        SHARDS[0], "is a git-lfs pointer",
    ),
    "shard of another model": (
        lambda f: save_file({"other": torch.ones(1000)}, f / SHARDS[0]),
        SHARDS[0], f"lacks 1 weights, weight of {SHARDS[0]} among them",
    ),
    "index of a larger model": (
        lambda f: (f / "model.safetensors.index.json").write_text(
            (f / "model.safetensors.index.json").read_text().replace("8000", "14000000000")
        ),
        "model.safetensors.index.json", "says 14.0 GB, and its shards have 8.",
    ),
    "empty index": (
        lambda f: (f / "model.safetensors.index.json").write_text("{}"),
        "model.safetensors.index.json", "names no shard",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors.index.json").unlink(),
        "model.safetensors or its shards", "missing",
    ),
    "no tokenizer": (
        lambda f: (f / "tokenizer.json").unlink(),
        "tokenizer.json or tokenizer.model or vocab.json + merges.txt", "missing",
    ),
    "half a tokenizer": (
        lambda f: (f / "tokenizer.json").rename(f / "vocab.json"),
        "tokenizer.json or tokenizer.model or vocab.json + merges.txt", "missing",
    ),
    "no image processor": (
        lambda f: (f / "preprocessor_config.json").rename(f / "processor_config.json"),
        "preprocessor_config.json", "missing",
    ),
    "no special tokens": (
        lambda f: (f / "tokenizer_config.json").unlink(),
        "tokenizer_config.json or special_tokens_map.json", "missing",
    ),
    "another family": (
        lambda f: (f / "config.json").write_text('{"model_type": "blip-2"}'),
        "config.json", "is of a 'blip-2' model, not 'llava'",
    ),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json", "is no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_named(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, file, problem = CHANGES[name]
    change(folder)
    found = bad(check_model("llava", "llava", str(folder)))
    assert list(found) == [file]
    assert problem in found[file]
    code, out, _ = run(capsys, "model=llava", f"model.path={folder}")
    assert code == 1
    assert "files are missing or bad" in out
    assert ("MISSING" in out) == (problem == "missing")
    assert ("BAD" in out) == (problem != "missing")


@pytest.mark.parametrize(
    "files", [("tokenizer.model",), ("vocab.json", "merges.txt"), ("tokenizer.json",)]
)
def test_any_form_of_a_tokenizer_will_do(files: tuple[str, ...], folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "preprocessor_config.json").unlink()  # transformers 5 writes one file
    (folder / "processor_config.json").write_text('{"image_processor": {}}')
    (folder / "tokenizer_config.json").rename(folder / "special_tokens_map.json")
    for file in files:
        (folder / file).touch()
    assert check_model("llava", "llava", str(folder)).complete


def test_a_manifest_is_held_against_the_files(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(root / "models/pretrained/llava_tiny", folder)
    words = ("model=llava_tiny", f"model.path={folder}")
    assert run(capsys, *words)[0] == 0
    with (folder / "tokenizer.json").open("a") as file:
        file.write(" ")
    (folder / "generation_config.json").unlink()
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "is not the manifest's: sha256" in out
    assert "2 of 6 files are missing or bad" in out
    assert "python pretrain.py model=llava_tiny" in out
    found = bad(check_model("llava_tiny", "llava", str(folder)))
    assert found.keys() == {"tokenizer.json", "generation_config.json"}


def test_a_hub_id_is_looked_up_in_the_cache_at_its_revision(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model=llava", "model.path=some/llava", f"model.revision={REVISION}")
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert out.count("MISSING") == 5
    assert f"hf download some/llava --revision {REVISION}" in out
    snapshots = cache / "models--some--llava" / "snapshots"
    write(snapshots / REVISION)
    code, out, _ = run(capsys, *words)
    assert (code, out.count("MISSING")) == (0, 0)
    assert "some/llava at 01234567" in out
    (snapshots / REVISION / SHARDS[0]).unlink()
    assert bad(check_model("llava", "llava", "some/llava", REVISION)) == {SHARDS[0]: "missing"}
    other = REVISION[::-1]
    assert len(bad(check_model("llava", "llava", "some/llava", other))) == 5


def test_the_real_models_are_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    for name, repository in (
        ("llava", "llava-hf/llava-1.5-7b-hf"),
        ("blip2_opt", "Salesforce/blip2-opt-2.7b"),
    ):
        code, out, _ = run(capsys, f"model={name}")
        assert code == 1
        command = next(line for line in out.splitlines() if "hf download" in line)
        words = command.replace(",", "").split()
        assert words[:4] == ["hf", "download", repository, "--revision"]
        assert len(words[4]) == 40


def test_minigpt4_s_originals_and_conversion_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "minigpt4-7b"
    code, out, _ = run(capsys, "model=minigpt4", f"model.path={target}")
    assert code == 1
    assert out.count("MISSING") == 4
    for name in ("eva_vit_g.pth", "blip2_pretrained_flant5xxl.pth"):
        where = (
            f"https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/{name}"
        )
        assert where in out
    assert "https://github.com/Vision-CAIR/MiniGPT-4, README" in out
    assert "lmsys/vicuna-7b-delta-v0" in out
    command = next(line for line in out.splitlines() if "models.minigpt4 convert" in line)
    options = conversion().parse_args(shlex.split(command)[3:])  # after python -m models.minigpt4
    assert (options.output, options.vit) == (target, Path("eva_vit_g.pth"))
    target.mkdir()
    (target / "config.json").write_text('{"model_type": "minigpt4"}')
    code, out, _ = run(capsys, "model=minigpt4", f"model.path={target}")
    assert (code, out.count("MISSING")) == (1, 4)
    assert "tokenizer_config.json" in out


def test_other_commands_say_how_minigpt4_is_made(tmp_path: Path) -> None:
    words = ["editor=none", "model=minigpt4", f"model.path={tmp_path}/none"]
    with pytest.raises(ConfigError, match=r"python -m models\.minigpt4 convert"):
        load_config("evaluate", words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model=llva",), "did you mean llava?"),
        (("model=llava", "model.pth=x"), "did you mean model.path"),
        (("model=llava", "model.quantise=3bit"), "model.quantise=3bit: input should be '8bit' or"),
        (("model=llava", "+model.more=1"), "there is no key model.more"),
        (("model=llava", "data=world"), "data: only model=NAME"),
        (("model.path=/data/llava",), "choose a model: model is one of"),
        (("model=llava,llava_tiny",), "a list of values"),
        (("llava",), "did you mean llava=VALUE?"),
    ],
)
def test_a_bad_command_line_is_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_every_model_is_checked_without_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    code, out, _ = run(capsys)
    assert code == 1
    for name in group_options("model"):
        assert (f"\n{name}: " in f"\n{out}") == (name != "auto")
    assert "llava_tiny: complete" in out


def test_the_command(root: Path) -> None:
    words = [sys.executable, "-m", "models", "check", "model=llava_tiny"]
    run = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "llava_tiny: complete" in run.stdout


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["chekc"])
    assert "invalid choice: 'chekc'" in capsys.readouterr().err
