"""Which rows SERAC's counterfactual model is asked, and how many at once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from editors.base import state_for
from editors.serac.counterfactual import PLAIN, Counterfactual
from editors.serac.editor import ASKED, Serac
from editors.serac.similarity import mix_soft
from lightning_modules.predictions import base_predictions
from models.budget import PASS_SHARE, MemoryBudget
from models.deltas import DenseDelta
from models.editable import EditableModel
from models.rows import Answers, Rows, pooled_pictures
from models.state import PrefixState
from tests.builders import WIDTH
from tests.serac_cases import (
    TOKENIZER,
    looked,
    made,
    opt_model,
    picture_model,
    stirred,
    worded_batch,
)
from tests.unit.editors.test_serac import EDITS, answers_of, base_answers


def far_scope(model: EditableModel, **changed: object) -> Serac:
    """Distances grow until a part of the questions is out of any scope, as of real encoders."""
    editor = stirred(model, **changed)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, _ = made(model, editor, batch)
    middle = -edit.retrieved(batch.rows)[0].median()
    with torch.no_grad():
        editor.scope.log_scale.add_((33.0 / middle).log())  # log s = -33.3 is where it ends
    return editor


def watched(editor: Serac, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each pass of the counterfactual model."""
    passes: list[int] = []
    forward = editor.counterfactual.forward

    def count(encoder: object, entries: list[str], *rest: object) -> Tensor:
        passes.append(len(entries))
        return forward(encoder, entries, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(editor.counterfactual, "forward", count)
    return passes


def places(editor: Serac, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Places of each pass of the counterfactual model, padding among them."""
    sizes, embed = list[int](), editor.counterfactual._embed

    def count(rows: Rows) -> Tensor:
        sizes.append(rows.input_ids.numel())
        return embed(rows)

    monkeypatch.setattr(editor.counterfactual, "_embed", count)
    return sizes


def test_questions_far_outside_the_scope_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = far_scope(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    at, rows = batch.rows.answers(), batch.rows
    passes = watched(editor, monkeypatch)
    with torch.no_grad():
        found = edit.answer(model, rows, state, at)
    log_scope, entry = edit.retrieved(rows)
    asked = log_scope >= math.log(2.0**-48)
    assert passes == [int(asked.sum())]
    assert 0 < passes[0] < len(rows)
    with torch.no_grad():  # the published mixture, of every row
        whole = mix_soft(
            base_answers(model, batch), edit.counterfactual(rows, at, entry), log_scope[at.row]
        )
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.topk(10).indices, whole.topk(10).indices)
    shares = [
        float(asked[rows.edit_index == number].float().mean()) for number in range(len(EDITS))
    ]
    assert edit.report() == {ASKED: pytest.approx(shares)}


def test_every_question_is_asked_while_the_scope_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = far_scope(model).train()
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    passes = watched(editor, monkeypatch)
    edit.answer(model, batch.rows, state, batch.rows.answers())
    assert passes == [len(batch.rows)]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_little_memory_changes_nothing(
    combine: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = picture_model()
    editor = stirred(model, combine=combine, scope={"threshold": 1e-6})
    batch = looked(model, worded_batch(EDITS, pictures=True))
    whole = answers_of(model, editor, batch)
    if not packed:
        monkeypatch.setattr(Counterfactual, "packed_mask", None)
    sizes = places(editor, monkeypatch)
    room = 120
    each = editor.counterfactual.token_bytes
    monkeypatch.setattr(model, "budget", MemoryBudget(math.ceil(room * each / PASS_SHARE)))
    torch.testing.assert_close(answers_of(model, editor, batch), whole, rtol=1e-5, atol=1e-5)
    assert max(sizes) <= room
    assert len(sizes) > 2


def small_lm(kind: str, attention: str) -> PreTrainedModel:
    """Of another family than the fresh one; as wide as the base model."""
    vocabulary = len(TOKENIZER)
    if kind == "opt":
        lm: PreTrainedModel = opt_model(vocabulary=vocabulary).hf
    elif kind == "qwen2":
        lm = Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **_SIZES))
    elif kind == "sliding":
        kinds = ["full_attention", "sliding_attention"]
        config = Qwen2Config(
            vocab_size=vocabulary, layer_types=kinds, use_sliding_window=True, sliding_window=4,
            **_SIZES,
        )  # fmt: skip
        lm = Qwen2ForCausalLM(config)
    else:
        lm = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2))
    lm.set_attn_implementation(attention)
    return lm.eval().requires_grad_(False)


_SIZES: dict[str, int] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("kind", "packs"), [("opt", True), ("qwen2", True), ("sliding", False), ("gpt2", False)]
)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_rows_that_are_packed_are_answered_as_each_alone(
    kind: str, packs: bool, attention: str, padding: str
) -> None:
    """Whatever cannot be read packed is read row by row."""
    model = picture_model()
    torch.manual_seed(1)
    reader = Counterfactual(small_lm(kind, attention), len(TOKENIZER), WIDTH)
    nn.init.normal_(reader.pictures.weight, std=0.5)
    editor = stirred(model)
    editor.counterfactual = reader
    assert (reader.packed_mask is not None) == packs
    assert (reader.lm.config.model_type in PLAIN) == (kind != "gpt2")
    batch = looked(model, worded_batch(EDITS, pictures=True, padding=padding))
    edit, _ = made(model, editor, batch)
    rows, at = batch.rows, batch.rows.answers()
    with torch.no_grad():
        found = edit.counterfactual(rows, at, rows.edit_index)
        alone = [
            edit.counterfactual(
                rows.select(torch.tensor([row])), at.select(torch.tensor([row])),
                rows.edit_index[[row]],
            )
            for row in range(len(rows))
        ]  # fmt: skip
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_what_rows_of_an_edit_begin_with_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, _ = made(model, editor, batch)
    at, entry, counts = batch.rows.answers(), batch.rows.edit_index, list[int]()
    # Rows of different edits share nothing.
    apart = replace(batch.rows, edit_index=torch.arange(len(batch.rows)))
    sizes = places(editor, monkeypatch)
    for rows in (batch.rows, apart):
        sizes.clear()
        with torch.no_grad():
            edit.counterfactual(rows, at, entry)
        counts.append(sum(sizes))
    assert counts[0] < 0.85 * counts[1]


def test_rows_under_edits_in_sequence_are_packed_entry_by_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are all of one edit; one sequence of them would grow with the batch."""
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, _ = made(model, editor, batch)
    at, entry = batch.rows.answers(), batch.rows.edit_index
    in_sequence = replace(batch.rows, edit_index=torch.zeros_like(entry))
    sizes, answers = places(editor, monkeypatch), list[Tensor]()
    read = list[list[int]]()
    for rows in (batch.rows, in_sequence):
        sizes.clear()
        with torch.no_grad():
            answers.append(edit.counterfactual(rows, at, entry))
        read.append(list(sizes))
    assert read[0] == read[1]
    assert torch.equal(*answers)


def suffixes(model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answer tokens of each pass of the base model's upper layers."""
    passes, suffix = list[int](), model.suffix

    def count(state: PrefixState, *, at: Answers, **options: object) -> Tensor:
        passes.append(len(at.row))
        return suffix(state, at=at, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "suffix", count)
    return passes


def test_the_unedited_model_is_asked_once_for_both_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        expected = edit.answer(model, batch.rows, state, at)
    passes, kept = suffixes(model, monkeypatch), state_for(editor, state)
    pre = base_predictions(model, batch.rows, kept, at)
    with torch.no_grad():
        assert torch.equal(edit.answer(model, batch.rows, kept, at), expected)
    assert passes == [len(at.row)]
    assert torch.equal(pre.best, base_answers(model, batch).argmax(-1))


def test_other_rows_tokens_or_weights_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    batch = looked(model, worded_batch(EDITS, pictures=True))
    at, some = batch.rows.answers(), torch.tensor([2, 0])
    kept = model.prefix(batch.rows, model.n_layers - 1, packed=True).remembering()
    passes = suffixes(model, monkeypatch)
    every = model.unedited(kept, at)
    fewer = at.where(at.row > 0)
    assert torch.equal(model.unedited(kept, fewer), every[at.row > 0])
    of_some = model.unedited(kept.select(some), at.select(some))
    torch.testing.assert_close(of_some[at.select(some).row == 1], every[at.row == 0])
    assert passes == [len(at.row), len(fewer.row), len(of_some)]
    site = model.last_sites(1)[0]
    moved = DenseDelta(torch.full((1, *model.weight(site).shape), 0.1))
    with model.deltas_in_place({site: moved}):
        edited = model.unedited(kept, fewer)
    assert not torch.allclose(edited, model.unedited(kept, fewer))


def test_a_question_that_stands_in_several_rows_is_classified_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    questions = [text.question for text in batch.rows.texts]
    pooled = pooled_pictures(batch.rows)
    assert pooled is not None
    read: list[int] = []
    editor.scope.encoder.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        found = editor.scope.embed(questions, pooled)
        alone = [
            editor.scope.embed([question], picture[None])
            for question, picture in zip(questions, pooled, strict=True)
        ]
    assert read[0] == len(set(questions)) < len(questions)
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-5, atol=1e-5)
