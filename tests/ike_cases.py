"""Records in words, and batches of edits that ask about them, for the tests of IKE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch

from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from editors.ike.retrieval import Retriever, Sentences
from models.editable import EditableModel
from models.rows import TEXT_ONLY, EditBatch, RowText
from tests.builders import picture, worded_model

ENCODER = "all-MiniLM-L6-v2"
POSITIONS = 4096
NAMES = ("Gofin Works", "Tama Duva", "Lisburg", "General Motors", "Duva Hall", "Motor House",
         "Short Street", "Image Bank", "Car Tower", "Founded Bridge", "Lake Sol",
         "Mira")  # fmt: skip
PLACES = ("Lisburg", "Tama", "Gofin", "Duva", "Sol")


def record(number: int) -> Record:
    """The edit of where a name is located."""
    name, other = NAMES[number % len(NAMES)], NAMES[(number + 5) % len(NAMES)]
    place, true = PLACES[number % len(PLACES)], PLACES[(number + 1) % len(PLACES)]
    answers = {"answer_new": place, "answer_true": true}
    return Record.model_validate(
        {
            "subject": name,
            "entity_type": "building",
            "knowledge_edit": answers | {
                "question": f"Where is {name} located?",
                "image_question": "Where is the building in the image located?",
            },
            "rephrase_question": answers | {
                "rephrase_question": f"Which place is {name} in?",
                "rephrase_image_question": "Which place is the building in the image in?",
            },
            "same_type_entity_question": {
                "same_type_entity": other,
                "image_question": "Where is the building in the image located?",
                "answer": PLACES[(number + 2) % len(PLACES)],
            },
            "locality_question": {"question": f"Who founded {other}?", "answer": name},
            "image_locality_question": {"question": "Who founded it?", "answer": name},
            "extra_locality": [
                {
                    "kind": "subject",
                    "question": f"Who founded {name}?",
                    "image_question": "Who founded the building in the image?",
                    "answer": other,
                    "image": "a.png",
                }
            ],
            "image": "a.png",
            "image_rephrase": "b.png",
            "same_entity_image": "c.png",
            "locality_image": "d.png",
        }
    )  # fmt: skip


TRAINING = tuple(record(number) for number in range(len(NAMES)))


@cache
def retriever() -> Retriever:
    """Finds among `TRAINING` with the real sentence encoder."""
    return Retriever(Sentences(ENCODER, torch.device("cpu")), TRAINING)


class InOrder:
    """Finds the first training records, whatever the edit is."""

    def nearest(self, facts: Sequence[str], k: int) -> list[list[Record]]:
        return [list(TRAINING[:k]) for _ in facts]


def model_and_encoder(
    kind: str, *, padding: Literal["right", "left"] = "right", positions: int = POSITIONS
) -> tuple[EditableModel, PromptEncoder]:
    """A random model with room for many demonstrations."""
    return worded_model(kind, padding=padding, positions=positions)


def batch_of(
    encoder: PromptEncoder, numbers: Sequence[int], *, pictures: bool = False
) -> EditBatch:
    """Edits by number, each with its own question, a paraphrase and a plain question besides."""
    texts: list[RowText] = []
    edits: list[int] = []
    shown: list[int] = []
    edit_rows: list[int] = []
    for edit, number in enumerate(numbers):
        name, place = f"{NAMES[number % len(NAMES)]} {number}", PLACES[number % len(PLACES)]
        asked = f"Where is the building in the image of {name} located?"
        edit_rows.append(len(texts))
        texts += [
            RowText(asked if pictures else f"Where is {name} located?", place, pictures),
            RowText(f"Which place is {name} in?", place),
            RowText(f"Who founded Works {number}?", "Tama Duva", plain=True),
        ]
        edits += [edit] * 3
        shown += [edit if pictures else TEXT_ONLY, TEXT_ONLY, TEXT_ONLY]
    encoded = [
        encoder.encode(text.question, text.answer, picture=text.picture, plain=text.plain)
        for text in texts
    ]
    rows = encoder.rows(
        encoded,
        texts,
        edit_index=edits,
        image_index=shown,
        pixel_values=torch.stack([picture(number) for number in numbers]) if pictures else None,
    )
    return EditBatch(
        rows=rows,
        edit_rows=torch.tensor(edit_rows),
        probes={"reliability": torch.tensor(edit_rows)},
        edit_ids=tuple(numbers),
        subjects=tuple(str(number) for number in numbers),
    )
