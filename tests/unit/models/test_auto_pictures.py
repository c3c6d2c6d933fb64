"""Pictures of model=auto: one square, the family's own processor, and the tokens around them."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hub
from PIL import Image

from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from errors import ModelError
from models.loading import load_model
from models.pictures import FREE_SIDE, PictureForm, open_pictures, side_of
from models.processor import load_processor
from models.rows import RowText
from models.tokenizer import load_tokenizer
from runner.assembly import make_encoder
from tests.auto_cases import FAMILIES, qwen_tokenizer, save

START, END, PAD = (
    qwen_tokenizer().convert_tokens_to_ids(f"<|{name}|>")
    for name in ("vision_start", "vision_end", "image_pad")
)


def noise(*size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("auto")
    return {kind: save(kind, root / kind) for kind in FAMILIES}


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_picture_has_one_shape_and_the_tokens_of_its_family(
    folders: dict[str, Path], kind: str
) -> None:
    processor = load_processor("auto", str(folders[kind]))
    shapes = {processor.pixels(noise(*size)).shape for size in ((9, 70), (50, 50), (400, 30))}
    assert len(shapes) == 1
    assert processor.picture_ids.count(processor.image_token_id) == processor.image_slots
    assert make_encoder(processor, "default").layout == PictureLayout(
        processor.image_slots, processor.image_token_id, ids=processor.picture_ids
    )
    around = {
        "qwen2_vl": (START, *[PAD] * 4, END), "qwen2_5_vl": (START, *[PAD] * 4, END),
        "glm4v": (START, *[PAD] * 4, END), "internvl": (START, *[PAD] * 4, END),
        "llava_onevision": (PAD,) * 10, "llava_next": (PAD,) * 10,
    }  # fmt: skip
    if kind in around:
        assert processor.picture_ids == around[kind]
    if kind == "gemma3":  # two line ends and the marks around
        assert [i for i in processor.picture_ids if i in (START, END, PAD)] == [
            START, *[PAD] * 4, END
        ]  # fmt: skip
        assert len(processor.picture_ids) > 6


def test_a_processor_goes_to_other_processes(folders: dict[str, Path]) -> None:
    pixels = load_processor("auto", str(folders["qwen2_vl"])).pixels
    again = pickle.loads(pickle.dumps(pixels))
    assert torch.equal(again(noise(20, 30)), pixels(noise(20, 30)))


def test_pixels_are_the_familys_own_of_the_squashed_picture(folders: dict[str, Path]) -> None:
    processor = load_processor("auto", str(folders["qwen2_vl"]))
    image = noise(31, 64)
    square = image.resize((FREE_SIDE, FREE_SIDE), Image.Resampling.BICUBIC)
    own = hub.Qwen2VLImageProcessorPil.from_pretrained(folders["qwen2_vl"])
    expected = own(images=[square], return_tensors="np")
    assert np.array_equal(processor.pixels(image).numpy(), expected["pixel_values"])


@pytest.mark.parametrize(
    ("size", "side"), [(336, 336), ([448, 448], 448), (1540, FREE_SIDE), (None, FREE_SIDE)]
)
def test_the_square_is_the_vision_towers_own(size: Any, side: int) -> None:
    config = hub.PretrainedConfig()
    config.vision_config = hub.PretrainedConfig()
    if size is not None:
        config.vision_config.image_size = size
    assert side_of(config) == side


def test_llava_through_auto_is_llava(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(root / "models" / "pretrained" / "llava_tiny", folder)
    config = json.loads((folder / "config.json").read_text())
    said = {
        "patch_size": config["vision_config"]["patch_size"], "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": config["vision_feature_select_strategy"],
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(said))
    prompts = [("Where is it?", "Lisburg", True), ("Who?", "Tama", False)]
    logits = []
    for family in ("llava", "auto"):
        processor = load_processor(family, str(folder))
        layout = PictureLayout(
            processor.image_slots, processor.image_token_id, ids=processor.picture_ids
        )
        encoder = PromptEncoder(processor.tokenizer, layout)
        rows = encoder.rows(
            [encoder.encode(q, a, picture=p) for q, a, p in prompts],
            [RowText(q, a, p) for q, a, p in prompts],
            edit_index=[0, 0],
            image_index=[0, -1],
            pixel_values=processor.pixels(noise(60, 40))[None],
        )
        logits.append(load_model(family, str(folder))(rows, at=rows.answers()))
    torch.testing.assert_close(logits[1], logits[0])


def test_the_tokens_of_a_picture_stand_in_the_prompt(folders: dict[str, Path]) -> None:
    processor = load_processor("auto", str(folders["internvl"]))
    layout = PictureLayout(processor.image_slots, PAD, ids=processor.picture_ids)
    encoder = PromptEncoder(processor.tokenizer, layout)
    alone = encoder.encode("Who founded it?", "Tama Duva")
    for before in ("", "Said before. "):
        row = encoder.encode("Who founded it?", "Tama Duva", picture=True, before=before)
        place = row.ids.index(START)
        shown = slice(place, place + len(processor.picture_ids))
        assert tuple(row.ids[shown]) == processor.picture_ids
        assert row.slots == [i == PAD for i in row.ids]
        assert not any(row.answer[shown])
        assert set(row.offsets[shown]) == {(0, 0)}
        assert (place == 0) == (not before)  # this tokenizer has no BOS
    row = encoder.encode("Who founded it?", "Tama Duva", picture=True)
    assert row.ids[6:] == alone.ids
    assert row.answer[6:] == alone.answer


def broken(folder: Path, target: Path, name: str, **changes: Any) -> str:
    """A copy of a folder with some keys of a file changed; None removes one."""
    shutil.copytree(folder, target)
    path = target / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return str(target)


def test_folders_that_do_not_fit_say_what_to_do(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["llava_onevision"]
    path = broken(folder, tmp_path / "token", "config.json", image_token_id=329)
    with pytest.raises(ModelError, match=r"image tokens \(329\)"):
        load_processor("auto", path)
    path = broken(folder, tmp_path / "outside", "config.json", image_token_id=5000)
    with pytest.raises(ModelError, match="no token of id 5000"):
        load_processor("auto", path)
    path = broken(folder, tmp_path / "count", "processor_config.json", num_image_tokens=9)
    model, rows = load_model("auto", path), load_processor("auto", path).pixels(noise(9, 9))[None]
    with pytest.raises(ModelError, match="gives 10 features for 1 pictures, and its processor 21"):
        model.picture_features(rows)
    shutil.copytree(folder, tmp_path / "blind")
    (tmp_path / "blind" / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"Not in that folder: preprocessor_config\.json"):
        load_processor("auto", str(tmp_path / "blind"))
    config = hub.PretrainedConfig()
    with pytest.raises(ModelError, match="names no image token"):
        open_pictures(str(folder), None, config, load_tokenizer(str(folder), None, config))
    plain = model.pictures
    assert isinstance(plain, PictureForm)
    form = replace(plain, shape=(3, 4))
    with pytest.raises(ModelError, match="the image processor made"):
        form.pixels(noise(5, 5))
