"""SERAC the editor: who sees which memory, whose answer comes out, what the networks read."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editors.serac.counterfactual import AFTER_ENTRY, Counterfactual
from editors.serac.editor import Serac, SeracEdit
from errors import ModelError
from models.editable import EditableModel
from models.rows import TEXT_ONLY, EditBatch, Rows
from tests.builders import SLOTS
from tests.serac_cases import (
    TOKENIZER,
    build,
    looked,
    made,
    opt_model,
    picture_model,
    stirred,
    worded_batch,
)

EDITS = (1, 2, 4)


def answers_of(model: EditableModel, editor: Serac, batch: EditBatch) -> Tensor:
    edit, state = made(model, editor, batch)
    with torch.no_grad():
        return edit.answer(model, batch.rows, state, batch.rows.answers())


def base_answers(model: EditableModel, batch: EditBatch) -> Tensor:
    with torch.no_grad():
        return model(batch.rows, at=batch.rows.answers())


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_counterfactual_reads_each_row_as_if_it_were_alone(pictures: bool, padding: str) -> None:
    """Slow reference: one row, its ids put together by hand, a whole forward pass."""
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=pictures, padding=padding))
    edit, _ = made(model, editor, batch)
    rows, at = batch.rows, batch.rows.answers()
    with torch.no_grad():
        found = edit.counterfactual(rows, at, rows.edit_index)
    lm = editor.counterfactual.lm
    for row, text in enumerate(rows.texts):
        entry = edit.memory.entries[int(rows.edit_index[row])]
        prompt = editor.encoder.prompt(text.question, plain=text.plain)
        front = f"{entry.question} {entry.answer}{AFTER_ENTRY}"
        ids = TOKENIZER(f"{front}{prompt} {text.answer}", return_tensors="pt")["input_ids"]
        embedded = lm.get_input_embeddings()(ids)
        if text.picture:
            assert rows.features is not None
            place = TOKENIZER(front, return_tensors="pt")["input_ids"].shape[1]
            seen = editor.counterfactual.pictures(rows.features[rows.image_index[row]])[None]
            embedded = torch.cat([embedded[:, :place], seen, embedded[:, place:]], 1)
        mine = at.row == row
        n = int(mine.sum())
        with torch.no_grad():
            alone = lm(inputs_embeds=embedded).logits[0, -n - 1 : -1]
        torch.testing.assert_close(found[mine], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_counterfactual_model_trained_on_text_is_shown_no_picture(
    padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even embeddings of zeros in its place, to which attention would be paid."""
    model = picture_model()
    editor = build(model)
    monkeypatch.setattr(Counterfactual, "packed_mask", None)  # tokens of each row are counted
    batch = looked(model, worded_batch(EDITS, pictures=True, padding=padding))
    edit, _ = made(model, editor, batch)
    lengths: list[int] = []
    read = editor.counterfactual._embed

    def embed(asked: Rows) -> Tensor:
        lengths.append(int(asked.attention_mask.sum()))
        return read(asked)

    monkeypatch.setattr(editor.counterfactual, "_embed", embed)
    rows, at = batch.rows, batch.rows.answers()
    asked = [text._replace(picture=False) for text in rows.texts]
    encoded = [editor.encoder.encode(**text.tokens) for text in asked]
    owners = rows.edit_index.tolist()
    plain = editor.encoder.rows(encoded, asked, edit_index=owners)
    with torch.no_grad():
        found = edit.counterfactual(rows, at, rows.edit_index)
        without = edit.counterfactual(plain, plain.answers(), rows.edit_index)
    torch.testing.assert_close(found, without, rtol=1e-5, atol=1e-6)
    assert lengths[0] == lengths[1]
    with torch.no_grad():
        editor.counterfactual.pictures.weight[0, 0] = 1e-6  # one step of a training with pictures
        seen = edit.counterfactual(rows, at, rows.edit_index)
    assert lengths[2] == lengths[0] + int(rows.image_slots.sum())
    pictured = rows.image_index[at.row] != TEXT_ONLY
    torch.testing.assert_close(seen[~pictured], found[~pictured], rtol=1e-5, atol=1e-6)
    assert not torch.isclose(seen[pictured], found[pictured], rtol=1e-3).all(-1).any()


def test_training_shows_pictures_to_a_projection_that_is_still_zero() -> None:
    model = picture_model()
    editor = build(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, _ = made(model, editor.train(), batch)
    rows, at = batch.rows, batch.rows.answers()
    logits = edit.counterfactual(rows, at, rows.edit_index)
    nll = -logits.log_softmax(-1)[torch.arange(len(at.target)), at.target].mean()
    nll.backward()
    gradient = editor.counterfactual.pictures.weight.grad
    assert gradient is not None
    assert bool(gradient.any())


@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_at_a_picture_that_it_is_not_shown_the_base_answers(combine: str) -> None:
    """Compared at every token, as published."""
    model = picture_model()
    editor = build(model, combine=combine)
    editor.threshold = 1e-9
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    everywhere = torch.ones(len(batch.rows), dtype=torch.bool)
    at = batch.rows.positions(everywhere)
    with torch.no_grad():
        found = edit.answer(model, batch.rows, state, at)
        base = model.suffix(state, at=at)
        answers = edit.answer(model, batch.rows, state, batch.rows.answers())
    slots = batch.rows.image_slots[at.row, at.position]
    expected = base.log_softmax(-1) if combine == "soft" else base
    assert bool(slots.any())
    torch.testing.assert_close(found[slots], expected[slots])
    mine = batch.rows.answers()
    same = (at.row[:, None] == mine.row) & (at.position[:, None] == mine.position)
    torch.testing.assert_close(found[same.any(1)], answers)
    questions = ~slots & (at.row < 1) & (at.position > SLOTS + 1)
    assert not torch.isclose(found[questions], expected[questions]).all(-1).any()


def test_hard_answers_are_one_models_own_bit_for_bit() -> None:
    model = picture_model()
    editor = stirred(model, combine="hard")
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        scope = edit.scope_probabilities(model, batch.rows, state)
        editor.threshold = float(scope.median())
        fires = (scope > editor.threshold)[at.row]
        found = edit.answer(model, batch.rows, state, at)
        base = model.suffix(state, at=at)
        theirs = edit.counterfactual(batch.rows, at, batch.rows.edit_index)
    assert 0 < int(fires.sum()) < len(fires)
    assert torch.equal(found[~fires], base[~fires])
    torch.testing.assert_close(found[fires], theirs[fires], rtol=1e-4, atol=1e-5)


def test_hard_decisions_run_the_counterfactual_model_for_rows_in_scope_only() -> None:
    model = picture_model()
    editor = stirred(model, combine="hard")
    batch = looked(model, worded_batch(EDITS))
    edit, state = made(model, editor, batch)
    sizes: list[int] = []
    editor.counterfactual.register_forward_pre_hook(
        lambda _module, args: sizes.append(len(args[2]))
    )
    with torch.no_grad():
        scope = edit.scope_probabilities(model, batch.rows, state)
        editor.threshold = float(scope.median())
        edit.answer(model, batch.rows, state, batch.rows.answers())
        editor.threshold = 0.999999
        edit.answer(model, batch.rows, state, batch.rows.answers())
    assert sizes == [int((scope > scope.median()).sum())]


def test_soft_answers_mix_probabilities() -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        found = edit.answer(model, batch.rows, state, at)
        theirs = edit.counterfactual(batch.rows, at, batch.rows.edit_index)
        share = edit.scope_probabilities(model, batch.rows, state)[at.row, None]
        base = model.suffix(state, at=at)
    expected = (1 - share) * base.softmax(-1) + share * theirs.softmax(-1)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-4, atol=1e-6)
    assert found.dtype == torch.float32


def test_a_row_sees_the_entry_of_its_own_edit_only() -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS))
    edit, _ = made(model, editor, batch)
    with torch.no_grad():
        log_p, entry = edit.retrieved(batch.rows)
        everything = editor.recall(edit.memory).retrieved(batch.rows)
    assert torch.equal(entry, batch.rows.edit_index)
    assert bool((everything[0] >= log_p).all())
    best = SeracEdit(editor, edit.memory, None).retrieved(batch.rows)[1]
    assert torch.equal(everything[1], best)


@pytest.mark.parametrize("mode", ["embedding", "cross_attention"])
def test_the_scope_never_sees_a_gold_answer(mode: str) -> None:
    model = picture_model()
    editor = stirred(model, scope={"mode": mode, "image": False})
    batch = looked(model, worded_batch(EDITS))
    edit, state = made(model, editor, batch)
    told = tuple(text._replace(answer="something else") for text in batch.rows.texts)
    with torch.no_grad():
        found = edit.scope_probabilities(model, batch.rows, state)
        other = edit.scope_probabilities(model, replace(batch.rows, texts=told), state)
        asked = tuple(text._replace(question="Is it so?") for text in batch.rows.texts)
        moved = edit.scope_probabilities(model, replace(batch.rows, texts=asked), state)
    assert torch.equal(found, other)
    assert not torch.allclose(found, moved)


def test_a_picture_takes_part_where_it_may() -> None:
    model = picture_model()
    batch = looked(model, worded_batch(EDITS, pictures=True))
    seen = batch.probes["reliability_s"], batch.probes["reliability_u"]

    def found(editor: Serac, factor: float = 1.0) -> list[Tensor]:
        assert batch.rows.features is not None
        rows = replace(batch.rows, features=factor * batch.rows.features)
        edit, _ = made(model, editor, replace(batch, rows=rows))
        with torch.no_grad():
            log_p, _ = edit.retrieved(rows)
        return [log_p[rows] for rows in seen]

    own, other = found(stirred(model))
    assert not torch.isclose(own, other, rtol=1e-3).any()  # the same question, another picture
    torch.testing.assert_close(found(stirred(model), 30.0), [own, other], rtol=1e-3, atol=1e-4)
    own, other = found(stirred(model, scope={"image": False}))
    torch.testing.assert_close(own, other)
    own, other = found(build(model))  # a projection that was never trained says nothing
    torch.testing.assert_close(own, other)


def test_a_text_edit_beside_pictured_questions_has_no_picture() -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    text_rows = torch.tensor([int(rows) for rows in batch.probes["locality_t_near"]])
    edit, _ = made(model, editor, replace(batch, edit_rows=text_rows))
    assert [entry.picture for entry in edit.memory.entries] == [None] * len(EDITS)
    shown, _ = made(model, editor, batch)
    assert all(entry.picture is not None for entry in shown.memory.entries)
    assert batch.rows.features is not None
    for entry, row in zip(shown.memory.entries, batch.edit_rows.tolist(), strict=True):
        own = batch.rows.features[batch.rows.image_index[row]]
        torch.testing.assert_close(entry.picture, own.mean(0))
        assert batch.rows.image_index[row] != TEXT_ONLY


def test_cross_attention_reads_entry_and_question_together() -> None:
    model = picture_model()
    editor = stirred(model, scope={"mode": "cross_attention", "image": False})
    batch = looked(model, worded_batch(EDITS))
    edit, _ = made(model, editor, batch)
    with torch.no_grad():
        log_p, _ = edit.retrieved(batch.rows)
        for row, text in enumerate(batch.rows.texts):
            entry = edit.memory.entries[int(batch.rows.edit_index[row])]
            alone = editor.scope.read_pairs([text.question], [entry.text])
            assert float(log_p[row]) == pytest.approx(float(alone), rel=1e-4)
        swapped = editor.scope.read_pairs([entry.text], [text.question])
    assert float(swapped) != pytest.approx(float(alone), rel=1e-4)
    assert bool((log_p < 0).all())


def test_long_texts_are_cut_to_what_the_encoder_can_read() -> None:
    model = picture_model()
    scope = stirred(model).scope
    with torch.no_grad():
        long = scope.embed(["Tama Duva " * 400, "Tama Duva"])
    assert long.isfinite().all()


def test_dropout_stays_off_in_training() -> None:
    model = picture_model()
    editor = stirred(model)
    editor.scope.encoder.config.attention_dropout = 0.5  # type: ignore[union-attr]
    editor.train()
    assert editor.training
    networks = (editor.scope.encoder, editor.counterfactual.lm)
    assert not any(part.training for network in networks for part in network.modules())
    batch = looked(model, worded_batch(EDITS))
    assert torch.equal(*(made(model, editor, batch)[0].retrieved(batch.rows)[0] for _ in "ab"))


def test_the_state_dict_leaves_the_base_models_embeddings_out() -> None:
    model = picture_model()
    editor = stirred(model)
    state = editor.state_dict()
    table = model.hf.get_input_embeddings().weight
    assert state
    assert all(value.shape != table.shape for value in state.values())
    trained = {name for name, value in editor.named_parameters() if value.requires_grad}
    assert set(state) == trained
    again = build(model, seed=77)
    again.load_state_dict(state)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    assert torch.equal(answers_of(model, editor, batch), answers_of(model, again, batch))
    with pytest.raises(RuntimeError, match=r"Missing key.*scope\.log_scale"):
        again.load_state_dict({k: v for k, v in state.items() if k != "scope.log_scale"})


def test_the_base_model_is_left_as_it_was() -> None:
    model = picture_model()
    before = copy.deepcopy(model.state_dict())
    batch = looked(model, worded_batch(EDITS, pictures=True))
    unedited = base_answers(model, batch)
    answers_of(model, stirred(model), batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(base_answers(model, batch), unedited)


def test_pictures_have_to_be_looked_at_first() -> None:
    model = picture_model()
    batch = worded_batch(EDITS, pictures=True)
    for mode in ("embedding", "cross_attention"):
        editor = stirred(model, scope={"mode": mode, "image": False})
        with pytest.raises(ValueError, match=r"encode_pictures\(rows\) comes first"):
            answers_of(model, editor, batch)


def test_answers_that_change_their_tokens_are_refused() -> None:
    model = picture_model()
    batch = looked(model, worded_batch(EDITS))
    edit, state = made(model, stirred(model), batch)
    at = batch.rows.answers()
    wrong = replace(at, target=at.target.roll(1))
    with pytest.raises(ModelError, match="other tokens after a longer text"):
        edit.answer(model, batch.rows, state, wrong)


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_the_counterfactual_model_makes_logits_where_they_are_asked(kind: str) -> None:
    """A head over all tokens of all rows would fill the memory of any GPU."""
    model = picture_model()
    editor, batch = stirred(model), looked(model, worded_batch([4, 5], pictures=True))
    if kind == "opt":
        editor.counterfactual.lm = opt_model(vocabulary=len(TOKENIZER)).hf
    edit, state = made(model, editor, batch)
    seen: list[tuple[int, ...]] = []
    head = editor.counterfactual.lm.get_output_embeddings()
    head.register_forward_hook(lambda _module, _args, output: seen.append(tuple(output.shape)))
    at = batch.rows.answers()
    edit.answer(model, batch.rows, state, at)
    assert {vocabulary for _, vocabulary in seen} == {len(TOKENIZER)}
    assert sum(tokens for tokens, _ in seen) == len(at.row)
