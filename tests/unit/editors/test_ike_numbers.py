"""IKE on Llama's own vocabulary: answers that begin with a digit, in every prompt form."""

from __future__ import annotations

import pytest
import torch

from datamodules.prompt_encoder import PromptForm
from datamodules.scenarios import SCENARIOS
from models.rows import EditBatch, RowText
from tests.editors import ike
from tests.ike_cases import InOrder
from tests.real_tokenizers import FORMS, Family, real_encoder, real_model, tmke_records

QUESTIONS = ("How heavy is Gofin Works?", "What does Gofin Works weigh?")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("answer", ["350lbs", "Tama Duva"])
@torch.no_grad()
def test_an_answer_in_digits_is_scored_at_its_digits(form: PromptForm, answer: str) -> None:
    encoder, model = real_encoder("minigpt4", form), real_model("minigpt4")
    texts = [RowText(question, answer) for question in QUESTIONS]
    encoded = [encoder.encode(**text.tokens) for text in texts]
    rows = encoder.rows(encoded, texts, edit_index=[0] * len(texts))
    batch = EditBatch(rows, torch.tensor([0]), {}, (0,), ("Gofin Works",))
    editor = ike(encoder, InOrder(), k=2)
    state, at = model.prefix(rows, editor.first_layer(model)), rows.answers()
    edit = editor.edit(model, batch, state)
    found = edit.answer(model, rows, state, at)
    before = "".join(edit.demonstrations[0]) + edit.statements[0]
    for row, question in enumerate(QUESTIONS):
        n = int((at.row == row).sum())
        tokens = encoder.tokenizer(f"{before}{question} {answer}")["input_ids"]
        assert tokens[-n:] == at.target[at.row == row].tolist()
        whole = model.hf.language_model(torch.tensor([tokens])).logits[0, -n - 1 : -1]
        torch.testing.assert_close(found[at.row == row], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llava", "blip2"])
@pytest.mark.parametrize("form", FORMS)
def test_no_record_has_other_answer_tokens_after_a_new_fact(
    family: Family, form: PromptForm
) -> None:
    encoder = real_encoder(family, form)
    scenario = SCENARIOS["unimodal"]
    for record in tmke_records():
        for make_prompt in scenario.probes.values():
            if (prompt := make_prompt(record)) is None:
                continue
            row = encoder.encode(prompt.question, prompt.answer)
            longer = encoder.encode(prompt.question, prompt.answer, plain=True, before="Prompt: ")
            n = sum(row.answer)
            assert row.ids[-n:] == longer.ids[-n:]
            assert sum(longer.answer) >= n
