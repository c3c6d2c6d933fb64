"""GRACE beside a model: which rows get a value, edits side by side, in sequence and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.check import load_config
from configs.schema import EvaluateConfig
from editors.base import EditsTogether, Lasting, Scoped
from editors.grace.codebook import Codebook
from editors.grace.config import GraceOptions
from editors.grace.editor import Grace, GraceEdit
from editors.grace.values import replaced_tokens
from editors.options import BaseFacts
from editors.turn import Turn
from errors import ModelError
from models.editable import EditableModel
from models.rows import EditBatch
from tests.builders import any_model, edit_batch
from tests.editors import editor_options, grace
from tests.serac_cases import looked, picture_model, worded_batch

EDITS = (1, 2, 4)
FAR = {"layer": 1, "replace": "answer", "steps": 6, "lr": 0.3, "epsilon_init": 2.0}


def made(model: EditableModel, editor: Grace, batch: EditBatch) -> GraceEdit:
    state = model.prefix(batch.rows, editor.first_layer(model), packed=True)
    return editor.edit(model, batch, state)


def answered(model: EditableModel, edit: GraceEdit, batch: EditBatch) -> Tensor:
    state = model.prefix(batch.rows, edit.editor.first_layer(model), packed=True)
    with torch.no_grad():
        return edit.answer(model, batch.rows, state, batch.rows.answers())


def under_one(batch: EditBatch) -> EditBatch:
    """Every row under edit 0, as edits in sequence are asked."""
    return replace(batch, rows=replace(
        batch.rows, edit_index=torch.zeros_like(batch.rows.edit_index)
    ))  # fmt: skip


def same(one: Codebook, other: Codebook, tolerance: float = 1e-5) -> None:
    close: dict[str, Any] = {"atol": tolerance, "rtol": tolerance}
    torch.testing.assert_close(one.radii, other.radii, **close)
    torch.testing.assert_close(one.entries.keys, other.entries.keys, **close)
    torch.testing.assert_close(one.entries.values, other.entries.values, atol=1e-3, rtol=1e-3)
    assert (one.entries.labels, one.entries.prompts) == (
        other.entries.labels, other.entries.prompts
    )  # fmt: skip


@pytest.mark.parametrize("replaced", ["last", "answer", "prompt", "all"])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_which_tokens_get_the_value(replaced: Any, padding: str) -> None:
    rows = edit_batch(EDITS, pictures=True, padding=padding, extra=2).rows
    chosen = replaced_tokens(rows, replaced)
    for row in range(len(rows)):
        real = rows.attention_mask[row].nonzero()[:, 0].tolist()
        end = int(rows.answer_mask[row].nonzero()[0]) - 1
        expected = {
            "last": [end],
            "answer": [token for token in real if token >= end],
            "prompt": [token for token in real if token <= end],
            "all": real,
        }
        assert chosen[row].nonzero()[:, 0].tolist() == expected[replaced]


@pytest.mark.parametrize("layer", [1, 2])
def test_an_edit_is_the_same_alone_and_in_a_batch(layer: int) -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = grace(**FAR | {"layer": layer, "stop_loss": 3.0})
    together = made(model, editor, batch)
    logits, at = answered(model, together, batch), batch.rows.answers()
    for place, number in enumerate(EDITS):
        one = edit_batch([number], pictures=True)
        alone = made(model, editor, one)
        assert together.owner is not None
        assert together.owner.tolist() == [0, 1, 2]
        torch.testing.assert_close(
            together.codebook.entries.values[place], alone.codebook.entries.values[0],
            atol=1e-3, rtol=1e-3,
        )  # fmt: skip
        here = batch.rows.edit_index[at.row] == place
        torch.testing.assert_close(logits[here], answered(model, alone, one), atol=2e-3, rtol=2e-3)


def test_rows_outside_every_radius_are_answered_by_the_base_bit_for_bit() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = grace(**FAR)
    edit = made(model, editor, batch)
    state = model.prefix(batch.rows, 1, packed=True)
    at, base = batch.rows.answers(), model.suffix(state, at=batch.rows.answers())
    with torch.no_grad():
        found = edit.answer(model, batch.rows, state, at)
        inside = edit.scope_probabilities(model, batch.rows, state).bool()[at.row]
    assert bool(inside.any())
    assert not bool(inside.all())
    assert torch.equal(found[~inside], base[~inside])
    assert (found[inside] - base[inside]).abs().amax(1).min() > 1e-3
    assert isinstance(edit, Scoped)


def test_the_base_is_untouched_and_draws_nothing() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.decoder.layers.modules()]
    drawn = torch.random.get_rng_state()
    answered(model, made(model, grace(**FAR), batch), batch)
    with pytest.raises(ModelError, match="is not finite"):
        made(model, grace(**FAR | {"lr": 1e38}), batch)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(module._forward_hooks) for module in model.decoder.layers.modules()] == hooks


def test_an_edit_teaches_its_answer() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = grace(**FAR | {"steps": 60, "start": "output", "stop_when_argmax": True})
    logits, at = answered(model, made(model, editor, batch), batch), batch.rows.answers()
    taught = torch.isin(at.row, batch.edit_rows)
    assert torch.equal(logits.argmax(-1)[taught], at.target[taught])


def test_edits_in_sequence_are_one_codebook_in_their_order() -> None:
    model, editor = picture_model(), grace(**FAR | {"epsilon_init": 0.8})
    batches = [looked(model, worded_batch([number], pictures=True)) for number in (3, 0, 5)]
    kept: GraceEdit | None = None
    singles = [made(model, editor, batch) for batch in batches]
    for single in singles:
        assert isinstance(single, Lasting)
        kept = single.after(kept)
    assert kept is not None
    assert kept.owner is None
    by_hand: Codebook | None = None
    for single in singles:
        by_hand = Codebook.of(single.entries, epsilon_init=0.8, earlier=by_hand)
    assert by_hand is not None
    same(kept.codebook, by_hand, 0)
    added = singles[1].after(singles[0].after(None))
    same(singles[2].after(added).codebook, kept.codebook, 0)
    for batch, single in zip(batches, singles, strict=True):
        same(made(model, editor, batch).codebook, single.codebook)
        with kept.in_place(model):  # an edit that is in place moves no other one's value
            same(made(model, editor, batch).codebook, single.codebook)
    assert len(kept.codebook) == 3
    for number in range(3):  # at its own key each is the nearest, however small its radius
        batch = under_one(batches[number])
        torch.testing.assert_close(
            answered(model, kept, batch)[:1], answered(model, singles[number], batch)[:1],
            atol=1e-4, rtol=1e-4,
        )  # fmt: skip


@pytest.mark.parametrize("per_part", [1, 2, 3])
def test_edits_together_are_those_of_a_sequence(per_part: int) -> None:
    model, editor = picture_model(), grace(**FAR)
    numbers = (3, 0, 5)

    def read() -> Sequence[Any]:
        parts = []
        for start in range(0, 3, per_part):
            batch = looked(model, worded_batch(numbers[start : start + per_part], pictures=True))
            teaching = batch.teaching()
            parts.append((teaching, model.prefix(teaching.rows, 1, packed=True)))
        return parts

    assert isinstance(editor, EditsTogether)
    turn = Turn(3, read)
    found = editor.edit_together(model, turn, None)
    kept: GraceEdit | None = None
    for number in numbers:
        batch = looked(model, worded_batch([number], pictures=True))
        kept = made(model, editor, batch).after(kept)
    assert kept is not None
    same(found.codebook, kept.codebook)
    earlier = made(model, editor, looked(model, worded_batch([7], pictures=True))).after(None)
    same(
        found.after(earlier).codebook,
        Codebook.of(found.entries, epsilon_init=2.0, earlier=earlier.codebook),
    )


def test_a_later_edit_of_the_same_prompt_takes_the_place_of_the_earlier() -> None:
    """Their keys are the same but for last digits, which no radius tells apart."""
    model, editor = picture_model(), grace(**FAR)
    batch = looked(model, worded_batch([3]))
    other = looked(model, worded_batch([3, 1]))
    target = other.rows.input_ids.clone()
    row = int(other.edit_rows[0])
    target[row, other.rows.answer_mask[row]] = 5
    changed = replace(other, rows=replace(other.rows, input_ids=target))
    first = made(model, editor, batch)
    later = made(model, editor, changed)
    kept = later.after(first.after(None))
    assert len(kept.codebook) == 2
    assert kept.codebook.entries.labels[0] == later.entries.labels[0] != first.entries.labels[0]
    assert torch.equal(kept.codebook.entries.values[0], later.entries.values[0])


def test_a_prompt_that_a_radius_grew_to_lies_within_it_in_half_precision() -> None:
    """Read in other batches its key has other last digits, of which bfloat16 has few."""
    model = any_model("llava")
    model.to(torch.bfloat16)
    editor = grace(**FAR | {"epsilon_init": 1e-3, "steps": 1})
    batch = edit_batch(range(12), pictures=True)
    entries = editor.entries(model, batch, model.prefix(batch.rows, 1))
    end = batch.rows.answers().prompt_end[batch.edit_rows]
    packed = model.prefix(batch.rows, 1, packed=True)
    again, _ = model.read(packed, editor.site, batch.edit_rows, end)
    assert not torch.equal(again, entries.keys)
    for number in range(1, len(entries)):
        pair = replace(entries.select([0, number]), labels=((1,), (1,)))
        apart = float((pair.keys[0] - pair.keys[1]).float().norm())
        book = Codebook.of(pair, epsilon_init=apart / 1.9)
        assert len(book) == 1
        assert float(book.radii) < 1.1 * apart + 0.05 * float(pair.keys[1].float().norm())
        assert book.lookup(again[number][None]).tolist() == [0]


def test_a_joint_edit_has_an_entry_for_each_of_its_rows() -> None:
    model, editor = picture_model(), grace(**FAR | {"epsilon_init": 0.05})
    batch = looked(model, worded_batch((1, 2), pictures=True))
    pairs = torch.stack([batch.probes["locality_t_near"], batch.edit_rows], 1)
    both = replace(batch, edit_rows=pairs.flatten())
    edit = made(model, editor, both)
    assert edit.owner is not None
    assert edit.owner.tolist() == [0, 0, 1, 1]
    state = model.prefix(batch.rows, 1, packed=True)
    entry = edit.retrieved(model, both.rows, state)
    assert entry[pairs].tolist() == [[0, 1], [2, 3]]
    in_text = made(model, editor, replace(batch, edit_rows=batch.probes["locality_t_near"]))
    torch.testing.assert_close(
        edit.codebook.entries.values[::2], in_text.codebook.entries.values, atol=1e-3, rtol=1e-3
    )


def test_every_position_and_a_part_of_an_answer_are_of_the_same_pass() -> None:
    """Whatever is asked, the key is at the last token before the answer."""
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = grace(**FAR | {"replace": "last"})
    edit, rows = made(model, editor, batch), batch.rows
    state = model.prefix(rows, 1, packed=True)
    every = rows.positions(torch.ones(len(rows), dtype=torch.bool))
    at = rows.answers()
    end = at.prompt_end
    with torch.no_grad():
        whole = edit.answer(model, rows, state, every)
        answers = edit.answer(model, rows, state, at)
        last = at.where(torch.cat([at.row[1:] != at.row[:-1], torch.tensor([True])]))
        ends = edit.answer(model, rows, state, last)
        base = model.suffix(state, at=every)
    for asked, found in ((at, answers), (last, ends)):
        same_row = every.row == asked.row[:, None]
        place = (same_row & (every.position == asked.position[:, None])).int().argmax(1)
        torch.testing.assert_close(whole[place], found, atol=1e-5, rtol=1e-5)
    before = every.position < end[every.row]
    torch.testing.assert_close(whole[before], base[before], atol=1e-5, rtol=1e-5)


def test_a_small_budget_answers_rows_in_parts() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    edit = made(model, grace(**FAR | {"epsilon_init": 1e3}), batch)
    whole = answered(model, edit, batch)
    model.budget = replace(model.budget, bytes=1)
    parts: list[int] = []
    handle = model.linear(edit.editor.site).register_forward_hook(
        lambda _module, _args, output: parts.append(len(output))
    )
    torch.testing.assert_close(answered(model, edit, batch), whole, atol=1e-5, rtol=1e-5)
    handle.remove()
    assert parts.count(1) >= len(batch.rows)


def test_the_settings_are_easyedit_s() -> None:
    config = load_config("evaluate", ["editor=grace"])
    assert isinstance(config, EvaluateConfig)
    editor = config.editor
    assert isinstance(editor, GraceOptions)
    assert (editor.layer, editor.matrix, editor.replace) == (27, "mlp_out", "last")
    assert (editor.steps, editor.lr, editor.epsilon_init) == (50, 1.0, 1.0)
    assert editor.start == "random"


def test_a_layer_that_is_not_there_is_refused_before_weights_load() -> None:
    facts = BaseFacts("llama", 97, 3, 16)
    editor_options("grace", layer=2).check_base(facts)
    with pytest.raises(ModelError, match=r"editor\.layer=3: .* layers 0 to 2; give a layer"):
        editor_options("grace", layer=3).check_base(facts)


def test_a_random_start_is_drawn_by_its_seed() -> None:
    model = any_model("llava")
    one, same_one, other = (grace(seed=seed, **FAR)._drawn(model) for seed in (0, 0, 1))
    assert torch.equal(one, same_one)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1
