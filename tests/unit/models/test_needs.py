"""What `models check` says of a model=auto folder is what opening it comes to, file by file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errors import ModelError
from models.__main__ import main
from models.auto import AutoMLLM
from models.check import check_model
from models.loading import load_model
from models.own_processor import settings_of
from models.processor import load_processor
from tests import auto_cases, hub_cases

WEIGHTS, COUNTS = "model.safetensors", "processor_config.json"
HUB = ("smolvlm_256m", "qwen2_vl_2b", "qwen2_5_vl_3b", "llava_onevision_0.5b")
OTHERS = ("llava_next", "internvl", "gemma3", "glm4v")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))


def made(kind: str, folder: Path) -> Path:
    return (hub_cases if kind in hub_cases.RELEASED else auto_cases).save(kind, folder)


@pytest.fixture(scope="module", params=[*HUB, *OTHERS])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(request.param, tmp_path_factory.mktemp(request.param))


def refusal(folder: Path, *, weights: bool = True) -> str:
    """What opening the folder and looking at a picture refuses; empty where it works."""
    try:
        processor = load_processor("auto", str(folder))
        if weights:
            model = load_model("auto", str(folder))
            assert isinstance(model, AutoMLLM)
            model.picture_features(processor.pixels(PICTURE)[None])
    except ModelError as error:
        return str(error)
    return ""


def without(source: Path, target: Path, files: Sequence[str]) -> Path:
    """A folder with some files of another left out."""
    target.mkdir()
    for file in source.iterdir():
        if file.name not in files:
            (target / file.name).symlink_to(file)
    return target


def agree(folder: Path, absent: Sequence[str], *, weights: bool = True) -> bool:
    """Whether the folder opens, after the check was held against it."""
    report, said = check_model("some", "auto", str(folder)), refusal(folder, weights=weights)
    missing = {item.file for item in report.items if item.path is None and not item.optional}
    assert report.complete == (not said), (absent, said)
    assert report.refused in ("", said)  # in parts without tokenizer_config.json: of which class?
    if "config.json" not in absent:  # without it nothing else is known
        assert all(file.split(" or ")[0] in said for file in missing), (absent, said)
    return report.complete


def test_with_any_file_left_out_the_check_says_what_opening_does(
    saved: Path, tmp_path: Path
) -> None:
    assert agree(saved, ())
    names = sorted(file.name for file in saved.iterdir())
    opens = {name: agree(without(saved, tmp_path / name, [name]), [name]) for name in names}
    needed = {name for name, opened in opens.items() if not opened}
    assert {"config.json", WEIGHTS, "preprocessor_config.json"} <= needed
    assert not needed & {"chat_template.json", "generation_config.json", "added_tokens.json"}
    kind = json.loads((saved / "config.json").read_text())["model_type"]
    assert (COUNTS in needed) == bool(settings_of(kind))
    in_parts = "vocab.json" in names  # then there are two of everything that words need
    assert ({"tokenizer.json", "tokenizer_config.json"} & needed == set()) == in_parts


def test_with_several_files_left_out_all_that_are_needed_are_named(
    saved: Path, tmp_path: Path
) -> None:
    draw = random.Random(saved.name)
    names = sorted(file.name for file in saved.iterdir() if file.name != WEIGHTS)
    for number in range(6):
        absent = draw.sample(names, draw.randint(2, 5))
        agree(without(saved, tmp_path / str(number), absent), absent, weights=False)


@pytest.mark.parametrize("kind", ["llava_next", "llava_onevision_0.5b", "llava"])
def test_a_setting_that_is_left_out_is_named_and_where_it_belongs(
    kind: str, tmp_path: Path, root: Path
) -> None:
    folder = tmp_path / "model"
    if kind == "llava":
        shutil.copytree(root / "models/pretrained/llava_tiny", folder)
        (folder / "manifest.json").unlink()
        said = {"patch_size": 8, "vision_feature_select_strategy": "default"}
        (folder / COUNTS).write_text(json.dumps(said))
    else:
        made(kind, folder)
    said = json.loads((folder / COUNTS).read_text())
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    asked = settings_of(model_type)
    assert len(asked) == 2
    for absent in [asked[:1], asked]:
        kept = {name: value for name, value in said.items() if name not in absent}
        (folder / COUNTS).write_text(json.dumps(kept))
        told = refusal(folder, weights=False)
        assert f" {COUNTS} does not say {', '.join(absent)}." in told
        report = check_model("some", "auto", str(folder))
        assert all(item.good for item in report.items)
        assert (report.complete, report.refused) == (False, told)


def test_the_command_says_what_is_missing_what_for_and_what_does_not_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    folder = made("llava_onevision_0.5b", tmp_path / "model")
    words = ["check", "model=auto", f"model.path={folder}", "model.name=onevision"]
    said = json.loads((folder / COUNTS).read_text())
    (folder / COUNTS).unlink()
    (folder / "chat_template.json").unlink()
    assert main(words) == 1
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if f" {COUNTS}" in line)
    assert "a picture's tokens: num_image_tokens, vision_feature_select_strategy" in line
    assert "MISSING" in line
    line = next(line for line in out.splitlines() if "data.prompt=native, and nothing else" in line)
    assert "chat_template.jinja or chat_template.json" in line
    assert "not there" in line
    assert "onevision: 1 of 7 files are missing or bad" in out
    (folder / COUNTS).write_text(json.dumps(said | {"num_image_tokens": None}))
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "onevision: all files are there, and they do not open: LlavaOnevisionProcessor" in out
    (folder / COUNTS).write_text(json.dumps(said))
    assert main(words) == 0
    assert "onevision: complete" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["smolvlm_256m", "qwen2_vl_2b"])
def test_a_processor_in_one_file_as_transformers_5_writes_it(name: str, tmp_path: Path) -> None:
    folder = made(name, tmp_path / "model")
    expected = load_processor("auto", str(folder))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    said = json.loads((folder / COUNTS).read_text()) if (folder / COUNTS).exists() else {}
    (folder / COUNTS).write_text(json.dumps(said | {"image_processor": settings}))
    assert check_model("some", "auto", str(folder)).complete
    found = load_processor("auto", str(folder))
    assert (found.picture_ids, found.chat) == (expected.picture_ids, expected.chat)
    assert found.pixels(PICTURE).equal(expected.pixels(PICTURE))
