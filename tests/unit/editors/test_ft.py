"""FT against one-at-a-time fine-tuning of dense weights with torch's own optimisers."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.check import load_config
from configs.schema import EvaluateConfig
from editors import answer_descent
from editors.descent import descend
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune, at_prompt_end
from editors.none.editor import Unedited
from editors.options import BaseFacts
from editors.registry import with_current_names
from errors import ModelError
from models.deltas import Site, linear_weight
from models.editable import EditableModel
from models.rows import Answers, EditBatch
from models.sites import MLP_ROLES
from tests.builders import any_model, edit_batch
from tests.editors import editor_options, fine_tune

EDITS = (3, 4, 5, 6, 7)  # answers of 1, 1, 3, 3 and 2 tokens: sorting them is not its own inverse


def answers_of(model: EditableModel, editor: FineTune, batch: EditBatch) -> Tensor:
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    return edit.answer(model, batch.rows, state, batch.rows.answers())


def slow_reference(model: EditableModel, editor: FineTune, batch: EditBatch) -> Tensor:
    """Each edit alone: a copied model, dense weights, whole forward passes, torch's optimiser."""
    at = batch.rows.answers()
    found = None
    for edit, row in enumerate(batch.edit_rows):
        copied = copy.deepcopy(model)
        weights = [copied.linear(site).weight for site in editor.sites(copied)]
        for weight in weights:
            weight.requires_grad_(True)
        base = [weight.detach().clone() for weight in weights]
        options = editor.options
        kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
        optimiser = kind(weights, lr=options.lr, weight_decay=options.weight_decay)
        own = batch.rows.select(row[None])
        targets = own.answers()
        if editor.options.loss_at == "prompt_last":  # one position predicts all the answer's tokens
            end = targets.position[:1].expand_as(targets.position)
            targets = Answers(targets.row, end, targets.target, 1)
        for _ in range(options.steps):
            logits = copied(own, at=targets)
            loss = F.cross_entropy(logits, targets.target)
            conditions = []
            if options.stop_loss is not None:
                conditions.append(bool(loss < options.stop_loss))
            if options.stop_when_argmax:
                conditions.append(bool((logits.argmax(-1) == targets.target).all()))
            if conditions and all(conditions):
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if options.norm_constraint is not None:
                with torch.no_grad():
                    for weight, old in zip(weights, base, strict=True):
                        eps = options.norm_constraint
                        weight.copy_(weight.clamp(old - eps, old + eps))
        with torch.no_grad():
            logits = copied(batch.rows, at=at)
        found = torch.empty_like(logits) if found is None else found
        mine = batch.rows.edit_index[at.row] == edit
        found[mine] = logits[mine]
    assert found is not None
    return found


def with_steps(count: int, **changed: float) -> FineTune:
    """FT of so many steps; no YAML file may ask for none."""
    options = fine_tune(steps=1, **changed).options
    return FineTune(options.model_copy(update={"steps": count}))


SETTINGS = {
    "as run": fine_tune(steps=15, optimizer="adamw", lr=1e-3),
    "tabulated": fine_tune(steps=60, lr=5e-3, stop_loss=3.0, stop_when_argmax=True),
    "argmax": fine_tune(steps=60, lr=5e-3, stop_when_argmax=True),
    "loss": fine_tune(steps=60, lr=5e-3, stop_loss=3.0),
    "two layers": fine_tune(steps=15, lr=1e-3, layers=2, optimizer="adamw", weight_decay=0.1),
    "plain decay": fine_tune(steps=10, lr=1e-3, weight_decay=0.1),
    "constrained": fine_tune(steps=15, lr=5e-3, norm_constraint=8e-3, layers=2),
    "as published for FT-L": fine_tune(
        steps=60, lr=5e-3, stop_loss=3.0, norm_constraint=0.02, loss_at="prompt_last"
    ),
    "attention": fine_tune(
        steps=15, lr=5e-3, layers=1, optimizer="adamw", matrices=["value", "key", "query"]
    ),
    "attention and MLP": fine_tune(
        steps=15, lr=2e-3, layers=2, matrices=["attention_out", "value", "mlp_in"]
    ),
}
CASES = [
    (kind, name)
    for kind in ("llava", "gpt2", "opt")
    for name, setting in SETTINGS.items()
    if kind != "gpt2" or set(setting.options.matrices) <= set(MLP_ROLES)
]


@pytest.mark.parametrize(("kind", "inputs"), CASES)
def test_equals_the_slow_reference(kind: str, inputs: str) -> None:
    model, batch = any_model(kind), edit_batch(EDITS, pictures=kind == "llava")
    editor = SETTINGS[inputs]
    fast = answers_of(model, editor, batch)
    slow = slow_reference(model, editor, batch)
    unedited = model(batch.rows, at=batch.rows.answers())
    assert (fast - slow).abs().max() <= 1e-5 * slow.abs().max()
    assert (slow - unedited).abs().max() > 0.05


def test_edits_stop_by_themselves() -> None:
    model, batch = any_model("llama"), edit_batch(EDITS)
    state = model.prefix(batch.rows, 2)
    counts = range(0, 60, 5)
    deltas = []
    for count in counts:
        editor = with_steps(count, lr=1e-2, stop_loss=3.0)
        deltas.append(editor.edit(model, batch, state).deltas[model.last_sites(1)[0]].dense())
    moved = torch.stack(
        [(after != before).flatten(1).any(1) for before, after in pairwise(deltas)]
    ).sum(0)
    assert len(moved.unique()) > 1  # the edits take different numbers of steps
    assert int(moved.max()) < len(counts) - 1  # and all of them stop


@pytest.mark.parametrize("layers", [1, 2])
def test_an_edit_is_the_same_alone_and_in_a_batch(layers: int) -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = fine_tune(steps=40, lr=5e-3, stop_loss=3.0, layers=layers)
    together = editor.edit(model, batch, model.prefix(batch.rows, 3 - layers)).deltas
    for place, number in enumerate(EDITS):
        one = edit_batch([number], pictures=True)
        alone = editor.edit(model, one, model.prefix(one.rows, 3 - layers)).deltas
        for site, delta in alone.items():
            torch.testing.assert_close(
                together[site].dense()[place], delta.dense()[0], atol=2e-6, rtol=1e-4
            )


@pytest.mark.parametrize("layers", [1, 2])
def test_an_edit_is_the_same_however_many_run_side_by_side(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None leaves before the last step, so that one lot is as large as the next."""
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor, state = fine_tune(steps=5, lr=5e-3, layers=layers), model.prefix(batch.rows, 3 - layers)
    together = editor.edit(model, batch, state).deltas
    monkeypatch.setattr(answer_descent, "MOST_AT_ONCE", 2)
    for site, delta in editor.edit(model, batch, state).deltas.items():
        torch.testing.assert_close(together[site].dense(), delta.dense(), atol=2e-6, rtol=1e-4)


def test_no_weight_moves_further_than_the_constraint() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    state, bound = model.prefix(batch.rows, 2), 8e-3
    furthest = {}
    for constraint in (None, bound):
        editor = fine_tune(steps=12, lr=5e-3, norm_constraint=constraint)
        deltas = editor.edit(model, batch, state).deltas
        furthest[constraint] = [float(delta.dense().abs().max()) for delta in deltas.values()]
    assert min(furthest[None]) > 2 * bound
    assert furthest[bound] == pytest.approx([bound, bound])  # reached, not passed


def test_the_published_loss_reads_every_token_at_the_prompt_s_last_position() -> None:
    at = Answers(
        row=torch.tensor([1, 0, 0, 0, 1]), position=torch.tensor([8, 4, 5, 6, 7]),
        target=torch.tensor([10, 11, 12, 13, 14]), n_rows=2,
    )  # fmt: skip
    moved = at_prompt_end(at)
    assert moved.position.tolist() == [7, 4, 4, 4, 7]
    assert torch.equal(moved.target, at.target)


def test_ft_l_has_the_published_settings() -> None:
    editor = options("ft_l")
    assert (editor.variant, editor.steps, editor.optimizer, editor.lr) == ("ft_l", 25, "adam", 5e-4)
    assert (editor.norm_constraint, editor.loss_at, editor.stop_loss) == (5e-4, "prompt_last", 0.01)
    for other in ("ft", "ft_as_run"):
        assert options(other).norm_constraint is None
        assert options(other).loss_at == "answer"


def test_breadth_first_has_the_published_settings() -> None:
    editor = options("ft_bf")
    assert (editor.steps, editor.minibatch, editor.lr, editor.stop_loss) == (25, 100, 5e-4, None)
    assert editor.breadth_first
    assert (editor.layer, editor.layers, editor.matrices) == (22, 1, ["mlp_out"])
    assert editor.teach_end
    for other in ("ft", "ft_as_run", "ft_l"):
        assert not options(other).breadth_first
        assert not options(other).teach_end


def test_matrices_are_those_of_the_layers_that_end_with_one() -> None:
    model = any_model("llava")
    two = fine_tune(layers=2, layer=1, matrices=["mlp_out"])
    assert two.sites(model) == [Site(0, "mlp_out"), Site(1, "mlp_out")]
    assert two.first_layer(model) == 0
    assert fine_tune(layer=1).sites(model) == [Site(1, "mlp_out"), Site(1, "mlp_in")]
    assert fine_tune(layers=2).sites(model) == model.last_sites(2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layer": 3}, r"editor\.layer=3: .* layers 0 to 2; give a layer in that range, or null"),
        ({"layer": 1, "layers": 3}, r"editor\.layers=3 with editor\.layer=1: no more than 2"),
        ({"layers": 4}, r"editor\.layers=4: the base model has 3"),
    ],
)
def test_layers_that_are_not_there_are_refused_before_weights_load(
    changed: dict[str, int], message: str
) -> None:
    facts = BaseFacts("llama", 97, 3, 16)
    editor_options("ft", layer=2, layers=3).check_base(facts)
    with pytest.raises(ModelError, match=message):
        editor_options("ft", **changed).check_base(facts)


def test_options_of_before_there_were_turns_are_understood() -> None:
    current = options("ft").model_dump()
    before = {
        key: value for key, value in current.items()
        if key not in ("layer", "matrices", "breadth_first", "minibatch", "teach_end")
    }  # fmt: skip
    assert with_current_names(before) == current


def test_results_keep_the_variants_apart() -> None:
    names = ("ft", "ft_as_run", "ft_l", "ft_bf")
    assert tuple(options(name).label for name in names) == names


def options(name: str) -> FtOptions:
    config = load_config("evaluate", [f"editor={name}"])
    assert isinstance(config, EvaluateConfig)
    assert isinstance(config.editor, FtOptions)
    return config.editor


def test_the_base_is_untouched() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answers_of(model, fine_tune(steps=3, lr=1e-2), batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())


def test_weight_decay_defaults_are_torch_s() -> None:
    assert fine_tune(steps=1, lr=1.0).options.weight_decay == 0
    assert fine_tune(steps=1, lr=1.0, optimizer="adamw").options.weight_decay == 0.01


def test_no_steps_change_nothing() -> None:
    model, batch = any_model("llama"), edit_batch(EDITS)
    state = model.prefix(batch.rows, 2)
    edit = with_steps(0, lr=1.0).edit(model, batch, state)
    at = batch.rows.answers()
    assert torch.equal(edit.answer(model, batch.rows, state, at), model.suffix(state, at=at))


def test_divergence_is_an_error() -> None:
    def judge(deltas: list[Tensor], at_work: Tensor) -> tuple[Tensor, Tensor]:
        losses = (deltas[0] * torch.tensor([[1.0], [20.0]])[at_work] + 1).log().sum(1)
        return losses, torch.zeros(2, dtype=torch.bool)

    with pytest.raises(
        ModelError, match=r"the descent diverged: the loss of 1 edit\(s\) is not finite at step 2"
    ):
        descend([torch.zeros(2)], 2, judge, steps=3, lr=0.1)


def test_the_unedited_model_answers_as_before() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = Unedited()
    state = model.prefix(batch.rows, editor.first_layer(model))
    at = batch.rows.answers()
    edit = editor.edit(model, batch, state)
    answers = edit.answer(model, batch.rows, state, at)
    assert torch.equal(answers, model.suffix(state, at=at))
    torch.testing.assert_close(answers, model(batch.rows, at=at))


def test_conv1d_weights_are_read_as_out_by_in() -> None:
    model = any_model("gpt2")
    for site in model.last_sites(1):
        linear = model.linear(site)
        x = torch.randn(5, linear.nx)
        expected = x @ linear_weight(linear).mT + linear.bias
        torch.testing.assert_close(linear(x), expected)
