"""The outer loss of text edits that are to reach pictures, and those of their subject alone."""

from __future__ import annotations

import pytest
import torch

from editors.base import DeltaEdit
from editors.objective import Objective
from editors.options import OuterWeights
from tests.builders import any_model, edit_batch, random_deltas
from tests.unit.editors.test_mend import naive

WEIGHTS = {
    "reliability": 0.5, "generality": 0.1, "portability": 7.0, "image": 7.0, "transfer": 0.3,
    "named": 0.2, "locality": 2.0, "specificity": 3.0,
}  # fmt: skip
PROBES = {
    "reliability": ("reliability_t",),
    "generality": ("generality_t",),
    "transfer": ("reliability_s", "reliability_u", "generality_s", "generality_u"),
    "named": ("named_s", "named_u"),
    "locality_t": ("locality_t_far",),
    "locality_i": ("locality_i_far",),
    "specificity": ("stability_same",),
}
KEPT = {"locality_t", "locality_i", "specificity"}


@pytest.mark.parametrize("kind", ["llava", "blip2"])
def test_it_is_the_sum_of_its_terms(kind: str) -> None:
    """Against one row at a time; the weights of other questions say nothing."""
    model, batch = any_model(kind), edit_batch([1, 2, 4], transitive=True)
    edit = DeltaEdit(random_deltas(model, layers=2, dense=False, n_edits=3))
    assert (batch.rows.image_index[batch.edit_rows] == -1).all()
    loss = Objective("transitive", WEIGHTS)(model, edit, batch, model.prefix(batch.rows, 1))
    expected = {
        term: torch.cat(
            [naive(model, edit, batch, probe, kl=term in KEPT) for probe in probes]
        ).mean()
        for term, probes in PROBES.items()
    }
    assert loss.terms.keys() == expected.keys()
    assert loss.rows == {term: 3 * len(probes) for term, probes in PROBES.items()}
    for name, value in expected.items():
        assert float(value) > 1e-3, name
        torch.testing.assert_close(loss.terms[name], value, atol=1e-6, rtol=1e-4)
    of_terms = {"locality_t": "locality", "locality_i": "locality"}
    total = sum(WEIGHTS[of_terms.get(name, name)] * value for name, value in expected.items())
    torch.testing.assert_close(loss.total, total, atol=1e-5, rtol=1e-4)


def test_an_edit_that_changes_nothing_pays_for_what_does_not_arrive_alone() -> None:
    model, batch = any_model("llava"), edit_batch([1, 2], transitive=True)
    loss = Objective("transitive", WEIGHTS)(model, DeltaEdit(), batch, model.prefix(batch.rows, 1))
    for name in KEPT:
        assert float(loss.terms[name]) == pytest.approx(0, abs=1e-7)
        assert float(loss.accuracy[name]) == 1
    assert float(loss.terms["transfer"]) > 1


def test_weights_of_zero_ask_nothing() -> None:
    """`named` is optional, and a training without it tokenises none of its rows."""
    asked = Objective("transitive", WEIGHTS | {"named": 0.0, "reliability": 0.0}).probes
    assert not asked & {"named_s", "named_u", "reliability_t"}
    assert {"stability_same", "reliability_u", "generality_t"} <= asked
    assert "stability_same" not in Objective("transitive", WEIGHTS | {"specificity": 0.0}).probes


def test_every_weight_is_a_term_of_some_questions() -> None:
    terms = {
        term.weight
        for questions in ("text", "image_text", "transitive")
        for term in Objective(questions, WEIGHTS).terms
    }
    assert terms == OuterWeights.model_fields.keys()
