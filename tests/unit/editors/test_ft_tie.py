"""FT's tie to the picture, against one edit at a time on dense weights and whole passes."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from configs.check import load_config
from configs.editing_rules import fact_problem
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.sources.tmke import read_tmke
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from editors.ft.tie import tie_distances
from editors.turn import Turn
from errors import ConfigError, DataError, ModelError
from models.editable import EditableModel
from models.hooks import pre_hook
from models.rows import Answers, EditBatch, Rows
from runner.assembly import taught_scenario
from tests.builders import VOCABULARY, Prompt, any_model, rows_of
from tests.editors import editor_options, fine_tune
from tests.unit.datamodules.test_sources import RECORD, write


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return read_tmke(write(tmp_path / "test.json", RECORD).parent).records("test")[0]


ANSWERS = (1, 3, 3, 2)  # tokens of the edits' answers


def tied_batch() -> EditBatch:
    """Of each edit its question in text and one about a picture, with one answer; and a probe."""
    prompts, draw = list[Prompt](), random.Random(7)
    for edit, n_answer in enumerate(ANSWERS):
        text, picture, probe, answer = (
            tuple(draw.randrange(4, VOCABULARY) for _ in range(n)) for n in (5, 4, 6, n_answer)
        )
        prompts += [
            Prompt((*text, *answer), n_answer, edit, None),
            Prompt((*picture, *answer), n_answer, edit, edit),
            Prompt(probe, 2, edit, 40 + edit),
        ]
    first = 3 * torch.arange(len(ANSWERS))
    return EditBatch(
        rows=rows_of(prompts),
        edit_rows=torch.stack([first, first + 1], 1).flatten(),
        probes={"probe": first + 2},
        edit_ids=tuple(range(len(ANSWERS))),
        subjects=tuple(f"subject {edit}" for edit in range(len(ANSWERS))),
    )


def answers_of(model: EditableModel, editor: FineTune, batch: EditBatch) -> Tensor:
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    return edit.answer(model, batch.rows, state, batch.rows.answers())


def seen_at_the_norm(model: EditableModel, rows: Rows, at: Answers) -> tuple[Tensor, Tensor]:
    """What enters the final norm at the answer tokens, of whole passes, and the logits there."""
    kept: list[Tensor] = []
    with pre_hook(model.decoder.norm, lambda _, args, __: kept.append(args[0])):
        logits = model(rows, at=at)
    (hidden,) = kept
    if hidden.dim() == 3:  # of all tokens
        hidden = hidden[at.row, at.position]
    return hidden, logits


def slow_reference(model: EditableModel, editor: FineTune, batch: EditBatch) -> Tensor:
    """Each edit alone: a copied model, dense weights, whole passes, torch's optimiser."""
    options, at = editor.options, batch.rows.answers()
    logits = model(batch.rows, at=at).detach()
    for edit, (text, picture) in enumerate(batch.edit_rows.view(-1, 2)):
        copied = copy.deepcopy(model)
        weights = [copied.linear(site).weight.requires_grad_(True) for site in editor.sites(copied)]
        adam = torch.optim.Adam(weights, lr=options.lr)
        rows = [batch.rows.select(row[None]) for row in (text, picture)]
        answers = [of.answers() for of in rows]
        before = [
            seen_at_the_norm(model, *of)[0].detach() for of in zip(rows, answers, strict=True)
        ]
        for _ in range(options.steps):
            (in_text, text_logits), (shown, _) = (
                seen_at_the_norm(copied, *of) for of in zip(rows, answers, strict=True)
            )
            loss = F.cross_entropy(text_logits, answers[0].target)
            if options.stop_loss is not None and loss < options.stop_loss:
                break
            changes = [after - was for after, was in zip((in_text, shown), before, strict=True)]
            size = changes[0].detach().square().sum(-1).clamp_min(1e-6)
            tie = ((changes[1] - changes[0]).square().sum(-1) / size).mean()
            adam.zero_grad()
            (loss + (options.tie or 0.0) * tie).backward()
            adam.step()
        with torch.no_grad():
            after = copied(batch.rows, at=at)
        mine = batch.rows.edit_index[at.row] == edit
        logits[mine] = after[mine]
    return logits


SETTINGS = {
    "tied": {"steps": 8, "lr": 2e-3, "tie": 3.0},
    "until they are done": {"steps": 12, "lr": 1e-2, "tie": 0.5, "stop_loss": 2.0},
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("kind", "setting"), [("llava", "tied"), ("blip2", "until they are done")])
def test_equals_the_slow_reference(kind: str, setting: str) -> None:
    model, batch = any_model(kind).double(), tied_batch()
    editor = fine_tune(**SETTINGS[setting])
    fast, slow = answers_of(model, editor, batch), slow_reference(model, editor, batch)
    assert (fast - slow).abs().max() <= 1e-8 * slow.abs().max()
    alone = replace(batch, edit_rows=batch.edit_rows[::2])
    without = answers_of(model, fine_tune(**SETTINGS[setting] | {"tie": None}), alone)
    assert (without - slow).abs().max() > 1e-2, "the tie moves nothing: this shows nothing"


def test_what_changes_about_the_picture_comes_nearer_to_what_changes_in_text() -> None:
    model, batch = any_model("llava"), tied_batch()
    at = batch.rows.select(batch.edit_rows).answers()

    def distances(tie: float | None) -> Tensor:
        editor = fine_tune(steps=30, lr=2e-3, tie=tie)
        rows = batch.edit_rows if tie else batch.edit_rows[::2]
        state = model.prefix(batch.rows, editor.first_layer(model))
        edit = editor.edit(model, replace(batch, edit_rows=rows), state)
        hidden = model.answer_state(state.select(batch.edit_rows), at)
        edits = torch.arange(len(batch)).repeat_interleave(2)[at.row]
        change = model.answer_output(hidden, edit.deltas, edits) - model.answer_output(hidden)
        return tie_distances(change, at)

    with torch.no_grad():
        assert bool((distances(10.0) < 0.5 * distances(None)).all())


def test_distances_are_relative_to_the_change_in_text() -> None:
    """Two edits; the second one's picture question has a token less, which is not compared."""
    at = Answers(
        row=torch.tensor([0, 0, 1, 1, 2, 2, 3]),
        position=torch.tensor([4, 5, 8, 9, 3, 4, 7]),
        target=torch.tensor([1, 2, 1, 2, 3, 4, 3]),
        n_rows=4,
    )
    change = torch.tensor(
        [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 2.0], [2.0, 0.0], [9.0, 9.0], [0.0, 0.0]]
    )
    assert tie_distances(change, at).tolist() == [0.5, 1.0]


def test_a_turn_of_one_edit_is_the_single_edit() -> None:
    model, whole = any_model("llava"), tied_batch()
    rows = whole.rows.select(torch.tensor([0, 1]))
    batch = EditBatch(rows, torch.tensor([0, 1]), {}, (0,), ("subject 0",))
    editor = fine_tune(steps=10, lr=2e-3, tie=3.0)
    state = model.prefix(rows, editor.first_layer(model))
    single = editor.edit(model, batch, state).deltas
    turn = editor.edit_together(model, Turn(1, lambda: ((batch, state),)), None).deltas
    for site, delta in single.items():
        torch.testing.assert_close(turn[site].dense(), delta.dense())
        assert delta.dense().abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"layers": 2}, "layers"),
        ({"layer": 1}, "layer"),
        ({"matrices": ["mlp_in", "value"]}, "matrices"),
        ({"loss_at": "prompt_last"}, "loss_at"),
    ],
)
def test_maps_that_other_tokens_read_are_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=rf"differing: {named}\), or tie=null"):
        editor_options("ft", tie=1.0, **changed)
    assert editor_options("ft", **changed).tie is None
    with pytest.raises(ValidationError, match="greater than 0"):
        editor_options("ft", tie=0.0)


def test_an_edit_that_is_tied_comes_with_its_picture(record: Record) -> None:
    tied, plain = editor_options("ft", tie=2.0), editor_options("ft")
    scenario = SCENARIOS["transitive"]
    text, picture = taught_scenario(scenario, tied).edit(record)
    assert (text,) == taught_scenario(scenario, plain).edit(record)
    assert picture == scenario.probes["reliability_s"](record)
    assert picture.image in taught_scenario(SCENARIOS["unimodal"], tied).images(record)
    ended = taught_scenario(scenario, editor_options("ft", tie=2.0, teach_end=True)).edit(record)
    assert [prompt.ended for prompt in ended] == [True, True]


def test_a_record_without_a_picture_is_refused_before_a_model_loads(record: Record) -> None:
    tied: FtOptions = editor_options("ft", tie=2.0)
    tied.check_records([record], ())
    bare = record.model_copy(update={"image": None})
    with pytest.raises(DataError, match=r"record 1: editor.tie=2.0: .* has no picture of"):
        tied.check_records([record, bare], ())
    fact = record.knowledge_edit.model_copy(update={"image_question": None})
    asked = record.model_copy(update={"knowledge_edit": fact})
    with pytest.raises(DataError, match="has no question about a picture of"):
        tied.check_records([asked], ())
    editor_options("ft").check_records([bare], ())


@pytest.mark.parametrize("scenario", ["multimodal", "joint"])
def test_edits_that_show_their_picture_are_not_tied(scenario: str) -> None:
    words = ["editor=ft", "editor.tie=1", "model=llava_tiny", "data=world"]
    load_config("evaluate", [*words, "scenario=transitive"])
    with pytest.raises(ConfigError, match=f"editor.tie with scenario={scenario}"):
        load_config("evaluate", [*words, f"scenario={scenario}"])


def test_one_typed_question_cannot_be_tied() -> None:
    problem = fact_problem(editor_options("ft", tie=1.0), "Who?", None, has_image=False)
    assert problem is not None
    assert "set editor.tie=null" in problem
    assert fact_problem(editor_options("ft"), "Who?", None, has_image=False) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_tie_in_half_precision_is_refused(dtype: torch.dtype) -> None:
    """What an edit changes is smaller there than the rounding of the states."""
    model, batch = any_model("llava").to(dtype), tied_batch()
    editor = fine_tune(tie=1.0)
    with pytest.raises(ModelError, match=r"editor\.tie=1\.0 .*float16.*model\.dtype=float32"):
        editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
