"""A free answer does not depend on the target that it is compared with."""

from __future__ import annotations

import pytest
import torch

from datamodules.prompt_encoder import PromptForm
from editors.none.editor import Unedited
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.predictions import Predictions
from lightning_modules.scoring import compare
from models.rows import EditBatch, RowText
from tests.real_tokenizers import real_encoder, real_model

QUESTIONS = ("How heavy is it?", "Who founded Gofin Works?", "Where is it?")


@pytest.mark.parametrize("form", ["default", "published"])
@torch.no_grad()
def test_the_target_tells_nothing_to_a_free_answer(form: PromptForm) -> None:
    encoder, model, editor = real_encoder("minigpt4", form), real_model("minigpt4"), Unedited()
    said = []
    for answer in ("350lbs", "Tama"):
        texts = [RowText(question, answer) for question in QUESTIONS]
        encoded = [encoder.encode(**text.tokens) for text in texts]
        rows = encoder.rows(encoded, texts, edit_index=[0] * len(texts))
        batch = EditBatch(rows, torch.tensor([0]), {}, (0,), ("it",))
        state, at = model.prefix(rows, 0), rows.answers()
        edit = editor.edit(model, batch, state)
        pre = Predictions.of(model.suffix(state, at=at))
        comparison = compare(model, edit, rows, state, at, pre)
        generator = Generator(model, encoder, 0, 7, FiniteCheck(batch, model, "none"))
        said.append(generator.generate(edit, rows, torch.arange(len(texts)), comparison))
    assert said[0] == said[1]
    assert all(len(ids) for ids in said[0].values())
