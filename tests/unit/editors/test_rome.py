"""ROME against one edit at a time, prompt by prompt, on a copy with a changed weight."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.prompt_encoder import PromptEncoder
from editors.rome import prompts as prompts_module
from editors.rome.config import FactToken
from editors.rome.editor import Rome
from editors.rome.prompts import assemble, sample_prefixes
from errors import DataError, ModelError
from models.budget import MemoryBudget
from models.context import rest
from models.deltas import LowRankDelta, Site, linear_weight
from models.editable import EditableModel
from models.rows import EditBatch, RowText
from tests import editors
from tests.rome_cases import FACTS, KINDS, PREFIXES, batch_of, model_and_encoder
from tests.slow_lookup import SlowLookup

LAYER = 1
SHORT = {"steps": 7, "lr": 0.5, "weight_decay": 0.1, "clamp": 3.0, "kl": 0.5}
STOPPING = {"steps": 30, "lr": 0.5, "weight_decay": 1e-3, "clamp": 8.0, "kl": 0.0625,
            "stop_loss": 8.0}  # fmt: skip
ESSENCE = "{subject} is a"
CHANGES = {
    "as published": {},
    "no prefix": {"prefixes": ()},
    "early stop": STOPPING,
    "second moment": {"second_moment": True},
    "last layer": {"layer": 2, "fact_token": "last"},  # what else it writes is read no more
    "first layer": {"layer": 0},
    "after the subject": {"fact_token": "subject_first_after_last"},
    "prompt's last token": {"fact_token": "last"},
}


def rome(model: EditableModel, encoder: PromptEncoder, **changes: Any) -> Rome:
    given = {"layer": LAYER, "prefixes": PREFIXES, "kl_prompt": ESSENCE} | SHORT | changes
    if given.pop("second_moment", False):
        width = linear_weight(model.linear(Site(LAYER, "mlp_out"))).shape[1]
        draw = torch.randn(4 * width, width, generator=torch.Generator().manual_seed(3))
        return editors.rome(encoder, second_moment=(draw.mT @ draw / len(draw)).double(), **given)
    return editors.rome(encoder, **given)


def answers_of(model: EditableModel, editor: Rome, batch: EditBatch) -> Tensor:
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    return edit.answer(model, batch.rows, state, batch.rows.answers())


def dense(model: EditableModel, editor: Rome, batch: EditBatch) -> Tensor:
    """(E, d_out, d_in)."""
    edit = editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    return edit.deltas[editor.site].dense()


class Slow(SlowLookup):
    """One edit by the book, on a copy of the model."""

    def __init__(self, model: EditableModel, editor: Rome, number: int) -> None:
        model, self.editor = copy.deepcopy(model), editor
        module = model.linear(editor.site)
        super().__init__(model, editor.encoder, editor.options, editor.prefixes, module, number)

    def apply(self) -> None:
        """Changes the copy's weight."""
        wanted, prompts = self.value(), self.prompts()
        keys = torch.stack([self.read(ids, place)[0] for ids, place, _ in prompts[:-1]])
        left = keys.mean(0).double()
        if self.editor.second_moment is not None:
            permuted, lower, upper = torch.lu_unpack(*self.editor.second_moment)
            left = torch.linalg.inv(permuted @ lower @ upper) @ left
        left = (left / left.norm()).float()
        key, value = self.read(*prompts[0][:2])
        delta = torch.outer((wanted - value) / (key @ left), left)
        with torch.no_grad():
            linear_weight(self.module).add_(delta)


def assert_slow(kind: str, padding: str, change: dict[str, object]) -> None:
    model, encoder = model_and_encoder(kind, padding=padding)  # type: ignore[arg-type]
    batch = batch_of(encoder, (0, 2, 4), pictures=kind == "llava")
    editor = rome(model, encoder, **change)
    fast = answers_of(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        unedited = model(batch.rows, at=at)
    for place, number in enumerate(batch.edit_ids):
        slow = Slow(model, editor, number)
        slow.apply()
        with torch.no_grad():
            expected = slow.model(batch.rows, at=at)
        mine = batch.rows.edit_index[at.row] == place
        scale = expected[mine].abs().max()
        assert (fast - expected)[mine].abs().max() <= 2e-4 * scale
        assert (expected - unedited)[mine].abs().max() >= 1e-2 * scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_equals_the_slow_reference(kind: str, padding: str) -> None:
    if (kind, padding) == ("gpt2", "left"):
        pytest.skip("GPT-2 counts its positions from the padding")
    assert_slow(kind, padding, {})


@pytest.mark.parametrize("change", CHANGES)
def test_every_setting_equals_the_slow_reference(change: str) -> None:
    assert_slow("llama", "right", CHANGES[change])


@pytest.mark.parametrize("kind", ["opt", "llava"])
def test_the_last_layer_can_be_edited(kind: str) -> None:
    assert_slow(kind, "left", {"layer": 2, "fact_token": "last"})


def test_edits_that_stop_at_different_steps_do_not_disturb_each_other() -> None:
    model, encoder = model_and_encoder("llama")
    model.double()  # thirty large steps enlarge rounding
    editor, batch = rome(model, encoder, **STOPPING), batch_of(encoder, range(len(FACTS)))
    taken = []
    for steps in range(2, int(STOPPING["steps"]) + 1):
        short = rome(model, encoder, **STOPPING | {"steps": steps})
        taken.append(dense(model, short, batch))
    final = taken[-1]
    stopped = [
        next(i for i, delta in enumerate(taken) if torch.equal(delta[edit], final[edit]))
        for edit in range(len(FACTS))
    ]
    assert len(set(stopped)) > 1, "the case should have edits that stop at different steps"
    for edit in range(len(FACTS)):
        delta = dense(model, editor, batch_of(encoder, [edit]))[0]
        assert (delta - final[edit]).abs().max() <= 1e-9 * final[edit].abs().max()


def test_little_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = model_and_encoder("llama")
    batch = batch_of(encoder, (0, 1, 2, 3, 5))
    editor = rome(model, encoder)
    whole = answers_of(model, editor, batch)
    parts = []
    real = Rome._update

    def count(self: Rome, *args: object) -> object:
        parts.append(len(args[1]))  # type: ignore[arg-type]
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Rome, "_update", count)
    monkeypatch.setattr(model, "budget", MemoryBudget(1))
    assert (answers_of(model, editor, batch) - whole).abs().max() <= 1e-5 * whole.abs().max()
    assert parts == [len(PREFIXES) + 2] * 5


def test_a_step_reads_each_prompt_from_its_lookup_token_to_the_last_it_looks_at() -> None:
    model, encoder = model_and_encoder("llama")
    texts = [RowText(question, answer) for question, answer, _ in FACTS]
    subjects = [subject for _, _, subject in FACTS]
    _, prompts = assemble(
        encoder, texts, subjects, prefixes=PREFIXES, essence=ESSENCE, fact_token="subject_last"
    )
    longest = int((prompts.last - prompts.lookup).max()) + 1
    assert torch.equal(prompts.last[prompts.essence], prompts.lookup[prompts.essence])
    batch, seen = batch_of(encoder, range(len(FACTS))), []
    state = model.prefix(batch.rows, LAYER)
    model.decoder.layers[-1].register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].shape[:2])
    )
    rome(model, encoder, steps=3, stop_loss=0.0).edit(model, batch, state)
    # The beginnings, the unedited prompts and two steps; a pass behind layer 1 ends there.
    assert seen[1:] == [(len(prompts.edit), longest)] * 3


def test_keys_are_averaged_in_single_precision() -> None:
    """k* of a model in bfloat16 is the mean of its keys, not that mean in 8 bits."""
    model, encoder = model_and_encoder("opt")
    model, batch = model.to(torch.bfloat16), batch_of(encoder, [0, 1, 2])
    edit = rome(model, encoder, steps=1).edit(model, batch, model.prefix(batch.rows, LAYER))
    ((site, delta),) = edit.deltas.items()
    assert isinstance(delta, LowRankDelta)
    texts = [batch.rows.texts[row] for row in batch.edit_rows.tolist()]
    rows, prompts = assemble(
        encoder, texts, batch.subjects, prefixes=PREFIXES, essence=ESSENCE,
        fact_token="subject_last",
    )  # fmt: skip
    asked = prompts.rewriting
    state, _ = rest(model, rows, LAYER, prompts.lookup, prompts.last)
    keys, _ = model.read(state, site, asked, torch.zeros_like(asked))
    mean = keys.double().unflatten(0, (prompts.n_edits, -1)).mean(1)
    u = delta.inputs[:, 0].double()
    torch.testing.assert_close(u, F.normalize(mean, dim=-1), atol=1e-6, rtol=1e-5)


def test_the_base_is_untouched() -> None:
    model, encoder = model_and_encoder("llava")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(encoder, (0, 1), pictures=True)
    model(batch.rows)  # transformers puts in hooks of its own
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    answers_of(model, rome(model, encoder), batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks


def test_a_value_without_end_is_an_error() -> None:
    model, encoder = model_and_encoder("llama")
    editor = rome(model, encoder)
    # No option may be infinite, so that the loss of a real run is not broken in this way.
    editor.options = editor.options.model_copy(update={"lr": float("inf")})
    with pytest.raises(ModelError, match=r"not finite at step 2"):
        answers_of(model, editor, batch_of(encoder, (0,)))


# Where the fact is looked up


@pytest.mark.parametrize("kind", ["llama", "opt"])
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("fact_token", get_args(FactToken))
def test_the_lookup_token_is_the_one_it_says(kind: str, padding: str, fact_token: str) -> None:
    _, encoder = model_and_encoder(kind, padding=padding)  # type: ignore[arg-type]
    texts = [RowText(question, answer) for question, answer, _ in FACTS]
    subjects = [subject for *_, subject in FACTS]
    rows, prompts = assemble(
        encoder, texts, subjects, prefixes=PREFIXES, essence=ESSENCE, fact_token=fact_token  # type: ignore[arg-type]
    )  # fmt: skip
    assert len(rows) == len(FACTS) * (len(PREFIXES) + 2)
    for row in range(len(rows)):
        subject = subjects[int(prompts.edit[row])]
        ids, real = rows.input_ids[row], rows.attention_mask[row]
        place = int(prompts.lookup[row])

        def said(start: int, stop: int, ids: Tensor = ids, real: Tensor = real) -> str:
            chosen = ids[start:stop][real[start:stop]]
            return encoder.tokenizer.decode(chosen, skip_special_tokens=True)

        upto, rest = said(0, place + 1), said(place + 1, len(ids))
        if fact_token == "subject_last":
            assert upto.endswith((subject, f"{subject}?")), upto  # a token may go on behind it
            assert not said(0, place).endswith(subject)
        elif fact_token == "subject_first":
            marker = not said(place, place + 1)  # a space of its own before the first word
            assert said(place, len(ids)).count(subject) == rest.count(subject) + (not marker)
        elif fact_token == "subject_first_after_last":
            assert subject in said(0, place)
        else:
            asked = row not in prompts.essence.tolist()
            assert upto.endswith("Short answer:" if asked else " is a")
            assert rest.strip() == texts[int(prompts.edit[row])].answer


def test_prompts_are_the_plain_one_the_prefixed_ones_and_the_essence() -> None:
    _, encoder = model_and_encoder("opt")
    question, answer, subject = FACTS[0]
    rows, prompts = assemble(
        encoder, [RowText(question, answer)], [subject],
        prefixes=PREFIXES, essence="What is {subject} : {}", fact_token="subject_last",
    )  # fmt: skip
    said = [
        encoder.decode(ids[mask])
        for ids, mask in zip(rows.input_ids, rows.attention_mask, strict=True)
    ]
    asked = f"Question: {question} Short answer: {answer}"
    assert said == [asked, *(prefix + asked for prefix in PREFIXES),
                    f"What is {subject} : {{}} {answer}"]  # fmt: skip
    assert (prompts.plain.tolist(), prompts.essence.tolist()) == ([0], [3])
    assert prompts.at.row.unique().tolist() == prompts.rewriting.tolist() == [0, 1, 2]
    targets = [prompts.at.target[prompts.at.row == row].tolist() for row in range(3)]
    assert targets[0] == targets[1] == targets[2]
    assert encoder.decode(targets[0]) == answer


def test_a_prompt_without_its_subject_is_refused() -> None:
    _, encoder = model_and_encoder("llama")
    with pytest.raises(DataError, match="'Nobody' does not occur"):
        assemble(encoder, [RowText("Who is it?", "I")], ["Nobody"],
                 prefixes=(), essence=ESSENCE, fact_token="subject_last")  # fmt: skip


# Prefixes


def test_prefixes_are_reproducible_and_of_the_asked_length() -> None:
    model, encoder = model_and_encoder("opt")
    wanted = [[5, 3], [9, 2]]
    found = sample_prefixes(model, encoder, wanted, seed=0)
    assert found == sample_prefixes(model, encoder, wanted, seed=0)
    assert found != sample_prefixes(model, encoder, wanted, seed=1)
    assert len(found) == 5
    assert all(prefix.endswith(". ") for prefix in found)
    assert sample_prefixes(model, encoder, [], seed=0) == []


def test_prefixes_are_the_model_s_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = model_and_encoder("llama")
    monkeypatch.setattr(prompts_module, "TOP", 1)  # the likeliest token, whatever is drawn
    ids = torch.tensor([[encoder.tokenizer.bos_token_id]])
    with torch.no_grad():
        while ids.shape[1] < 7:
            ids = torch.cat([ids, model.hf(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    expected = encoder.decode(ids[0, 1:]) + ". "
    assert sample_prefixes(model, encoder, [[7, 2]], seed=5) == [expected, expected]
