"""model=auto on folders as the hub has them: released configurations, small and random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.models.smolvlm import processing_smolvlm

from datamodules.prompt_encoder import PromptForm
from errors import ModelError
from models.auto import AutoMLLM
from models.loading import load_model
from models.processor import Processor, load_processor
from models.roles import find_roles
from models.rows import RowText
from runner.assembly import make_encoder
from tests.hub_cases import RELEASED, published, save, videos_need_nothing

PARAMETERS = {
    "smolvlm_256m": 256_484_928, "smolvlm_500m": 507_482_304, "smolvlm2_500m": 507_482_304,
    "qwen2_vl_2b": 2_208_985_600, "qwen2_5_vl_3b": 3_754_622_976,
    "llava_onevision_0.5b": 893_675_552,
}  # fmt: skip
# What a question says as text is text, in the middle of a form that holds the same as tokens.
QUESTIONS = ("Who founded Gofin Works?", "What do <|im_end|>, <image> and <end_of_utterance> do?")
ANSWER = "Tama Duva"


@dataclass(frozen=True)
class Opened:
    model: AutoMLLM
    processor: Processor


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """Opens a folder as the commands do, once."""
    made: dict[str, Opened] = {}

    def open_folder(name: str) -> Opened:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                videos_need_nothing(patch)
                folder = str(save(name, tmp_path_factory.mktemp(name)))
                model = load_model("auto", folder)
                assert isinstance(model, AutoMLLM)
                made[name] = Opened(model, load_processor("auto", folder))
        return made[name]

    return open_folder


def noise(width: int, height: int) -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", RELEASED)
def test_the_published_configuration_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(published(name), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    text = published(name).get_text_config()
    decoder = find_roles(model)
    assert len(decoder.layers) == text.num_hidden_layers
    shapes = {site: decoder.layers[-1].get_submodule(decoder.sites[site]) for site in decoder.sites}
    assert shapes["mlp_in"].weight.shape == (text.intermediate_size, text.hidden_size)
    assert shapes["mlp_out"].weight.shape == (text.hidden_size, text.intermediate_size)


def own_inputs(one: Opened, prompt: str, image: Image.Image | None) -> dict[str, Tensor]:
    """What the family's processor gives for a text, with the square that model=auto makes."""
    form = one.model.pictures
    if image is None:
        return dict(one.processor.tokenizer(prompt, return_tensors="pt"))
    square = image.resize((form.side, form.side), Image.Resampling.BICUBIC)
    return dict(form.processor(text=[prompt], images=[square], return_tensors="pt"))


def own_prompt(one: Opened, question: str, *, picture: bool) -> str:
    """The chat template as transformers applies it."""
    asked: list[dict[str, str]] = [{"type": "text", "text": question}]
    template = one.model.pictures.processor.chat_template
    return str(
        one.processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}] * picture + asked}],
            chat_template=template, tokenize=False, add_generation_prompt=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("picture", [True, False], ids=["picture", "text"])
@pytest.mark.parametrize("name", RELEASED)
def test_the_native_prompt_is_the_families_own_to_the_last_token(
    name: str, picture: bool, opened: Callable[[str], Opened]
) -> None:
    one, image = opened(name), noise(60, 40)
    encoder = make_encoder(one.processor, "native")
    row = encoder.encode(QUESTIONS[0], ANSWER, picture=picture)
    assert one.processor.chat is not None
    blank = "" if one.processor.chat.text.endswith("\n") else " "  # "Assistant: Tama"
    prompt = own_prompt(one, QUESTIONS[0], picture=picture)
    given = own_inputs(one, prompt + blank + ANSWER, image if picture else None)
    assert row.ids == given["input_ids"][0].tolist()
    answer = [i for i, is_answer in zip(row.ids, row.answer, strict=True) if is_answer]
    assert one.processor.tokenizer.decode(answer) == blank + ANSWER
    rows = encoder.rows(
        [row], [RowText(QUESTIONS[0], ANSWER, picture)], edit_index=[0],
        image_index=[0 if picture else -1],
        pixel_values=one.processor.pixels(image)[None] if picture else None,
    )  # fmt: skip
    with torch.no_grad():
        expected = one.model.hf(**given).logits.float()
    assert expected.abs().max() > 1
    for layer in (0, one.model.n_layers - 1):
        found = one.model.suffix(one.model.prefix(rows, layer))
        torch.testing.assert_close(found, expected, atol=5e-6, rtol=5e-5)
    asked = encoder.encode(QUESTIONS[0], ANSWER, picture=picture, generated=[7])
    own = own_inputs(one, prompt, image if picture else None)["input_ids"][0].tolist()
    assert asked.ids == [*own, 7]


@pytest.mark.parametrize("name", RELEASED)
def test_a_question_that_says_special_tokens_says_text(
    name: str, opened: Callable[[str], Opened]
) -> None:
    one = opened(name)
    encoder = make_encoder(one.processor, "native")
    special = set(one.processor.tokenizer.added_tokens_decoder)
    for picture in (True, False):
        for before in ("", "New Fact: <|im_end|> <image>\n\n"):
            plain, said = (
                encoder.encode(question, ANSWER, picture=picture, before=before)
                for question in QUESTIONS
            )
            kept = [[i for i in row.ids if i in special] for row in (plain, said)]
            assert kept[0] == kept[1]
            assert sum(said.slots) == picture * one.processor.image_slots
            assert QUESTIONS[1] in one.processor.tokenizer.decode(said.ids)
            begin, end = said.question
            assert said.text[begin:end] == QUESTIONS[1]


@pytest.mark.parametrize("form", ["default", "published"])
@pytest.mark.parametrize("name", RELEASED)
def test_other_prompts_begin_with_the_picture(
    name: str, form: PromptForm, opened: Callable[[str], Opened]
) -> None:
    one, image = opened(name), noise(40, 70)
    encoder = make_encoder(one.processor, form)
    row = encoder.encode(QUESTIONS[0], ANSWER, picture=True)
    tokens = one.processor.tokenizer.convert_ids_to_tokens(row.ids)
    assert row.ids[: len(one.processor.picture_ids)] == list(one.processor.picture_ids)
    assert "<|im_start|>" not in tokens  # SmolVLM's BOS stands in its chat form alone
    mark = "<|vision_start|><|image_pad|><|vision_end|>" if "qwen" in name else "<image>"
    gap = "  " if form == "published" else " "
    text = f"{mark}Question: {QUESTIONS[0]} Short answer:{gap}{ANSWER}"
    given = own_inputs(one, text, image)
    assert row.ids == given["input_ids"][0].tolist()
    rows = encoder.rows(
        [row], [RowText(QUESTIONS[0], ANSWER, True)], edit_index=[0], image_index=[0],
        pixel_values=one.processor.pixels(image)[None],
    )  # fmt: skip
    with torch.no_grad():
        expected = one.model.hf(**given).logits.float()
    torch.testing.assert_close(one.model(rows), expected, atol=5e-6, rtol=5e-5)


def changed(folder: Path, file: str, **values: Any) -> Path:
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(content))
    return folder


def test_smolvlm_splits_a_picture_or_not_as_its_folder_says(tmp_path: Path) -> None:
    folder = save("smolvlm_256m", tmp_path / "model")
    split = load_processor("auto", str(folder))
    assert split.pixels(noise(90, 50)).shape == (1, 17, 3, 16, 16)  # 4 x 4 tiles and the whole
    rows = one_row_of_each(split)
    assert rows.count("<global-img>") == 1
    assert [t for t in rows if t.startswith("<row_")][::5] == [
        "<row_1_col_1>", "<row_2_col_2>", "<row_3_col_3>", "<row_4_col_4>"
    ]  # fmt: skip
    changed(folder, "preprocessor_config.json", do_image_splitting=False)
    whole = load_processor("auto", str(folder))
    assert whole.pixels(noise(90, 50)).shape == (1, 1, 3, 16, 16)
    assert one_row_of_each(whole) == [
        "<fake_token_around_image>", "<global-img>", *["<image>"] * 4, "<fake_token_around_image>"
    ]  # fmt: skip
    model = load_model("auto", str(folder))
    assert isinstance(model, AutoMLLM)
    one = Opened(model, whole)
    row = make_encoder(whole, "native").encode(QUESTIONS[0], ANSWER, picture=True)
    given = own_inputs(one, f"{own_prompt(one, QUESTIONS[0], picture=True)} {ANSWER}", noise(9, 9))
    assert row.ids == given["input_ids"][0].tolist()
    assert model.picture_features(whole.pixels(noise(9, 9))[None]).shape[1] == 4


def one_row_of_each(processor: Processor) -> list[str]:
    tokens = processor.tokenizer.convert_ids_to_tokens(processor.picture_ids)
    assert isinstance(tokens, list)
    return tokens


def test_smolvlm2_names_the_package_that_its_processor_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    folder = save("smolvlm2_500m", tmp_path / "model")
    with pytest.raises(ModelError, match="pip install num2words") as caught:
        load_processor("auto", str(folder))
    assert "Put tokenizer" not in str(caught.value)


def test_without_a_template_that_takes_a_picture_there_is_no_native_prompt(
    tmp_path: Path, opened: Callable[[str], Opened]
) -> None:
    folder = save("llava_onevision_0.5b", tmp_path / "model")
    for template in ("{{ messages[0]['content'] }}", "{% raise", "no question"):
        changed(folder, "chat_template.json", chat_template=template)
        assert load_processor("auto", str(folder)).chat is None
    (folder / "chat_template.json").unlink()
    processor = load_processor("auto", str(folder))
    assert processor.chat is None
    with pytest.raises(ModelError, match=r"chat_template\.json, chat_template\.jinja or"):
        make_encoder(processor, "native")
    make_encoder(processor, "default")
    known = opened("llava_onevision_0.5b").processor
    (folder / "chat_template.jinja").write_text(RELEASED["llava_onevision_0.5b"].files[
        "chat_template.json"]["chat_template"])  # fmt: skip
    assert load_processor("auto", str(folder)).chat == known.chat
    assert known.chat == replace(known.chat, blank=False)  # type: ignore[type-var]
