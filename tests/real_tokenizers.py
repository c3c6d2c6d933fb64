"""Llama's and OPT's own vocabularies around tiny random models, in memory and as folders.

The two tokenizers lie in `TMKE_SHARED/tokenizers`; where they are not, a test that asks for one is
skipped. They are opened by the project's own loader.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from transformers import LlamaConfig, OPTConfig, PreTrainedTokenizerBase
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from datamodules.prompt_encoder import PictureLayout, PromptEncoder, PromptForm
from datamodules.records import Record
from models.families import FAMILIES
from models.minigpt4.modeling import NO_TOKEN
from models.multimodal import MultimodalModel
from models.tokenizer import load_tokenizer
from tests.builders import PICTURED, SLOTS
from tests.e2e.commands import SHARED

Vocabulary = Literal["llama", "opt"]
Family = Literal["llava", "minigpt4", "blip2"]
CONFIGS = {"llama": LlamaConfig, "opt": OPTConfig}
VOCABULARY_OF: dict[Family, Vocabulary] = {"llava": "llama", "minigpt4": "llama", "blip2": "opt"}
FORMS: tuple[PromptForm, ...] = ("default", "published", "native")
SIDE = 8  # pixels


def tokenizer_folder(vocabulary: Vocabulary) -> Path:
    """The files of a tokenizer; skips the test where they are not there."""
    folder = SHARED / "tokenizers" / vocabulary
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"no tokenizer at {folder}; set TMKE_SHARED to the folder of shared data")
    return folder


def real_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    """A tokenizer of a released model."""
    return _read(str(tokenizer_folder(vocabulary)), vocabulary)


@cache
def _read(folder: str, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder, None, CONFIGS[vocabulary]())


def image_token(family: Family) -> int:
    """The id of a picture's slots: a token of LLaVA's vocabulary alone."""
    if family != "llava":
        return NO_TOKEN
    return int(real_tokenizer("llama").convert_tokens_to_ids("<image>"))


def real_encoder(
    family: Family,
    form: PromptForm = "default",
    *,
    padding_side: Literal["right", "left"] = "right",
    slots: int = SLOTS,
) -> PromptEncoder:
    """The prompt function of a family, over its released vocabulary."""
    entry = FAMILIES[family]
    layout = PictureLayout(slots, image_token(family), before_bos=entry.before_bos)
    tokenizer = real_tokenizer(VOCABULARY_OF[family])
    return PromptEncoder(tokenizer, layout, form=form, chat=entry.chat, padding_side=padding_side)


def real_model(
    family: Family, *, layers: int = 2, seed: int = 0, positions: int = 2048
) -> MultimodalModel:
    """A tiny random model that reads a released vocabulary."""
    size = len(real_tokenizer(VOCABULARY_OF[family]))
    return PICTURED[family](
        layers=layers, seed=seed, vocabulary=size, image_token=image_token(family),
        positions=positions,
    )  # fmt: skip


def save_real_model(
    family: Family, folder: Path, *, layers: int = 2, seed: int = 0, positions: int = 2048
) -> Path:
    """The same as a folder that `model=FAMILY model.path=FOLDER` opens."""
    real_model(family, layers=layers, seed=seed, positions=positions).hf.save_pretrained(folder)
    for file in tokenizer_folder(VOCABULARY_OF[family]).iterdir():
        shutil.copyfile(file, folder / file.name)
    square = {"height": SIDE, "width": SIDE}
    if family == "llava":
        CLIPImageProcessorPil(size=square, do_center_crop=False).save_pretrained(folder)
    else:
        BlipImageProcessorPil(size=square).save_pretrained(folder)
    return folder


def tmke_file() -> Path:
    """60 records of the TMKE test set; skips the test where they are not there."""
    file = SHARED / "data" / "tmke" / "test_sample.json"
    if not file.is_file():
        pytest.skip(f"no records at {file}; set TMKE_SHARED to the folder of shared data")
    return file


def tmke_records() -> list[Record]:
    """The same, read; their pictures are not public."""
    records = json.loads(tmke_file().read_text(encoding="utf-8"))
    return [Record.model_validate(record) for record in records]
