"""MEND and SERAC trained on text edits with an outer loss on pictures (questions `transitive`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from editors.mend.config import MendOptions
from editors.mend.editor import build
from editors.objective import Objective, OuterLoss
from editors.serac.similarity import balanced_bce
from lightning_modules.serac import SeracTraining
from metrics.functional import negative_log_likelihood
from models.rows import EditBatch
from tests.builders import MEND_OPTIONS, any_model, edit_batch, inputs
from tests.serac_cases import options, picture_model, worded_batch
from tests.unit.lightning_modules.test_serac_training import judged

WEIGHTS = {**MEND_OPTIONS["weights"], "generality": 0.5, "transfer": 2.0}


def trained(specificity: float, *, steps: int = 60) -> tuple[OuterLoss, OuterLoss]:
    """What MEND's edits are worth before and after its training; both count every term."""
    model = any_model("llava")
    batch = edit_batch([0, 2, 4], transitive=True)
    torch.manual_seed(11)
    editor = build(MendOptions.model_validate(MEND_OPTIONS), model, inputs()).train()
    state = model.prefix(batch.rows, editor.first_layer(model))
    objective = Objective("transitive", WEIGHTS | {"specificity": specificity})
    every_term = Objective("transitive", WEIGHTS | {"specificity": 1.0})
    adam = torch.optim.Adam(editor.parameters(), lr=3e-3)
    with torch.no_grad():
        before = every_term(model, editor.edit(model, batch, state), batch, state)
    for _ in range(steps):
        adam.zero_grad()
        objective(model, editor.edit(model, batch, state), batch, state).total.backward()
        adam.step()
    with torch.no_grad():
        after = every_term(model, editor.eval().edit(model, batch, state), batch, state)
    return before, after


def test_mend_learns_to_reach_the_pictures_of_a_subject_and_no_others() -> None:
    before, after = trained(3.0)
    _, free = trained(0.0)
    assert float(after.terms["transfer"]) < float(before.terms["transfer"]) - 0.5
    assert float(free.terms["transfer"]) < float(before.terms["transfer"]) - 0.5
    assert float(after.terms["specificity"]) < 0.5 * float(free.terms["specificity"])


def among_pictures(numbers: list[int]) -> EditBatch:
    """Questions of `worded_batch` under names of this loss; `stability_same` is of a stranger."""
    batch = worded_batch(numbers, pictures=True)
    names = {
        "reliability_s": "reliability_s", "reliability_u": "reliability_u",
        "generality_s": "generality_t", "locality_t_far": "locality_t_far",
        "locality_i_far": "stability_same",
    }  # fmt: skip
    return replace(batch, probes={new: batch.probes[old] for old, new in names.items()})


@pytest.mark.parametrize("objective", ["mixture", "supervised"])
def test_serac_learns_which_pictures_are_in_scope(objective: str) -> None:
    """Pictures of the subject are about the edit, one of another subject is not."""
    model = picture_model()
    chosen = options(objective=objective, questions="transitive", weights={"specificity": 2.0})
    terms = Objective(chosen.questions_for("transitive"), chosen.weights.model_dump())
    torch.manual_seed(11)
    module = SeracTraining(chosen, model, inputs(), terms)
    batch, state, edit, loss = judged(module, among_pictures([1, 2]))
    at, probes = batch.rows.answers(), batch.probes
    pictures = torch.cat([probes["reliability_s"], probes["reliability_u"]])
    if objective == "supervised":
        gold = edit.counterfactual(batch.rows, at, batch.rows.edit_index)
        nll = at.row_mean(negative_log_likelihood(gold, at.target))
        log_p, _ = edit.retrieved(batch.rows)
        about = torch.cat([batch.edit_rows, probes["generality_t"], pictures])
        others = torch.cat([probes["locality_t_far"], probes["stability_same"]])
        both = torch.cat([about, others])
        kept = balanced_bce(log_p[both], torch.arange(len(both)) < len(about))
        assert loss.terms.keys() == {"generality", "transfer", "scope"}
    else:
        mixed, base = edit.answer(model, batch.rows, state, at), model.suffix(state, at=at)
        nll = at.row_mean(negative_log_likelihood(mixed, at.target))
        before, after = base.log_softmax(-1), mixed.log_softmax(-1)
        kl = at.row_mean((before.exp() * (before - after)).sum(-1))
        kept = kl[probes["locality_t_far"]].mean() + 2.0 * kl[probes["stability_same"]].mean()
    expected = 0.1 * (nll[probes["generality_t"]].mean() + nll[pictures].mean()) + kept
    torch.testing.assert_close(loss.total, expected, rtol=1e-4, atol=1e-6)
