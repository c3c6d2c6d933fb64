"""A model between the tiny twins and the released ones, and real records for it.

LLaVA's architecture, 12 layers of 512 and a tower of 4 layers of 256, with random weights: large
enough that arithmetic and not Python decides, small enough for two CPU cores. The records are those
of the benchmark's public sample; their pictures are drawn, since the published ones are not public.
The tokenizer is Llama's, cut to 8,000 pieces, so a question has about as many tokens as it has for
the released models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from datamodules.checking.probes import images_of
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.scenarios import Scenario
from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from errors import DataError
from models.llava import Llava
from models.rows import EditBatch

VOCABULARY, IMAGE_SIZE, PATCH = 8000, 112, 14
_SPECIAL = ("<image>", "<pad>")


@dataclass(frozen=True)
class Size:
    """The sizes of a LLaVA.

    Attributes:
        layers: of the decoder.
        width: d.
        inner: of its MLPs.
        tower: layers and width of the tower.
        image: side of a picture, in pixels.
        rank: of MEND's networks for it.
    """

    layers: int
    width: int
    inner: int
    tower: tuple[int, int]
    image: int
    rank: int


MID = Size(12, 512, 1376, (4, 256), IMAGE_SIZE, 192)
MINIATURE = Size(4, 64, 96, (2, 32), 28, 16)  # the same with nothing to wait for


def build_model(seed: int = 0, device: torch.device | str = "cpu", size: Size = MID) -> Llava:
    """The model, 57 million weights of which 8 are the vocabulary's, in float32."""
    text = LlamaConfig(
        num_hidden_layers=size.layers, hidden_size=size.width, intermediate_size=size.inner,
        num_attention_heads=8, vocab_size=VOCABULARY, max_position_embeddings=2048,
    )  # fmt: skip
    layers, width = size.tower
    vision = CLIPVisionConfig(
        num_hidden_layers=layers, hidden_size=width, intermediate_size=4 * width,
        num_attention_heads=4, image_size=size.image, patch_size=PATCH, projection_dim=width,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_seq_length=(size.image // PATCH) ** 2,
        image_token_index=VOCABULARY - len(_SPECIAL),
    )  # fmt: skip
    torch.manual_seed(seed)
    with torch.device(device):
        return Llava(LlavaForConditionalGeneration(config).float())


def shared_folder() -> Path:
    """The folder with the public sample and the tokenizer, `TMKE_SHARED` or ../shared.

    Raises:
        DataError: it is not there.
    """
    folder = Path(os.environ.get("TMKE_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "data/tmke/test_sample.json").is_file():
        raise DataError(
            f"these benchmarks run on the sample of TMKE's records, and {folder} does not hold "
            "data/tmke/test_sample.json. Set TMKE_SHARED to the folder that does."
        )
    return folder


def read_tokenizer(folder: Path, size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Llama's tokenizer with its first merges alone, renumbered so that ids end at `size`.

    Args:
        folder: the whole tokenizer's.
        size: pieces that are left, `<image>` and `<pad>` the last of them.
    """
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = [tuple(merge) for merge in state["model"]["merges"]]
    merged = {a + b for a, b in merges}
    vocabulary = sorted(state["model"]["vocab"].items(), key=lambda item: item[1])
    names = [name for name, _ in vocabulary if name not in merged and name not in _SPECIAL]
    present, left = set(names), []
    for a, b in merges:
        if a + b not in present and len(names) + len(_SPECIAL) >= size:
            continue
        if a in present and b in present:
            left.append([a, b])
            if a + b not in present:
                present.add(a + b)
                names.append(a + b)
    ids = {name: number for number, name in enumerate([*names, *_SPECIAL])}
    state["model"]["vocab"], state["model"]["merges"] = ids, left
    for token in state["added_tokens"]:
        token["id"] = ids[token["content"]]
    for special in state["post_processor"]["special_tokens"].values():
        special["ids"] = [ids[name] for name in special["tokens"]]
    backend = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>",
    )  # fmt: skip


def read_records(folder: Path, pictures: Path) -> RecordSource:
    """The sample's records; a picture of noise is drawn under every name that is not there yet.

    Args:
        folder: with data/tmke.
        pictures: where the drawn ones go.
    """
    source = read_tmke(folder / "data/tmke", files=["test_sample.json"], image_root=pictures)
    for name in sorted({name for record in source.records("test") for name in images_of(record)}):
        path = pictures / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = np.random.default_rng(list(name.encode())).integers(0, 256, (28, 28, 3))
            image = Image.fromarray(levels.astype(np.uint8)).resize((IMAGE_SIZE, IMAGE_SIZE))
            image.save(path, format="PNG")
    return source


def make_encoder(tokenizer: PreTrainedTokenizerFast, model: Llava) -> PromptEncoder:
    """The prompt function; a picture takes 64 tokens, or as many as the model has patches."""
    config = model.hf.config
    return PromptEncoder(
        tokenizer, PictureLayout(config.image_seq_length, config.image_token_index)
    )


def make_pixels(size: int = IMAGE_SIZE) -> Callable[[Image.Image], Tensor]:
    """CLIP's processing of a picture to so many pixels a side."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )

    def pixels(image: Image.Image) -> Tensor:
        return torch.as_tensor(images(images=image, return_tensors="np")["pixel_values"][0])

    return pixels


def make_batches(
    source: RecordSource,
    encoder: PromptEncoder,
    scenario: Scenario,
    n_edits: int,
    batch_size: int,
    pixels: Callable[[Image.Image], Tensor] | None = None,
) -> list[EditBatch]:
    """The first records of the sample under a scenario, as every command batches them."""
    data = EditDataModule(source, {"test": scenario}, eval_batch_size=batch_size, limit=n_edits)
    data.connect(encoder, ImageStore(pixels or make_pixels()))
    data.setup()
    return list(data.test_dataloader())
