"""Per-edit scores over batches and processes, and the named metrics made of them."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from metrics.collection import EditScores, headline_metrics, variant_metrics
from metrics.headlines import (
    GENERATION_MATCH,
    HEADLINES,
    Headline,
    floors_of,
    headlines_of,
    record_means,
    variants_of,
)

TEXT_NAMES = ["Reliability", "Generality", "Portability", "Locality", "Stability"]
PICTURE_NAMES = [
    *("Reliability_S", "Reliability_U", "Generality_S", "Generality_U"),
    *("Portability", "Locality_T", "Locality_I", "Stability"),
]


ANSWERED, LEAKED = ("reliability", "token_accuracy"), ("leak_same", "token_accuracy")


def scores_of(*batches: dict[int, float]) -> EditScores:
    scores = EditScores([ANSWERED, LEAKED])
    for batch in batches:
        scores.update((edit, ANSWERED, value) for edit, value in batch.items())
    return scores


def test_scores_come_by_column_and_edit_in_order() -> None:
    scores = EditScores([ANSWERED, LEAKED])
    scores.update([(4, LEAKED, 0.5), (4, ANSWERED, 1.0), (2, ANSWERED, 0.25)])
    scores.update([(7, ANSWERED, 0.0)])
    found = scores.compute()
    assert list(found.items()) == [(ANSWERED, {2: 0.25, 4: 1.0, 7: 0.0}), (LEAKED, {4: 0.5})]
    assert list(found[ANSWERED]) == [2, 4, 7]


def test_an_edit_counts_once_with_its_first_score() -> None:
    scores = scores_of({0: 1.0, 1: 0.0}, {0: 0.5}, {1: 1.0})
    assert scores.compute() == {ANSWERED: {0: 1.0, 1: 0.0}}


def test_nan_is_no_score_of_a_record() -> None:
    scores = scores_of({0: math.nan, 1: 0.5}).compute()
    assert math.isnan(scores[ANSWERED][0])
    reliability = headline_metrics(scores, "unimodal")["Reliability"]
    assert (reliability.mean, reliability.n) == (50, 1)


def test_reset_forgets_and_the_metric_goes_on() -> None:
    scores = scores_of({0: 1.0})
    scores.reset()
    scores.update([(5, ANSWERED, 0.0)])
    assert scores.compute() == {ANSWERED: {5: 0.0}}


def test_the_metric_survives_copies() -> None:
    scores = scores_of({0: 1.0})
    assert pickle.loads(pickle.dumps(scores)).compute() == {ANSWERED: {0: 1.0}}
    assert copy.deepcopy(scores).compute() == {ANSWERED: {0: 1.0}}


def test_a_column_that_was_not_announced_is_refused() -> None:
    with pytest.raises(KeyError, match="generality"):
        scores_of().update([(0, ("generality", "token_accuracy"), 1.0)])


# Five edits over two processes; the sampler pads the second one with edit 0 again. In the second
# case one process has nothing at all.
SHARES: list[dict[int, dict[int, float]]] = [
    {0: {0: 1.0, 2: 0.0, 4: 0.5}, 1: {1: 0.25, 3: 1.0, 0: 1.0}},
    {0: {0: 1.0, 1: 0.0}, 1: {}},
]


def _score_in_a_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    found = []
    for shares in SHARES:
        scores = scores_of(*([shares[rank]] if shares[rank] else []))
        # Gathering twice must not feed the gathered state back into the metric.
        first = scores.compute()
        scores._computed = None
        found.append((first, scores.compute(), len(scores.values)))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.start_processes(  # type: ignore[attr-defined, no-untyped-call]
        _score_in_a_process, args=(str(tmp_path),), nprocs=2, start_method="spawn"
    )
    for number, shares in enumerate(SHARES):
        single = scores_of(*shares.values()).compute()
        for rank in (0, 1):
            first, again, n_states = torch.load(tmp_path / f"{rank}.pt")[number]
            assert first == again == single
            assert n_states == 1 + bool(shares[rank])  # its own batches and the empty start


def test_names_are_the_contract() -> None:
    leaks = ["Stability_same", "Stability_diff", "Leak"]
    for scenario, first in {
        "unimodal": TEXT_NAMES,
        "transitive": PICTURE_NAMES,
        "multimodal": PICTURE_NAMES,
    }.items():
        shown = [""] if scenario == "unimodal" else ["_S", "_U"]
        beside = [*leaks, *(f"Specificity{s}{type_}" for s in shown for type_ in ("", "_diff"))]
        accuracies = [name for name in first if not name.startswith("Locality")] + beside
        assert list(headline_metrics({}, scenario)) == [
            *first,
            *beside,
            *(f"{name}_{measure}" for measure in ("EM", "first") for name in accuracies),
        ]


def test_locality_is_the_mean_of_far_and_near_within_a_record() -> None:
    scores = {
        ("locality_far", "token_agreement"): {0: 1.0, 1: 0.0},
        ("locality_near", "token_agreement"): {0: 0.5},
        ("locality_subject", "token_agreement"): {0: 0.0, 1: 0.0},
    }
    found = headline_metrics(scores, "unimodal")
    # Record 0: (1 + 0.5)/2, record 1: 0; pooling the three probes would give 50.
    assert found["Locality"].mean == pytest.approx(37.5)
    assert found["Locality"].n == 2
    assert found["Locality_far"].mean == 50
    assert (found["Locality_near"].mean, found["Locality_near"].n) == (50, 1)
    assert found["Locality_subject"].mean == 0
    assert "Locality_EM" not in found


def test_parts_of_locality_are_left_out_without_probes() -> None:
    found = headline_metrics({("locality_t_far", "token_agreement"): {0: 1.0}}, "transitive")
    assert "Locality_T_far" in found
    assert "Locality_T_near" not in found
    assert "Locality_I_far" not in found
    assert found["Locality_I"].n == 0


def test_stability_and_leak_are_means_within_a_record() -> None:
    scores = {
        ("stability_same", "token_accuracy"): {0: 1.0, 1: 1.0},
        ("stability_diff", "token_accuracy"): {0: 0.0, 1: float("nan")},
        ("stability_diff", "exact_match"): {0: 0.0},
        ("leak_same", "token_accuracy"): {0: 0.5},
        ("leak_diff", "token_accuracy"): {0: 0.0},
    }
    found = headline_metrics(scores, "multimodal")
    assert found["Stability"].mean == pytest.approx(75)
    assert found["Stability_same"].mean == 100
    assert (found["Stability_diff"].mean, found["Stability_diff"].n) == (0, 1)
    assert found["Stability_EM"].mean == 0
    assert (found["Leak"].mean, found["Leak"].n) == (25, 1)


def test_specificity_is_paired_within_a_record() -> None:
    scores = {
        ("reliability_s", "token_accuracy"): {0: 1.0, 1: 0.5, 2: 1.0, 3: 0.25},
        ("leak_same", "token_accuracy"): {0: 0.25, 1: 0.75, 3: math.nan},  # 2 and 3 have none
        ("leak_diff", "token_accuracy"): {2: 0.5},
        ("reliability_s", "token_accuracy_before"): {0: 0.5, 1: 0.25, 2: 0.5, 3: 0.0},
        ("leak_same", "token_accuracy_before"): {0: 0.0, 1: 0.25},
        ("reliability_s", "named_before"): {0: 1.0, 1: 0.0, 2: 1.0, 3: 1.0},
        ("leak_same", "named_before"): {0: 0.0, 1: 1.0},
    }
    found = headline_metrics(scores, "transitive")
    assert record_means(scores, _line("Specificity_S")) == {0: 0.75, 1: -0.25}
    assert (found["Specificity_S"].mean, found["Specificity_S"].n) == (25, 2)
    assert (found["Specificity_S_diff"].mean, found["Specificity_S_diff"].n) == (50, 1)
    assert found["Specificity_U"].n == 0, "a record without the probe has none"
    beside = variant_metrics(scores, "transitive")
    # (1 - .25) - (.5 - 0) and (.5 - .75) - (.25 - .25): what the unedited model had is taken off.
    assert beside["Specificity_S_gain"].mean == pytest.approx(100 * (0.25 - 0.25) / 2)
    # Whose picture it was is asked of the edited subject, not of the other one.
    assert (beside["Specificity_S_named"].mean, beside["Specificity_S_named"].n) == (75, 1)


@pytest.mark.parametrize("measure", ["token_accuracy", "exact_match", "first_token"])
def test_an_answer_that_everybody_gets_has_no_specificity(measure: str) -> None:
    suffix = {"token_accuracy": "", "exact_match": "_EM", "first_token": "_first"}[measure]
    everybody = dict.fromkeys(range(30), 1.0)
    probes = ("reliability_s", "reliability_u", "leak_same", "leak_diff")
    scores: dict[tuple[str, str], dict[int, float]] = {(p, measure): everybody for p in probes}
    scores |= {(p, f"{measure}_before"): dict.fromkeys(range(30), 0.0) for p in probes}
    found, beside = (
        make(scores, "transitive") for make in (headline_metrics, variant_metrics)
    )  # fmt: skip
    for picture in ("S", "U"):
        assert found[f"Reliability_{picture}{suffix}"].mean == 100
        assert beside[f"Reliability_{picture}{suffix}_gain"].mean == 100
        for other in ("", "_diff"):
            specificity = found[f"Specificity_{picture}{other}{suffix}"]
            assert (specificity.mean, specificity.low, specificity.high) == (0, 0, 0)


def test_a_model_that_nothing_changed_has_no_gain() -> None:
    answered = {0: 1.0, 1: 0.25, 2: 0.0}
    scores = {
        ("reliability_s", name): answered for name in ("first_token", "first_token_before")
    } | {("leak_same", name): {0: 0.5, 1: 1.0} for name in ("first_token", "first_token_before")}
    beside = variant_metrics(scores, "multimodal")
    for name in ("Reliability_S_first_gain", "Specificity_S_first_gain", "Leak_first_gain"):
        assert (beside[name].mean, beside[name].low, beside[name].high) == (0, 0, 0)
        assert beside[name].n


def test_published_picture_locality_changes_that_metric_alone() -> None:
    scores = {
        (f"locality_{kind}_far", measure): {0: value}
        for kind in "ti"
        for measure, value in (("token_agreement", 1.0), ("token_agreement_positional", 0.25))
    }
    default = headline_metrics(scores, "transitive")
    published = headline_metrics(scores, "transitive", positional_image_locality=True)
    assert default["Locality_I"].mean == 100
    assert published["Locality_I"].mean == published["Locality_I_far"].mean == 25
    assert default["Locality_T"].mean == published["Locality_T"].mean == 100


def test_intervals_resample_records_with_the_given_seed() -> None:
    scores = {("reliability", "token_accuracy"): {i: i / 59 for i in range(60)}}
    found = headline_metrics(scores, "unimodal", seed=1)["Reliability"]
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(50)
    assert found != headline_metrics(scores, "unimodal", seed=2)["Reliability"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a scenario of unimodal"):
        headlines_of("textual")
    with pytest.raises(ValueError, match="got reliability_s"):
        headline_metrics({("reliability_s", "token_accuracy"): {0: 1.0}}, "unimodal")


def test_every_probe_of_a_scenario_reaches_a_metric() -> None:
    stability = {"stability_same", "stability_diff", "leak_same", "leak_diff", "portability"}
    stability |= {f"portability_{far}hop" for far in (1, 2, 3, 4)}
    text = {"reliability", "generality", "locality_far", "locality_near", "locality_subject"}
    pictures = {f"{name}_{image}" for name in ("reliability", "generality") for image in "su"}
    pictures |= {f"locality_{k}_{part}" for k in "ti" for part in ("far", "near", "subject")}
    assert _probes(HEADLINES["unimodal"]) == text | stability
    assert _probes(HEADLINES["transitive"]) == pictures | stability
    assert HEADLINES["multimodal"] == HEADLINES["transitive"]


def test_record_means_come_in_the_order_of_the_edits() -> None:
    scores = {("a", "token_accuracy"): {9: 1.0, 2: 0.0}, ("b", "token_accuracy"): {2: 1.0}}
    assert list(record_means(scores, Headline("x", ("a", "b"))).items()) == [(2, 0.5), (9, 1.0)]


@pytest.mark.parametrize("scenario", list(HEADLINES))
@pytest.mark.parametrize("generation", [False, True])
def test_every_edited_answer_has_its_floors(scenario: str, generation: bool) -> None:
    lines = headlines_of(scenario, generation=generation)
    known = {line.name: line for line in (*lines, *variants_of(scenario, lines))}
    for line in lines:
        floors = floors_of(line.name)
        is_answer = line.name.startswith(("Reliability", "Generality", "Portability"))
        assert bool(floors) == is_answer, line.name
        if line.measure == GENERATION_MATCH:  # nothing is generated before the edit
            floors.pop("gain", None)
        for kind, name in floors.items():
            floor = known[name]
            assert (floor.probes, floor.measure) == (line.probes, line.measure)
            if kind == "gain":
                assert floor.over == f"{line.measure}_before"
            else:
                of_text = "_t" if line.probes[0].endswith("_t") else ""
                assert floor.minus == (f"leak_same{of_text}",)


def _probes(headlines: tuple[Headline, ...]) -> set[str]:
    return {probe for headline in headlines for probe in headline.probes}


def _line(name: str) -> Headline:
    return next(line for line in HEADLINES["transitive"] if line.name == name)
