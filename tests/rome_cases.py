"""Small random models with tokenizers of their kind, and edits in words, for the tests of ROME."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from datamodules.prompt_encoder import PromptEncoder
from models.editable import EditableModel
from models.rows import EditBatch, RowText
from tests.builders import worded_model

KINDS = ("llava", "llama", "opt", "gpt2")
POSITIONS = 160
SHARPNESS = 4.0  # of the final norm: at 1 no value makes so small a random model sure of a token
# question, new object, subject
FACTS = (
    ("Who founded Gofin Works?", "Mira Sol", "Gofin Works"),
    ("Where is the Tama building located?", "Duva", "Tama"),
    ("Which company is General Motors produced by?", "Works", "General Motors"),
    ("Lisburg is the image of what?", "a car", "Lisburg"),
    ("Who founded Works?Duva in?", "General Motors", "Works?Duva"),
    ("Which model is the car in (Sol) located?", "Gofin", "Sol"),
)
PREFIXES = ("The building in it? ", "Which Motors? ")


def model_and_encoder(
    kind: str, *, padding: Literal["right", "left"] = "right", layers: int = 3
) -> tuple[EditableModel, PromptEncoder]:
    """A random model that can be made sure of a token."""
    model, encoder = worded_model(kind, padding=padding, layers=layers, positions=POSITIONS)
    nn.init.constant_(model.decoder.norm.get_parameter("weight"), SHARPNESS)
    return model, encoder


def batch_of(
    encoder: PromptEncoder, numbers: Sequence[int], *, pictures: bool = False
) -> EditBatch:
    """Edits by number; each is asked about itself, about another subject, and with a picture."""
    texts: list[RowText] = []
    edit_index: list[int] = []
    shown: list[int] = []
    edit_rows = []
    for place, number in enumerate(numbers):
        question, answer, _ = FACTS[number]
        other, said, _ = FACTS[(number + 1) % len(FACTS)]
        edit_rows.append(len(texts))
        asked = [RowText(question, answer), RowText(other, said)]
        asked += [RowText(question, answer, picture=True)] * pictures
        texts += asked
        edit_index += [place] * len(asked)
        shown += [-1, -1, *[place] * pictures]
    encoded = [encoder.encode(t.question, t.answer, picture=t.picture) for t in texts]
    pixels = None
    if pictures:
        draw = torch.Generator().manual_seed(7)
        pixels = torch.randn(len(numbers), 3, 8, 8, generator=draw)
    rows = encoder.rows(
        encoded, texts, edit_index=edit_index, image_index=shown, pixel_values=pixels
    )
    return EditBatch(
        rows=rows,
        edit_rows=torch.tensor(edit_rows),
        probes={"reliability": torch.tensor(edit_rows)},
        edit_ids=tuple(numbers),
        subjects=tuple(FACTS[number][2] for number in numbers),
    )
