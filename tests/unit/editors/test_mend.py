"""MEND the editor: networks per shape, independent edits, statistics, and the outer losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from editors.base import DeltaEdit
from editors.mend.config import MendOptions
from editors.mend.editor import Mend, build
from editors.mend.statistics import RunningStatistics
from editors.objective import Objective
from errors import ConfigError, ModelError
from metrics.functional import kl_divergence
from models.deltas import LowRankDelta, Site
from models.editable import EditableModel
from models.rows import EditBatch
from models.sites import ATTENTION_ROLES
from tests.builders import MEND_OPTIONS, any_model, edit_batch, inputs
from tests.editors import mend


def trained(model: EditableModel, **options: object) -> Mend:
    """An editor with statistics and non-trivial networks, in eval mode."""
    torch.manual_seed(5)
    editor = mend(model, layers=2, rank=8, edit_lr=1e-2, v_init_std=0.1, **options)
    with torch.no_grad():
        for name, parameter in editor.named_parameters():
            if name.endswith((".u", ".bias", ".scale", ".shift")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    pictures = model.family == "llava"
    make_edit(editor.train(), model, edit_batch(range(20, 26), pictures=pictures))
    return editor.eval()


def make_edit(editor: Mend, model: EditableModel, batch: EditBatch) -> DeltaEdit:
    return editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))


def test_sites_and_networks_follow_the_published_order() -> None:
    model = any_model("llava")
    editor = mend(model, layers=2, rank=8)
    assert editor.sites == [
        Site(1, "mlp_out"), Site(1, "mlp_in"), Site(2, "mlp_out"), Site(2, "mlp_in"),
    ]  # fmt: skip
    assert set(editor.transforms) == {"24x16", "16x24"}
    assert editor.edit_lr.shape == (4,)
    assert editor.transforms["24x16"].mlp.layers[0].scale.shape == (2, 40)
    apart = mend(model, layers=2, rank=8, shared=False)
    assert set(apart.transforms) == {"mlp_out_1", "mlp_in_1", "mlp_out_2", "mlp_in_2"}
    assert apart.transforms["mlp_in_1"].mlp.layers[0].scale is None


def test_the_state_dict_is_the_editor_alone() -> None:
    model = any_model("llava")
    editor = trained(model)
    names = set(editor.state_dict())
    assert all(name == "edit_lr" or name.startswith("transforms.") for name in names)
    for part in ("count", "mean", "squares"):
        assert f"transforms.24x16.statistics.{part}" in names
    copied = mend(model, layers=2, rank=8)
    copied.load_state_dict(editor.state_dict())
    batch = edit_batch([1, 2], pictures=True)
    expected, got = make_edit(editor, model, batch), make_edit(copied.eval(), model, batch)
    for site, delta in expected.deltas.items():
        assert torch.equal(got.deltas[site].dense(), delta.dense())


ALONE: list[dict[str, Any]] = [{}, {"shared": False}, {"combine": False}]
ATTENTION: dict[str, Any] = {"matrices": [*ATTENTION_ROLES]}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, options) for kind in ("llava", "gpt2", "opt") for options in ALONE),
        ("llava", ATTENTION),
        ("opt", ATTENTION),
    ],
)
def test_an_edit_is_the_same_alone_and_in_a_batch(kind: str, options: dict[str, Any]) -> None:
    model, pictures = any_model(kind), kind == "llava"
    editor = trained(model, **options)
    numbers = (3, 8, 5)
    together = make_edit(editor, model, edit_batch(numbers, pictures=pictures)).deltas
    for place, number in enumerate(numbers):
        alone = make_edit(editor, model, edit_batch([number], pictures=pictures)).deltas
        for site, delta in alone.items():
            expected = delta.dense()[0]
            assert expected.abs().max() > 0
            difference = (together[site].dense()[place] - expected).abs().max()
            assert difference <= 2e-5 * expected.abs().max()


def test_only_tokens_with_a_gradient_are_kept() -> None:
    model = any_model("llava")
    editor, batch = trained(model), edit_batch([3, 8], pictures=True, extra=6)
    deltas = make_edit(editor, model, batch).deltas
    own = batch.rows.select(batch.edit_rows)
    longest_answer = int(own.answer_mask.sum(1).max())
    before_last_target = int((own.attention_mask.sum(1) - 1).max())
    for site, delta in deltas.items():
        assert isinstance(delta, LowRankDelta)
        expected = longest_answer if site.layer == 2 else before_last_target
        assert delta.inputs.shape[:2] == (2, expected)


def test_sign_turns_the_step_round() -> None:
    model, batch = any_model("llama"), edit_batch([1, 2])
    plus, minus = trained(model, sign="published"), trained(model, sign="descent")
    up, down = make_edit(plus, model, batch).deltas, make_edit(minus, model, batch).deltas
    for site, delta in up.items():
        torch.testing.assert_close(down[site].dense(), -delta.dense())


def test_an_untrained_editor_says_so() -> None:
    model = any_model("llama")
    editor = mend(model, layers=1, rank=4)
    assert not editor.ready
    with pytest.raises(ModelError, match=r"seen 0 token\(s\).*never trained"):
        make_edit(editor.eval(), model, edit_batch([1]))
    make_edit(editor.train(), model, edit_batch([1, 2, 4]))
    assert editor.ready
    editor.eval().transforms["24x16"].statistics.mean[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        make_edit(editor, model, edit_batch([1]))
    with pytest.raises(ModelError, match="no gradient factors"):
        editor.deltas({})


def test_eval_mode_leaves_the_statistics_alone() -> None:
    model = any_model("llama")
    editor = trained(model)
    before = {name: value.clone() for name, value in editor.state_dict().items()}
    make_edit(editor, model, edit_batch([1, 2]))
    assert all(torch.equal(value, before[name]) for name, value in editor.state_dict().items())


def test_gradients_reach_every_parameter() -> None:
    model, batch = any_model("llava"), edit_batch([2, 4], pictures=True)
    editor = trained(model).train()
    state = model.prefix(batch.rows, 1)
    objective = Objective("image_text", MEND_OPTIONS["weights"])
    objective(model, editor.edit(model, batch, state), batch, state).total.backward()
    for name, parameter in editor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in model.parameters())


def test_statistics_refuse_a_single_token() -> None:
    statistics = RunningStatistics(3)
    statistics.update(torch.ones(1, 3))
    with pytest.raises(ModelError, match=r"seen 1 token\(s\)"):
        statistics.normalise(torch.ones(1, 3))
    statistics.update(torch.ones(0, 3))
    assert int(statistics.count) == 1


def test_build_takes_every_option() -> None:
    model = any_model("llama")
    editor = build(MendOptions.model_validate(MEND_OPTIONS), model, inputs())
    assert editor.sign == -1
    assert editor.edit_lr.tolist() == pytest.approx([1e-2] * 4)
    layer = editor.transforms["24x16"].mlp.layers[0]
    assert layer.v.shape == (8, 40)
    assert float(layer.v.detach().std()) == pytest.approx(0.1, rel=0.2)


def naive(
    model: EditableModel, edit: DeltaEdit, batch: EditBatch, probe: str, *, kl: bool
) -> Tensor:
    """One probe row at a time, whole forward passes."""
    values = []
    for row in batch.probes[probe]:
        one = batch.rows.select(row[None])
        at = one.answers()
        after = model(one, deltas=edit.deltas, at=at)
        if kl:
            before = model(one, at=at).softmax(-1)
            values.append((before * (before.log() - after.log_softmax(-1))).sum(-1).mean())
        else:
            values.append(F.cross_entropy(after, at.target))
    return torch.stack(values)


def test_text_objective_is_the_sum_of_its_terms() -> None:
    model, batch = any_model("llama"), edit_batch([1, 2, 4])
    state = model.prefix(batch.rows, 1)
    edit = make_edit(trained(model), model, batch)
    weights = {"reliability": 0.5, "generality": 0.1, "portability": 0.2, "locality": 2.0}
    loss = Objective("text", weights)(model, edit, batch, state)
    assert len(batch.probes["portability"]) == 2  # edit 1 has no one-hop question
    kl = [naive(model, edit, batch, f"locality_{kind}", kl=True) for kind in ("far", "near")]
    expected = {
        "reliability": naive(model, edit, batch, "reliability", kl=False).mean(),
        "generality": naive(model, edit, batch, "generality", kl=False).mean(),
        "portability": naive(model, edit, batch, "portability", kl=False).mean(),
        "locality": torch.cat(kl).mean(),
    }
    assert loss.terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(loss.terms[name], value, atol=1e-6, rtol=1e-4)
    total = sum(weights[name] * value for name, value in expected.items())
    torch.testing.assert_close(loss.total, total, atol=1e-6, rtol=1e-4)
    assert loss.rows == {"reliability": 3, "generality": 3, "portability": 2, "locality": 6}


def test_image_objective_has_both_locality_terms_and_the_other_picture() -> None:
    model, batch = any_model("llava"), edit_batch([1, 2], pictures=True)
    state = model.prefix(batch.rows, 1)
    edit = make_edit(trained(model), model, batch)
    loss = Objective("image_text", MEND_OPTIONS["weights"])(model, edit, batch, state)
    assert loss.terms.keys() == {"generality", "image", "locality_t", "locality_i"}
    image = naive(model, edit, batch, "reliability_u", kl=False).mean()
    torch.testing.assert_close(loss.terms["image"], image, atol=1e-6, rtol=1e-4)
    pictures = naive(model, edit, batch, "locality_i_far", kl=True).mean()
    torch.testing.assert_close(loss.terms["locality_i"], pictures, atol=1e-6, rtol=1e-4)
    total = 0.1 * (loss.terms["generality"] + image) + loss.terms["locality_t"] + pictures
    torch.testing.assert_close(loss.total, total, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("llama", {"locality": ("locality_far", "locality_near")}),
        ("llava", {"locality_t": ("locality_t_far",), "locality_i": ("locality_i_far",)}),
    ],
)
def test_kl_over_all_positions_is_offered(kind: str, terms: dict[str, tuple[str, ...]]) -> None:
    """Prompt, picture slots and answer, and no padding."""
    pictures = kind == "llava"
    model, batch = any_model(kind), edit_batch([1, 2], extra=3, pictures=pictures)
    state = model.prefix(batch.rows, 1)
    edit = make_edit(trained(model), model, batch)
    questions = "image_text" if pictures else "text"
    loss = Objective(questions, {"locality": 1.0}, "all")(model, edit, batch, state)
    assert loss.terms.keys() == terms.keys()
    for term, probes in terms.items():
        values = []
        for row in torch.cat([batch.probes[p] for p in batch.probes if p.startswith(term)]):
            one = batch.rows.select(row[None])
            real = one.attention_mask
            after = model(one, deltas=edit.deltas)[real]
            values.append(kl_divergence(model(one)[real], after).mean())
        assert set(probes) <= batch.probes.keys()
        mean = torch.stack(values).mean()
        torch.testing.assert_close(loss.terms[term], mean, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(loss.total, torch.stack([*loss.terms.values()]).sum())


def test_an_edit_that_changes_nothing_has_no_locality_loss() -> None:
    model, batch = any_model("llama"), edit_batch([1, 2])
    state = model.prefix(batch.rows, 1)
    loss = Objective("text", {"locality": 1.0, "generality": 1.0})(model, DeltaEdit(), batch, state)
    assert float(loss.terms["locality"]) == pytest.approx(0, abs=1e-8)  # rounding
    assert float(loss.accuracy["locality"]) == 1
    at = batch.rows.answers()
    right = at.row_mean((model(batch.rows, at=at).argmax(-1) == at.target).float())
    expected = right[batch.probes["generality"]].mean()
    torch.testing.assert_close(loss.accuracy["generality"], expected)


def test_objectives_that_cannot_train_are_refused() -> None:
    with pytest.raises(ConfigError, match="it can be one of image_text, text, transitive"):
        Objective("pictures", {"locality": 1.0})
    with pytest.raises(ConfigError, match="nothing to train on"):
        Objective("text", {"image": 1.0})
    model, batch = any_model("llama"), edit_batch([1])
    objective = Objective("image_text", {"generality": 1.0})
    assert objective.probes == {"generality_s"}
    with pytest.raises(ConfigError, match=r"Choose the editor\.questions that fit"):
        objective(model, DeltaEdit(), batch, model.prefix(batch.rows, 2))
