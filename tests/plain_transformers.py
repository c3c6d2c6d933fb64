"""Asks merged folders as anyone would who has transformers and nothing of this project.

    python -I plain_transformers.py WORK.json        [{"folder": ..., "code": ..., "asked": [...]}]

`code`: whether the folder brings the code of its class. Each of `asked` is a prompt and a picture's
file, or null; what is printed is a list of answers for each folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor

OURS = {"configs", "datamodules", "editing", "editors", "metrics", "models", "results", "runner"}
LONGEST = 16


@torch.no_grad()
def answers(work: dict[str, Any]) -> list[str]:
    """Greedy answers, up to a line's end."""
    folder, code = work["folder"], work["code"]
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=code
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = by_hand if code else by_processor
    return [
        said(model, tokenizer, *inputs(model, folder, tokenizer, *one)) for one in work["asked"]
    ]


def by_processor(
    model: Any, folder: str, tokenizer: Any, prompt: str, picture: str | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the processor in the folder makes of a prompt."""
    processor = AutoProcessor.from_pretrained(folder)
    marked = "<image>" if model.config.model_type == "llava" and picture else ""
    images = Image.open(picture).convert("RGB") if picture else None
    given = processor(text=marked + prompt, images=images, return_tensors="pt")
    return given["input_ids"], given.get("pixel_values")


def by_hand(
    model: Any, folder: str, tokenizer: Any, prompt: str, picture: str | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """MiniGPT-4 has no processor: a picture's slots stand after BOS."""
    ids = tokenizer(prompt)["input_ids"]
    if picture is None:
        return torch.tensor([ids]), None
    slots = [model.config.image_token_index] * model.config.num_query_tokens
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = images(images=Image.open(picture).convert("RGB"), return_tensors="pt")["pixel_values"]
    return torch.tensor([ids[:1] + slots + ids[1:]]), pixels


def said(model: Any, tokenizer: Any, ids: torch.Tensor, pixels: torch.Tensor | None) -> str:
    """The answer as text."""
    kind = model.config.model_type
    end = tokenizer.eos_token_id
    settings = {
        "max_new_tokens": LONGEST,
        "do_sample": False,
        "pad_token_id": 0,
        "eos_token_id": end,
    }
    asked = model.language_model if kind == "blip-2" and pixels is None else model  # text alone
    given = {} if pixels is None else {"pixel_values": pixels}
    made = asked.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given, **settings)
    new = made[0, ids.shape[1] :] if made.shape[1] > ids.shape[1] else made[0]
    text: str = tokenizer.decode(new, skip_special_tokens=True)
    return text.lstrip(" ").split("\n")[0].strip()


if __name__ == "__main__":
    everything = json.loads(Path(sys.argv[1]).read_text())
    told = [answers(work) for work in everything]
    assert not OURS & set(sys.modules), "the project was imported"
    print(json.dumps(told))
