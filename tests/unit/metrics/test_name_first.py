"""Metrics of answers that come by way of a name, on rows made by hand."""

from __future__ import annotations

import pytest

from metrics.collection import headline_metrics, variant_metrics
from metrics.headlines import is_difference
from metrics.name_first import (
    floors_by_name,
    is_beside,
    name_first_metrics,
    probe_of,
    with_direct,
)

ACCURACY = "token_accuracy"
# Record 1 has no different-type entity that could be named, record 2 is not asked by a name.
SCORES: dict[tuple[str, str], dict[int, float]] = {
    ("reliability_s", ACCURACY): {0: 0.5, 1: 0.25, 2: 1.0},
    ("reliability_s_chain", ACCURACY): {0: 1.0, 1: 0.75},
    ("reliability_s_name", "generation_match"): {0: 1.0, 1: 0.0},
    ("stability_same", ACCURACY): {0: 1.0, 1: 1.0, 2: 0.0},
    ("stability_diff", ACCURACY): {0: 0.0, 1: 0.5, 2: 0.0},
    ("stability_same_chain", ACCURACY): {0: 0.5, 1: 0.75},
    ("stability_diff_chain", ACCURACY): {0: 0.5},
    ("leak_same", ACCURACY): {0: 0.5, 1: 0.5, 2: 0.5},
    ("leak_same_chain", ACCURACY): {0: 0.25, 1: 0.5},
}


def test_gains_are_paired_by_probe_within_a_record() -> None:
    found = variant_metrics(SCORES, "transitive", resamples=2)
    means = {name: (value.mean, value.n) for name, value in found.items() if "chain" in name}
    assert means["Reliability_S_chain"] == (87.5, 2)
    assert means["Reliability_S_chain_gain"] == (50.0, 2)
    # Record 0: (0.5 + 0.5 - 1 - 0) / 2 = 0; record 1, same type alone: 0.75 - 1.
    assert means["Stability_chain_gain"] == (-12.5, 2)
    assert means["Stability_diff_chain_gain"] == (50.0, 1)
    assert means["Leak_chain"] == (37.5, 2)
    assert means["Specificity_S_chain"] == (50.0, 2), "0.75 and 0.25, within each record"
    assert "Specificity_S_chain_gain" not in found
    assert "Specificity_S_diff_chain" not in found, "leak_diff was not asked by a name"
    assert (found["Recognition_S"].mean, found["Recognition_S"].n) == (50.0, 2)
    assert not any(name.startswith(("Reliability_U_chain", "Locality_T")) for name in means)


def test_the_edit_is_held_against_the_unedited_model_by_the_same_name() -> None:
    """Whatever it scores at once; what was not asked of it has no gain."""
    before = {
        ("reliability_s", f"{ACCURACY}_before"): {0: 0.0, 1: 0.0, 2: 0.0},
        ("reliability_s_chain", f"{ACCURACY}_before"): {0: 1.0, 1: 0.25},
        ("leak_same_chain", f"{ACCURACY}_before"): {0: 0.25, 1: 0.0},
        ("stability_same_chain", f"{ACCURACY}_before"): {0: 1.0},
    }
    found = variant_metrics({**SCORES, **before}, "transitive", resamples=2)
    means = {
        name.removesuffix("_chain_edit_gain"): (value.mean, value.n)
        for name, value in found.items()
        if name.endswith("_chain_edit_gain") and value.n
    }
    assert means == {
        "Reliability_S": (25.0, 2),  # 1 - 1 and 0.75 - 0.25
        "Stability": (-50.0, 1),  # of record 0 alone, and of the same type alone
        "Stability_same": (-50.0, 1),
        "Leak": (25.0, 2),  # 0.25 - 0.25 and 0.5 - 0
        "Specificity_S": (0.0, 2),  # (1 - 1) - (0.25 - 0.25) and (0.75 - 0.25) - (0.5 - 0)
    }
    assert is_difference("Reliability_S_chain_edit_gain")
    without = variant_metrics(SCORES, "transitive", resamples=2)
    assert without["Reliability_S_chain_edit_gain"].n == 0
    located = {("locality_i_near_chain", "token_agreement"): {0: 1.0}}
    assert "Locality_I_chain_edit_gain" not in variant_metrics(
        {**SCORES, **located}, "transitive", resamples=2
    )


def test_generality_by_name_has_its_specificity_too() -> None:
    scores = {**SCORES, ("generality_s_chain", ACCURACY): {0: 1.0, 1: 0.5}}
    found = variant_metrics(scores, "transitive", resamples=2)
    told = found["Generality_S_specificity_chain"]
    assert (told.mean, told.n) == (37.5, 2), "0.75 and 0"
    assert floors_by_name("Generality_S")["specificity"] == "Generality_S_specificity_chain"


def test_the_metrics_themselves_are_what_they_are_without() -> None:
    direct = {key: value for key, value in SCORES.items() if not is_beside(key[0])}
    with_names, plain = (
        {name: value.as_dict() for name, value in headline_metrics(of, "transitive").items()}
        for of in (SCORES, direct)
    )
    assert with_names == plain
    without = variant_metrics(direct, "transitive", resamples=2)
    assert not any("chain" in name or "Recognition" in name for name in without)
    assert name_first_metrics([], ["reliability_s"]) == ()


def test_a_probe_of_no_scenario_is_refused_by_a_name_too() -> None:
    with pytest.raises(ValueError, match="got reliability_x_chain"):
        headline_metrics({("reliability_x_chain", ACCURACY): {0: 1.0}}, "transitive")
    assert probe_of("locality_i_near_chain") == "locality_i_near"


def test_direct_scores_are_of_the_records_that_are_asked_by_a_name() -> None:
    found = with_direct(SCORES)
    assert found["stability_diff_direct", ACCURACY] == {0: 0.0}
    assert found["reliability_s_direct", ACCURACY] == {0: 0.5, 1: 0.25}
    assert ("reliability_u_direct", ACCURACY) not in found
