"""Folders of models that are incomplete, damaged or too full: told by name, before weights load."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from errors import ModelError
from models.loading import load_model
from models.processor import load_processor
from tests import auto_cases

Break = Callable[[Path], object]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return auto_cases.save("qwen2_vl", tmp_path_factory.mktemp("qwen2_vl"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def change(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def shard(folder: Path, *, total: int | None = None) -> list[str]:
    """Cuts the weights into two files; returns their names."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    of_shard = {name: names[place % 2] for place, name in enumerate(sorted(weights))}
    for file in names:
        mine = {name: weights[name].contiguous() for name in weights if of_shard[name] == file}
        save_file(mine, folder / file, metadata={"format": "pt"})
    index = {"weight_map": of_shard, "metadata": {} if total is None else {"total_size": total}}
    (folder / INDEX).write_text(json.dumps(index))
    return names


def opened(folder: Path) -> None:
    load_processor("auto", str(folder))
    load_model("auto", str(folder))


@pytest.mark.parametrize(("number", "told"), [(2, "stale.0, stale.1."), (9, "stale.4 and 4 more.")])
def test_a_weight_left_over_is_told_and_left_out(
    folder: Path, number: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_model("auto", str(folder)).fingerprint()
    change(folder, lambda w: w.update({f"stale.{n}": torch.ones(3) for n in range(number)}))
    with caplog.at_level(logging.WARNING, logger="models.loading"):
        model = load_model("auto", str(folder))
    assert model.fingerprint() == before
    assert f"hold {number} that the model of config.json has no place for" in caplog.text
    assert told in caplog.text


def test_missing_and_misshapen_weights_are_refused_by_name(folder: Path) -> None:
    def damage(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if ".layers.1." in name]:
            del weights[name]
        weights["lm_head.weight"] = torch.ones(3, 5)

    change(folder, damage)
    with pytest.raises(ModelError) as caught:
        load_model("auto", str(folder))
    message = str(caught.value)
    assert "layers.1.input_layernorm.weight" in message
    assert "7 more; of another shape: lm_head.weight (3, 5) instead of (330, 16)." in message


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ('{"eos_token_id": [5, 6], "max_length": 7}', [5, 6]),
        ('{"eos_token_id": 5}', [5]),
        ('{"eos_token_id": [[5]]}', None),
        ('{"max_length": "many"}', None),
        ("{ no", [4]),
        ("[]", [4]),
        (None, [4]),
    ],
)
def test_the_end_tokens_alone_are_read_of_what_a_model_generates_by_itself(
    folder: Path, text: str | None, ends: list[int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A released model may have several; of a damaged file config.json's counts."""
    saying("config.json", eos_token_id=4)(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if text is not None:
        (folder / "generation_config.json").write_text(text)
    config = load_model("auto", str(folder)).hf.generation_config
    assert (config.eos_token_id, config.max_length) == (ends, None)
    assert ("cannot be read" in caplog.text) == (text in ("{ no", "[]"))


def test_shards_of_another_total_are_read(folder: Path) -> None:
    shard(folder, total=1)
    opened(folder)


def without(*names: str) -> Break:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def holding(name: str, text: str) -> Break:
    return lambda folder: (folder / name).write_text(text)


def saying(name: str, **changes: object) -> Break:
    def write(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(content))

    return write


BROKEN: dict[str, tuple[Break, str]] = {
    "no config": (without("config.json"), "Not in that folder: config.json"),
    "a kind that nobody knows": (saying("config.json", model_type="foo_bar"), "foo_bar"),
    "a number type that nobody knows": (saying("config.json", dtype="float7"), "float7"),
    "a section that is a number": (saying("config.json", text_config=7), "text_config"),
    "a size in words": (saying("config.json", vision_config={"image_size": "big"}), "'big'"),
    "no tokenizer": (without("tokenizer.json"), "Not in that folder: tokenizer.json"),
    "no words at all": (
        without("tokenizer.json", "tokenizer_config.json"),
        "tokenizer.json or tokenizer.model or vocab.json + merges.txt (words); "
        "tokenizer_config.json or special_tokens_map.json (special tokens)",
    ),
    "no pictures": (
        without("preprocessor_config.json"), "Not in that folder: preprocessor_config.json"
    ),
    "an index without a map": (
        lambda folder: (shard(folder), holding(INDEX, "{}")(folder)),
        f"{INDEX} names no shard",
    ),
    "a shard that is not there": (
        lambda folder: (folder / shard(folder)[1]).unlink(),
        "model-00002-of-00002.safetensors is not there, and the index of the weights names it",
    ),
    "a shard of something else": (
        lambda folder: (folder / shard(folder)[1]).write_bytes(b"<html>"),
        "model-00002-of-00002.safetensors is cut off or damaged",
    ),
    "a pointer": (
        lambda folder: (folder / WEIGHTS).write_text("version https://git-lfs"),
        "is a git-lfs pointer",
    ),
    **{
        f"{name}: {text}": (holding(name, text), f"{name} is no JSON object")
        for name in (
            "config.json", "tokenizer_config.json", "preprocessor_config.json",
            "processor_config.json", "special_tokens_map.json", "manifest.json",
        )
        for text in ("{ no", "[]")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_told_before_weights_load(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, says = BROKEN[case]
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_processor("auto", str(folder))
    message = str(caught.value)
    assert says in message
    assert str(folder) in message or case == "a size in words"
    assert len(message) < 900


def test_a_processor_that_needs_no_telling_is_the_same_without(folder: Path) -> None:
    said = load_processor("auto", str(folder))
    (folder / "processor_config.json").unlink()
    silent = load_processor("auto", str(folder))
    assert (silent.image_slots, silent.picture_ids) == (said.image_slots, said.picture_ids)
