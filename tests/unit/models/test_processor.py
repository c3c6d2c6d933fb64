"""What is refused before any weight is read, and that the rest of a folder belongs together."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from errors import ModelError
from models.families import FAMILIES
from models.loading import load_model
from models.processor import _pixels, load_processor
from runner.assembly import make_encoder
from tests.tokenizers_small import opt_tokenizer

SHIPPED = Path(__file__).parents[3] / "models" / "pretrained"
TWINS = {"llava": "llava_tiny", "blip2": "blip2_opt_tiny", "minigpt4": "minigpt4_tiny"}
SLOTS_BEGIN = {"llava": 1, "blip2": 0, "minigpt4": 1}


@pytest.fixture(params=TWINS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """A copy of a shipped model that a test may spoil; its manifest is left out."""
    ignore = shutil.ignore_patterns("manifest.json")
    return shutil.copytree(SHIPPED / TWINS[family], tmp_path / "model", ignore=ignore)


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def test_a_shipped_folder_gives_rows_that_its_model_reads(family: str) -> None:
    path = str(SHIPPED / TWINS[family])
    processor, model = load_processor(family, path), load_model(family, path)
    encoder = make_encoder(processor, "default")
    row = encoder.encode("Who founded Gofin Works?", "Tama Duva", picture=True)
    assert row.slots.index(True) == SLOTS_BEGIN[family]
    assert sum(row.slots) == processor.image_slots
    pixels = processor.pixels(Image.new("RGB", (40, 30), "red"))[None]
    assert model.picture_features(pixels).shape[1] == processor.image_slots


def test_a_native_prompt_is_the_family_s_own(family: str) -> None:
    processor = load_processor(family, str(SHIPPED / TWINS[family]))
    encoder = make_encoder(processor, "native")
    row = encoder.encode("Who founded it?", "Tama", picture=True)
    said = [token for token, slot in zip(row.ids, row.slots, strict=True) if not slot]
    text, picture = FAMILIES[family].chat.text, FAMILIES[family].chat.picture
    assert encoder.templates == (text, picture)
    assert encoder.decode(said) == (
        picture.replace("{picture}", "").replace("{question}", "Who founded it?") + " Tama"
    )
    before = encoder.decode(row.ids[: row.slots.index(True)])
    assert before == picture.partition("{picture}")[0].strip()


def test_a_folder_of_another_family_is_refused_by_name(family: str) -> None:
    other = {"llava": "blip2", "blip2": "minigpt4", "minigpt4": "llava"}[family]
    said = rf"model\.family is '{other}'.*model\.family={family} reads it"
    for load in (load_processor, load_model):
        with pytest.raises(ModelError, match=said):
            load(other, str(SHIPPED / TWINS[family]))


def test_a_tokenizer_of_another_model_is_refused(family: str, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{number}" for number in range(5000)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the language model reads \d+.*another model"):
        load_processor(family, str(folder))


def test_a_tokenizer_without_bos_is_refused(family: str, folder: Path) -> None:
    change(folder, "tokenizer_config.json", lambda content: content.update(bos_token=None))
    with pytest.raises(ModelError, match="no BOS or no EOS"):
        load_processor(family, str(folder))


def test_a_tokenizer_that_puts_no_bos_in_front_is_told(
    family: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_processor(family, str(folder))
    assert not caplog.records
    change(folder, "tokenizer.json", lambda content: content.update(post_processor=None))
    load_processor(family, str(folder))
    assert "puts no BOS (<s>) in front" in caplog.text


def test_llava_needs_the_image_token(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED / "llava_tiny", tmp_path / "model")
    small = opt_tokenizer()
    change(folder, "config.json", lambda content: content.update(image_token_index=len(small)))
    small.save_pretrained(folder)
    with pytest.raises(ModelError, match="image_token_index"):
        load_processor("llava", str(folder))


def test_a_count_of_image_tokens_that_does_not_match_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED / "llava_tiny", tmp_path / "model")
    change(folder, "config.json", lambda content: content.update(image_seq_length=9))
    with pytest.raises(ModelError, match=r"image_seq_length=9.*gives 4 features"):
        load_processor("llava", str(folder))


@pytest.mark.parametrize("family", ["blip2", "minigpt4"], indirect=True)
def test_a_changed_number_of_queries_does_not_load(family: str, folder: Path) -> None:
    change(folder, "config.json", lambda content: content.update(num_query_tokens=5))
    with pytest.raises(ModelError, match="query_tokens"):
        load_model(family, str(folder))


def test_pictures_of_another_size_are_refused(family: str, folder: Path) -> None:
    size = {"height": 48, "width": 48}
    change(folder, "preprocessor_config.json", lambda content: content.update(size=size))
    with pytest.raises(ModelError, match=r"48 x 48 pixels.*looks at 32 x 32"):
        load_processor(family, str(folder))


def test_a_truncated_weight_file_is_refused(family: str, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(family, str(folder))


def test_a_tampered_file_is_told_by_the_manifest(family: str, tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED / TWINS[family], tmp_path / "model")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="does not match its manifest"):
        load_model(family, str(folder))


def test_a_pickle_in_the_place_of_weights_runs_nothing(family: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Planted()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more than tensors"):
        load_model(family, str(folder))
    assert not Planted.ran


class Planted:
    """Says when it is unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _plant, ()


def _plant() -> None:
    Planted.ran = True


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 3), (3, 1), (2, 3), (1, 90), (90, 1)])
def test_the_smallest_pictures_are_pictures(size: tuple[int, int]) -> None:
    """A side of one or three pixels is no channel."""
    for processor in (CLIPImageProcessorPil(), BlipImageProcessorPil()):
        pixels = partial(_pixels, processor)
        large = pixels(Image.new("RGB", (48, 48), (200, 30, 90)))
        assert torch.allclose(pixels(Image.new("RGB", size, (200, 30, 90))), large)


def test_a_long_and_thin_picture_is_not_enlarged_as_a_whole() -> None:
    """1 x 9,000 pixels with a short side of 32 would be 288,000 pixels long."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    seen: list[tuple[int, int]] = []

    def looking(images: Image.Image, **options: Any) -> Any:
        seen.append(images.size)
        return processor(images, **options)

    looking.do_center_crop = True  # type: ignore[attr-defined]
    column = np.zeros((9000, 1, 3), np.uint8)
    column[4480:4520] = 255  # the middle, which is all that the crop sees
    for picture in (Image.fromarray(column), Image.fromarray(column.swapaxes(0, 1))):
        assert _pixels(looking, picture).min() > 1
    assert seen == [(1, 100), (100, 1)]
    ordinary = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 300, 3), np.uint8))
    expected = processor(ordinary, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(_pixels(processor, ordinary), expected)


def test_a_processor_goes_to_other_processes(family: str) -> None:
    processor = load_processor(family, str(SHIPPED / TWINS[family]))
    image = Image.new("RGB", (20, 30), "red")
    again = pickle.loads(pickle.dumps(processor.pixels))
    assert torch.equal(again(image), processor.pixels(image))
