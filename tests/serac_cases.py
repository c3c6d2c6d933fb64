"""Batches that say something, and small SERAC editors, for the tests of that editor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import OPTConfig, OPTForCausalLM

from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.records import Record
from editors.serac.config import NegativesOptions, SeracOptions
from editors.serac.editor import Serac, SeracEdit
from editors.serac.editor import build as build_serac
from editors.serac.negatives import HardNegatives
from models.editable import EditableModel, PrefixState
from models.llava import Llava
from models.rows import TEXT_ONLY, EditBatch, RowText
from tests.builders import INNER, SLOTS, WIDTH, inputs, llava, picture
from tests.text_model import TextModel
from tests.tokenizers_small import opt_tokenizer

TOKENIZER = opt_tokenizer()
NAMES = ("Gofin Works", "Tama Duva", "Lisburg", "General Motors", "Duva Hall", "Motor House",
         "Short Street", "Image Bank", "Car Tower", "Founded Bridge")  # fmt: skip
PLACES = ("Lisburg", "Tama", "Gofin", "Duva")
_SIZES = {"layers": 1, "heads": 2, "mlp_width": 24, "init_std": 0.2}
OPTIONS: dict[str, Any] = {
    "name": "serac", "max_iterations": 8, "batch_size": 2, "accumulate": 1, "grad_clip": 100.0,
    "lr": 1e-2, "counterfactual_lr": 1e-2, "lr_schedule": "constant", "objective": "mixture",
    "questions": None, "combine": "soft",
    "scope": {
        "encoder": "fresh", "mode": "embedding", "pooling": "mean", "distance": "square",
        "bound": False, "heads": 1, "scale": 0.05, "learn_scale": True, "image": True,
        "threshold": 0.5, "sizes": _SIZES,
    },
    "counterfactual": {"path": "fresh", "sizes": _SIZES},
    "negatives": {
        "share": None, "per_edit": 1, "encoder": "all-MiniLM-L6-v2", "top": 6, "skip": 2,
        "temperature": 0.1,
    },
    "weights": {
        "reliability": 0.0, "generality": 0.1, "portability": 0.1, "image": 0.1, "transfer": 0.1,
        "named": 0.0, "locality": 1.0, "specificity": 1.0,
    },
    "teach_end": False,
}  # fmt: skip


def options(**changed: Any) -> SeracOptions:
    """Small options; `scope`, `counterfactual`, `negatives` and `weights` change key by key."""
    merged = {
        key: OPTIONS[key] | dict(value) if isinstance(value, Mapping) else value
        for key, value in changed.items()
    }
    return SeracOptions.model_validate(OPTIONS | merged)


def picture_model(*, seed: int = 0) -> Llava:
    image = TOKENIZER.convert_tokens_to_ids("<image>")
    return llava(seed=seed, vocabulary=len(TOKENIZER), image_token=image)


def opt_model(*, seed: int = 0, vocabulary: int = len(TOKENIZER)) -> TextModel:
    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, ffn_dim=INNER, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, word_embed_proj_dim=WIDTH,
        init_std=0.2,
    )  # fmt: skip
    return TextModel(OPTForCausalLM(config))


def build(model: EditableModel, *, seed: int = 5, **changed: Any) -> Serac:
    """An untrained editor."""
    torch.manual_seed(seed)
    return build_serac(options(**changed), model, inputs())


def stirred(model: EditableModel, *, seed: int = 5, **changed: Any) -> Serac:
    """An editor whose image projections are no longer zero."""
    editor = build(model, seed=seed, **changed)
    with torch.no_grad():
        for linear in (editor.scope.pictures, editor.counterfactual.pictures):
            if linear is not None:
                linear.weight.normal_(std=0.5)
    return editor


def looked(model: EditableModel, batch: EditBatch) -> EditBatch:
    """The batch with its picture features, as training and evaluation make it."""
    return replace(batch, rows=model.encode_pictures(batch.rows))


def made(model: EditableModel, editor: Serac, batch: EditBatch) -> tuple[SeracEdit, PrefixState]:
    state = model.prefix(batch.rows, editor.first_layer(model))
    return editor.edit(model, batch, state), state


def worded_batch(
    numbers: Sequence[int],
    *,
    pictures: bool = False,
    padding: str = "right",
) -> EditBatch:
    """Edits by number: who is about the same name, and questions that are about another one.

    Text: every third edit lacks the one-hop question. Pictures: edit question and picture probes
    show the edit's own picture, `reliability_u` another one.
    """
    layout = PictureLayout(SLOTS, TOKENIZER.convert_tokens_to_ids("<image>"))
    encoder = PromptEncoder(TOKENIZER, layout, padding_side=padding)  # type: ignore[arg-type]
    texts: list[RowText] = []
    owners: list[int] = []
    shown: list[int | None] = []
    edit_rows: list[int] = []
    probes: dict[str, list[int]] = {}

    def add(name: str, edit: int, text: RowText, number: int | None) -> None:
        probes.setdefault(name, []).append(len(texts))
        texts.append(text._replace(picture=number is not None))
        owners.append(edit)
        shown.append(number)

    for edit, number in enumerate(numbers):
        name, other = NAMES[number % len(NAMES)], NAMES[(number + 3) % len(NAMES)]
        place = PLACES[number % len(PLACES)]
        asked = f"Where is the building in the image of {name} located?"
        about = RowText(asked if pictures else f"Where is {name} located?", place)
        own = number if pictures else None
        edit_rows.append(len(texts))
        add("reliability_s" if pictures else "reliability", edit, about, own)
        again = about._replace(question=f"Which place is {name} in?")
        add("generality_s" if pictures else "generality", edit, again, own)
        if number % 3:
            add("portability", edit, RowText(f"Who founded {place}?", other), own)
        plain = RowText(f"Who founded {other}?", name, plain=True)
        add("locality_t_far" if pictures else "locality_far", edit, plain, None)
        near = RowText(f"Where is {other} located?", PLACES[(number + 1) % len(PLACES)])
        add("locality_t_near" if pictures else "locality_near", edit, near, None)
        if pictures:
            add("reliability_u", edit, about, number + 100)
            add("locality_i_far", edit, near._replace(question=asked), number + 200)
    drawn = sorted({one for one in shown if one is not None})
    pixels = [picture(number) for number in drawn]
    encoded = [
        encoder.encode(text.question, text.answer, picture=text.picture, plain=text.plain)
        for text in texts
    ]
    rows = encoder.rows(
        encoded,
        texts,
        edit_index=owners,
        image_index=[TEXT_ONLY if one is None else drawn.index(one) for one in shown],
        pixel_values=torch.stack(pixels) if pixels else None,
    )
    return EditBatch(
        rows=rows,
        edit_rows=torch.tensor(edit_rows),
        probes={name: torch.tensor(places) for name, places in probes.items()},
        edit_ids=tuple(numbers),
        subjects=tuple(NAMES[number % len(NAMES)] for number in numbers),
    )


RECORDED = 14


def record(number: int) -> Record:
    name, other = f"Person {chr(65 + number)}", f"Person {chr(65 + (number + 1) % RECORDED)}"
    asked = {"image_question": "What does the person do?", "answer": "cook"}
    return Record.model_validate(
        {
            "subject": name, "entity_type": "person", "image": "a", "image_rephrase": "b",
            "same_entity_image": "c", "locality_image": "d",
            "knowledge_edit": {
                "question": f"What does {name} do?", "answer_true": "cook", "answer_new": "pilot",
                "image_question": "What does the person do?",
            },
            "rephrase_question": {
                "rephrase_question": f"What is the job of {name}?", "answer_true": "cook",
                "answer_new": "pilot",
                "rephrase_image_question": "What is the job?",
            },
            "same_type_entity_question": {"same_type_entity": other, **asked},
            "locality_question": {"question": f"How old is the river {number}?", "answer": "old"},
            "image_locality_question": {"question": "What is this?", "answer": "a cup"},
            "extra_locality": [
                {"kind": "subject", "question": f"How tall is {name}?", "image": "e",
                 "image_question": "How tall?", "answer": "tall"}
            ],
        }
    )  # fmt: skip


RECORDS = [record(number) for number in range(RECORDED)]


def drawn_from_records(records: Sequence[Record] = RECORDS, **changed: Any) -> HardNegatives:
    chosen = NegativesOptions.model_validate({**OPTIONS["negatives"], "share": 1.0, **changed})
    return HardNegatives(chosen, records, device=torch.device("cpu"))
