"""Many edits in one update by descent, against autograd over whole passes of each edit's rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from editors.base import DeltaEdit
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune, at_prompt_end
from editors.lora.editor import Lora
from editors.options import DescentOptions
from editors.teaching import Teaching
from editors.together import Minibatches, SharedParameters
from editors.turn import Turn
from models.budget import MemoryBudget
from models.deltas import Delta, Deltas, LowRankDelta, Site, linear_weight
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, Rows
from tests.builders import Prompt, any_model, edit_batch, edited, random_deltas, rows_of
from tests.editors import fine_tune, lora
from tests.turns import turn_of

EXACT = {"rtol": 0.0, "atol": 1e-10}
Descending = FineTune | Lora
Loss = Callable[[Mapping[str, Tensor]], Tensor]


def of_several_rows() -> EditBatch:
    """Three edits that two, one and three rows teach, and a probe of each."""
    prompts, taught = list[Prompt](), list[int]()
    for edit, n_rows in enumerate((2, 1, 3)):
        for row in range(n_rows):
            taught.append(len(prompts))
            prompts.append(Prompt((5, 6, 7, 20 + edit, *range(40, 43 + row)), 1 + row, edit))
        prompts.append(Prompt((5, 6, 9, 9 + edit, 12), 2, edit))
    return EditBatch(
        rows=rows_of(prompts), edit_rows=torch.tensor(taught), probes={}, edit_ids=(0, 1, 2),
        subjects=("a", "b", "c"),
    )  # fmt: skip


PARTS = (edit_batch((3, 4)), of_several_rows(), edit_batch((5, 6, 7, 8)), edit_batch((9,)))


def double_precision(kind: str) -> EditableModel:
    return any_model(kind).double()


def taught_rows(parts: Sequence[EditBatch]) -> list[list[Rows]]:
    """Of each edit the rows that teach it, each by itself."""
    edits = list[list[Rows]]()
    for part in parts:
        whose = part.rows.edit_index[part.edit_rows]
        for edit in range(len(part)):
            edits.append([part.rows.select(row[None]) for row in part.edit_rows[whose == edit]])
    return edits


def is_breadth_first(options: DescentOptions) -> TypeGuard[FtOptions]:
    return isinstance(options, FtOptions) and options.breadth_first


def slow(
    model: EditableModel, editor: Descending, parts: Sequence[EditBatch]
) -> tuple[dict[Site, Tensor], int]:
    """Dense weights of a copy, whole forward passes, torch's optimisers: deltas and steps."""
    options, copied = editor.options, copy.deepcopy(model)
    parameters, weights_of = trained_weights(copied, editor)
    start = [one.detach().clone() for one in parameters]
    kind = torch.optim.AdamW if getattr(options, "decoupled", False) else torch.optim.Adam
    decay = getattr(options, "weight_decay", 0.0)
    optimiser = kind(parameters, lr=options.lr, weight_decay=decay)
    edits, steps = taught_rows(parts), 0
    minibatch = options.minibatch if is_breadth_first(options) else len(edits)
    groups = [edits[i : i + minibatch] for i in range(0, len(edits), minibatch)]
    for _ in range(options.steps):
        before = steps
        for group in groups:
            losses, done = list[Tensor](), True
            for rows in group:
                of_rows = [judged(copied, weights_of(), row, options) for row in rows]
                losses.append(torch.stack([loss for loss, _ in of_rows]).mean())
                done &= all(is_done for _, is_done in of_rows)
            if done:
                continue
            optimiser.zero_grad()
            torch.stack(losses).mean().backward()
            optimiser.step()
            steps += 1
            if (eps := getattr(options, "norm_constraint", None)) is not None:
                for one, old in zip(parameters, start, strict=True):
                    one.data = one.data.clamp(old - eps, old + eps)
        if steps == before:
            break
    final = weights_of()
    deltas = {}
    for site in editor.sites(model):
        linear, was = copied.linear(site), linear_weight(model.linear(site))
        weight = final[weight_name(copied, site)].detach()
        deltas[site] = (weight.mT if isinstance(linear, Conv1D) else weight) - was
    return deltas, steps


def weight_name(model: EditableModel, site: Site) -> str:
    weight = model.linear(site).weight
    return next(name for name, one in model.named_parameters() if one is weight)


def trained_weights(
    model: EditableModel, editor: Descending
) -> tuple[list[Tensor], Callable[[], dict[str, Tensor]]]:
    """What is trained, and the weights that are made of it."""
    names = {site: weight_name(model, site) for site in editor.sites(model)}
    base = {site: model.linear(site).weight.detach() for site in names}
    if isinstance(editor, FineTune):
        whole = {site: base[site].clone().requires_grad_() for site in names}
        return list(whole.values()), lambda: {names[site]: whole[site] for site in names}
    adapters = editor.adapters(model)
    a = {site: one.a.clone().requires_grad_() for site, one in adapters.items()}
    b = {site: one.b.clone().requires_grad_() for site, one in adapters.items()}

    def weights() -> dict[str, Tensor]:
        made = {}
        for site, one in adapters.items():
            moved = one.scaling * b[site] @ a[site]
            turned = isinstance(model.linear(site), Conv1D)
            made[names[site]] = base[site] + (moved.mT if turned else moved)
        return made

    return [tensor for site in adapters for tensor in (a[site], b[site])], weights


def judged(
    model: EditableModel, weights: Mapping[str, Tensor], row: Rows, options: Any
) -> tuple[Tensor, bool]:
    """The loss of a row, and whether it has learned enough."""
    at = row.answers()
    if getattr(options, "loss_at", "answer") == "prompt_last":
        at = at_prompt_end(at)
    logits = functional_call(model, dict(weights), (row,), {"at": at})
    loss = F.cross_entropy(logits, at.target)
    conditions = []
    if options.stop_loss is not None:
        conditions.append(bool(loss < options.stop_loss))
    if options.stop_when_argmax:
        conditions.append(bool((logits.argmax(-1) == at.target).all()))
    return loss, bool(conditions) and all(conditions)


SETTINGS: dict[str, Descending] = {
    "ft, stops": fine_tune(steps=24, lr=2e-2, stop_loss=4.2),
    "ft, two layers": fine_tune(steps=8, lr=3e-3, layers=2, optimizer="adamw", weight_decay=0.1),
    "ft_l": fine_tune(steps=10, lr=5e-3, norm_constraint=8e-3, loss_at="prompt_last"),
    "breadth first": fine_tune(steps=4, lr=5e-3, breadth_first=True, minibatch=3),
    "breadth first, stops": fine_tune(
        steps=24, lr=2e-2, breadth_first=True, minibatch=4, stop_loss=4.5
    ),
    "breadth first, one matrix": fine_tune(
        steps=4,
        lr=5e-3,
        breadth_first=True,
        minibatch=3,
        layer=1,
        matrices=["mlp_out"],
        optimizer="adamw",
    ),
    "breadth first, two layers": fine_tune(
        steps=3, lr=5e-3, breadth_first=True, minibatch=1, layer=1, layers=2, norm_constraint=0.01
    ),
    "lora, stops": lora(rank=4, alpha=8, layers=1, steps=30, lr=4e-2, stop_loss=4.5),
    "lora, two layers": lora(rank=3, alpha=6, layers=2, steps=8, lr=1e-2),
}


def update_of(
    model: EditableModel, editor: Descending, parts: Sequence[EditBatch] = PARTS
) -> DeltaEdit:
    return editor.edit_together(model, turn_of(model, editor, parts), None)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_small_share_of_a_gradient_is_not_lost_in_float16(layers: int) -> None:
    """One edit of 8,192 moves what they share by as much as its gradient says."""
    model, editor = any_model("opt").half(), lora(rank=4, alpha=8, layers=layers)
    adapters = editor.adapters(model)
    start = [matrix for one in adapters.values() for matrix in (one.a, one.b)]

    def as_deltas(moves: Sequence[Tensor]) -> dict[Site, Delta]:
        pairs = zip(adapters.items(), moves[::2], moves[1::2], strict=True)
        return {site: one.delta(a, b) for (site, one), a, b in pairs}

    turn = turn_of(model, editor, [edit_batch((3, 4, 5))])
    minibatches = Minibatches(model, turn, Teaching.of, editor.sites(model))
    (answers,) = (piece for _, pieces in minibatches for piece in pieces)

    def gradients(share: float) -> list[Tensor | None]:
        learner = SharedParameters(start, as_deltas, editor.options)
        learner.learn(answers, share)
        return [move.grad for move in learner.moves]

    for whole, part in zip(gradients(1.0), gradients(2.0**-13), strict=True):
        assert whole is not None
        assert part is not None
        assert torch.equal(part * 2.0**13, whole)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["opt", "gpt2"])
def test_equals_autograd_over_all_edits(kind: str, name: str) -> None:
    model, editor = double_precision(kind), SETTINGS[name]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update = update_of(model, editor)
    expected, steps = slow(model, editor, PARTS)
    assert set(update.deltas) == set(expected)
    for site, delta in update.deltas.items():
        assert float(expected[site].abs().max()) > 1e-3
        torch.testing.assert_close(delta.dense()[0], expected[site], **EXACT)
    minibatch = editor.options.minibatch if is_breadth_first(editor.options) else 10
    assert (steps < editor.options.steps * -(-10 // minibatch)) == ("stops" in name)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_maps_that_run_at_all_tokens_of_the_last_layer() -> None:
    model = double_precision("opt")
    editor = fine_tune(
        steps=3, lr=5e-3, breadth_first=True, minibatch=4, matrices=["value", "mlp_out"]
    )
    expected, _ = slow(model, editor, PARTS)
    for site, delta in update_of(model, editor).deltas.items():
        torch.testing.assert_close(delta.dense()[0], expected[site], **EXACT)


@pytest.mark.parametrize("name", SETTINGS)
def test_of_one_edit_it_is_the_edit_alone(name: str) -> None:
    model, editor = double_precision("opt"), SETTINGS[name]
    for batch in (edit_batch((5,)), only_edit(of_several_rows(), 2)):
        state = model.prefix(batch.rows, editor.first_layer(model), packed=True)
        alone = editor.edit(model, batch, state)
        update = update_of(model, editor, [batch])
        for site, delta in alone.deltas.items():
            torch.testing.assert_close(update.deltas[site].dense(), delta.dense(), **EXACT)


def only_edit(batch: EditBatch, edit: int) -> EditBatch:
    rows = (batch.rows.edit_index == edit).nonzero().squeeze(1)
    own = batch.rows.select(rows)
    taught = torch.isin(rows, batch.edit_rows).nonzero().squeeze(1)
    own.edit_index.zero_()
    return EditBatch(own, taught, {}, (edit,), ("a",))


@pytest.mark.parametrize("name", ["ft, two layers", "lora, two layers"])
def test_earlier_edits_are_under_it_and_no_part_of_it(name: str) -> None:
    model, editor = double_precision("opt"), SETTINGS[name]
    earlier = DeltaEdit(
        {
            site: LowRankDelta(delta.inputs.double(), delta.outputs.double())
            for site, delta in random_deltas(model, layers=2, dense=False, n_edits=1).items()
        }
    )
    turn = turn_of(model, editor, PARTS)
    with earlier.in_place(model):
        update = editor.edit_together(model, turn, earlier)
    expected, _ = slow(edited(model, earlier.deltas, 0), editor, PARTS)
    for site, delta in update.deltas.items():
        torch.testing.assert_close(delta.dense()[0], expected[site], **EXACT)


@pytest.mark.parametrize(
    "name", ["ft, stops", "ft, two layers", "breadth first, one matrix", "lora, two layers"]
)
def test_in_no_memory_edits_are_read_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, editor = double_precision("opt"), SETTINGS[name]
    update, answered, readings = update_of(model, editor), list[int](), 0
    suffix, finish = model.suffix, model.finish_answers

    def counted_suffix(state: PrefixState, **asked: Any) -> Tensor:
        answered.append(asked["at"].n_rows)
        return suffix(state, **asked)

    def counted_finish(hidden: Tensor, deltas: Deltas, edit_index: Tensor) -> Tensor:
        answered.append(-len(hidden))
        return finish(hidden, deltas, edit_index)

    monkeypatch.setattr(model, "budget", MemoryBudget(1))
    monkeypatch.setattr(model, "suffix", counted_suffix)
    monkeypatch.setattr(model, "finish_answers", counted_finish)
    turn = turn_of(model, editor, PARTS)

    def read() -> Iterator[tuple[EditBatch, PrefixState]]:
        nonlocal readings
        readings += 1
        yield from turn

    again = editor.edit_together(model, Turn(len(turn), read), None)
    at_last_layer = editor.first_layer(model) == model.n_layers - 1
    assert readings == (1 if at_last_layer else editor.options.steps)
    # One edit at a time, of at most three rows and six answer tokens.
    assert max(answered) <= 3 if not at_last_layer else min(answered) >= -6
    for site, delta in update.deltas.items():
        torch.testing.assert_close(again.deltas[site].dense(), delta.dense(), **EXACT)
