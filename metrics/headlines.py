"""The named metrics of a result: which probes and which measure make each of them.

`HEADLINES` is the one place that says so, and `record_means` is the score of one record,

    s_r = 1/|P_r| * sum_{p in P_r} score(r, p),

over the probes P_r that the record has (TMKE, ICCV 2025, supplementary material). A metric is 100
times the mean of s_r over records. A specificity takes off, within a record, what the new answer
scores about somebody else: the floor that the benchmark's tables do not show. `variants_of` makes
three more tables of any of these metrics: its gain over the unedited model, score(r, p) -
before(r, p), and its part over the probes whose picture the unedited model did, or did not, read.
Only numpy is imported: the report pairs runs record by record without loading torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

# Measures carry the name of the function in `metrics.functional` that computes them.
TOKEN_ACCURACY = "token_accuracy"
EXACT_MATCH = "exact_match"
FIRST_TOKEN = "first_token"
TOKEN_AGREEMENT = "token_agreement"
TOKEN_AGREEMENT_POSITIONAL = "token_agreement_positional"
GENERATION_MATCH = "generation_match"
SCOPE_PROBABILITY = "scope_probability"  # of an editor with a scope: no metric, told of all probes
EVERYWHERE = "_everywhere"  # suffix of an agreement over all tokens of a row, not its answer alone
# Of the unedited model: the same measure against the same target, and what it made of a picture.
BEFORE = "_before"  # suffix of a measure
WITH_BEFORE = (TOKEN_ACCURACY, EXACT_MATCH, FIRST_TOKEN)
READ_BEFORE = NAMED_BEFORE, FACT_BEFORE = ("named_before", "fact_before")
PRE_VALUE = "pre_value"  # column of edits.parquet that holds the former
MOST_HOPS = 4  # VLKEB asks up to four steps away from the edited fact

Scores = Mapping[tuple[str, str], Mapping[int, float]]


@dataclass(frozen=True)
class Headline:
    """One named metric of a result.

    Attributes:
        name: key in `summary.json`.
        probes: probes whose scores are averaged within a record.
        measure: the per-probe score.
        optional: left out of a result in which no record has such a probe.
        over: the measure that is subtracted, probe by probe; empty: none.
        given: what has to be so of a probe: a measure, and whether it is 1 or 0; None: nothing.
        minus: probes whose mean is subtracted within a record, which has to have one of them;
            nothing is `given` of these.
    """

    name: str
    probes: tuple[str, ...]
    measure: str = TOKEN_ACCURACY
    optional: bool = False
    over: str = ""
    given: tuple[str, bool] | None = None
    minus: tuple[str, ...] = ()


class Part(NamedTuple):
    """The probes of which something is so: `<NAME>_<suffix>` is a metric over them alone."""

    suffix: str
    measure: str
    is_so: bool


TEXT_SCENARIOS = ("unimodal", "reverse")  # scenarios whose probes show no picture
GAIN = "gain"
SPECIFICITY = "Specificity"
EM, FIRST, GM = "EM", "first", "GM"  # suffixes of a metric by another measure than token accuracy
PARTS = (
    Part("read", FACT_BEFORE, True),
    Part("unread", FACT_BEFORE, False),
    Part("named", NAMED_BEFORE, True),
    Part("unnamed", NAMED_BEFORE, False),
)


def record_means(scores: Scores, headline: Headline) -> dict[int, float]:
    """Per edit, the mean over its probes of one metric; edits without such a probe are absent.

    Of a metric that subtracts probes (`Headline.minus`) edits without one of those are absent too.

    Args:
        scores: per (probe, measure) the score of each edit.
        headline: the metric.

    Returns:
        Fractions by edit id, in the order of the ids, differences of two for a metric that
        subtracts; two runs are compared on these
        (`metrics.bootstrap.paired_difference`).

    >>> both = Headline("Stability", ("stability_same", "stability_diff"))
    >>> record_means({("stability_same", "token_accuracy"): {0: 1.0, 1: 0.0},
    ...               ("stability_diff", "token_accuracy"): {0: 0.0}}, both)
    {0: 0.5, 1: 0.0}
    """
    means = _means_of(scores, headline.probes, headline)
    if not headline.minus:
        return means
    floor = _means_of(scores, headline.minus, replace(headline, given=None))
    return {edit: mean - floor[edit] for edit, mean in means.items() if edit in floor}


def _means_of(scores: Scores, probes: Sequence[str], headline: Headline) -> dict[int, float]:
    """Per edit, the mean of what some probes add to a metric."""
    collected: dict[int, list[float]] = {}
    for probe in probes:
        for edit, value in _of_probe(scores, probe, headline).items():
            if not np.isnan(value):
                collected.setdefault(edit, []).append(value)
    return {edit: float(np.mean(collected[edit])) for edit in sorted(collected)}


def _of_probe(scores: Scores, probe: str, headline: Headline) -> Mapping[int, float]:
    """What one probe adds to a metric, by edit; nan, or no entry, where it adds nothing."""
    values = scores.get((probe, headline.measure), {})
    if headline.given is not None:
        measure, is_so = headline.given
        flags = scores.get((probe, measure), {})
        values = {edit: value for edit, value in values.items() if flags.get(edit) == is_so}
    if headline.over:
        before = scores.get((probe, headline.over), {})
        values = {edit: value - before[edit] for edit, value in values.items() if edit in before}
    return values


def headlines_of(
    scenario: str,
    *,
    positional_image_locality: bool = False,
    everywhere: bool = False,
    generation: bool = False,
) -> tuple[Headline, ...]:
    """The named metrics of a scenario, in the order in which they are shown.

    Args:
        scenario: a row of `HEADLINES`.
        positional_image_locality: picture locality compares the ten likeliest tokens rank by rank,
            as published, in place of the likeliest one.
        everywhere: all localities compare every token of a row, as published, in place of the
            answer's.
        generation: adds `<NAME>_GM`, the generated answers, to the accuracies.

    Returns:
        First the paper's columns, then what stands beside them.

    Raises:
        ValueError: an unknown scenario.
    """
    if scenario not in HEADLINES:
        raise ValueError(f"expected a scenario of {', '.join(HEADLINES)}, got {scenario!r}")
    headlines: list[Headline] = []
    for line in HEADLINES[scenario]:
        measure = line.measure
        if positional_image_locality and line.name.startswith("Locality_I"):
            measure = TOKEN_AGREEMENT_POSITIONAL
        if everywhere and line.name.startswith("Locality"):
            measure += EVERYWHERE
        headlines.append(replace(line, measure=measure))
        if generation and line.measure == EXACT_MATCH:
            name = f"{line.name.removesuffix(EM)}{GM}"
            headlines.append(replace(line, name=name, measure=GENERATION_MATCH))
    return tuple(headlines)


def variants_of(scenario: str, headlines: Sequence[Headline]) -> tuple[Headline, ...]:
    """What is told beside each named metric: `<NAME>_gain`, and with pictures its `PARTS`.

    A gain is in points, over the unedited model's score of the same probe against the same target;
    of a locality, which compares with that model, there is none. Parts are of metrics that have
    probes with a picture. A Generality has a specificity of its own, as Reliability has among the
    metrics, against the same probe.

    >>> names = [line.name for line in variants_of("transitive", headlines_of("transitive"))]
    >>> [name for name in names if name.startswith("Leak_EM_")]
    ['Leak_EM_gain', 'Leak_EM_read', 'Leak_EM_unread', 'Leak_EM_named', 'Leak_EM_unnamed']
    """
    variants: list[Headline] = []
    minus = {line.name: line.minus for line in headlines if line.name.startswith(SPECIFICITY)}
    for line in headlines:
        of_same_type = minus.get(line.name.replace("Generality", SPECIFICITY))
        if line.name.startswith("Generality") and of_same_type:
            name = floors_of(line.name)[SPECIFICITY.lower()]
            variants.append(replace(line, name=name, minus=of_same_type))
        if line.measure in WITH_BEFORE:
            gain = replace(line, name=f"{line.name}_{GAIN}", over=f"{line.measure}{BEFORE}")
            variants.append(gain)
        if scenario not in TEXT_SCENARIOS and not all(map(_is_in_text, line.probes)):
            variants += [
                replace(line, name=f"{line.name}_{part.suffix}", given=(part.measure, part.is_so))
                for part in PARTS
            ]
    return tuple(variants)


def is_difference(name: str) -> bool:
    """Whether a named metric or variant is a difference, in points with a sign.

    >>> is_difference("Specificity_S_EM"), is_difference("Leak_gain"), is_difference("Leak")
    (True, True, False)
    """
    return name.startswith(SPECIFICITY) or name.endswith((f"_{GAIN}", f"_{SPECIFICITY.lower()}"))


def floors_of(name: str) -> dict[str, str]:
    """What has to be above 0 for a figure of an edited answer to say that the edit arrived.

    Args:
        name: of a metric.

    Returns:
        "gain" and, of an answer that is the edit's own, "specificity" -> the name of the metric
        or variant; nothing for a metric that is no figure of an edited answer.

    >>> floors_of("Reliability_S_EM")
    {'gain': 'Reliability_S_EM_gain', 'specificity': 'Specificity_S_EM'}
    >>> floors_of("Portability"), floors_of("Stability")
    ({'gain': 'Portability_gain'}, {})
    """
    gain, specific = {GAIN: f"{name}_{GAIN}"}, SPECIFICITY.lower()
    if name.startswith("Reliability"):
        return gain | {specific: name.replace("Reliability", SPECIFICITY)}
    if name.startswith("Generality"):
        return gain | {specific: f"{name}_{specific}"}
    return gain if name.startswith("Portability") else {}


def variant_of(settings: Mapping[str, object]) -> dict[str, bool]:
    """Arguments of `headlines_of` for a result with these settings (`summary.json`)."""
    return {
        "positional_image_locality": settings.get("locality_i") == "top10_rank",
        "everywhere": settings.get("positions") == "all",
        "generation": bool(settings.get("generation")),
    }


def hop_parts(scores: Scores, hops: Mapping[int, int]) -> dict[tuple[str, str], dict[int, float]]:
    """Portability split by number of hops: scores of the probes `portability_<n>hop`.

    Args:
        scores: per (probe, measure) the score of each edit.
        hops: edit id -> steps from the edited fact to the answer.

    Returns:
        Scores of the same kind; none where all edits are equally far.

    >>> found = hop_parts({("portability", "token_accuracy"): {0: 1.0, 1: 0.5}}, {0: 1, 1: 2})
    >>> found["portability_2hop", "token_accuracy"]
    {1: 0.5}
    """
    if len(set(hops.values())) < 2:
        return {}
    return {
        (f"portability_{far}hop", measure): {
            edit: value for edit, value in of_edits.items() if hops.get(edit) == far
        }
        for (probe, measure), of_edits in scores.items()
        if probe == "portability"
        for far in sorted({far for far in hops.values() if far <= MOST_HOPS})
    }


def _locality(name: str) -> tuple[Headline, list[Headline]]:
    """A locality and its parts. The subject's own other facts are shown, not averaged in."""
    probe = name.lower()
    parts = [
        Headline(f"{name}_{part}", (f"{probe}_{part}",), TOKEN_AGREEMENT, optional=True)
        for part in ("near", "far", "subject")
    ]
    return Headline(name, (f"{probe}_far", f"{probe}_near"), TOKEN_AGREEMENT), parts


def _specific(reliability: Headline, beside: str = "") -> list[Headline]:
    """What of a Reliability is about the edited subject alone.

    The new answer's accuracy on that subject minus the new answer's on one of the same type, and,
    beside it, on one of a different type. An editor that gives the new answer to everybody has 0.
    The names of the probes end in `beside`.
    """
    name = reliability.name.replace("Reliability", SPECIFICITY)
    return [
        replace(reliability, name=name, minus=(f"leak_same{beside}",)),
        replace(reliability, name=f"{name}_diff", minus=(f"leak_diff{beside}",)),
    ]


def _scenario_headlines(
    answers: tuple[str, ...], localities: tuple[str, ...]
) -> tuple[Headline, ...]:
    first = [Headline(name, (name.lower(),)) for name in answers]
    located = [_locality(name) for name in localities]
    stability = Headline("Stability", ("stability_same", "stability_diff"))
    beside = [
        Headline("Stability_same", ("stability_same",)),
        Headline("Stability_diff", ("stability_diff",)),
        Headline("Leak", ("leak_same", "leak_diff")),
    ]
    specificities = [
        line for whole in first if whole.name.startswith("Reliability") for line in _specific(whole)
    ]
    accuracies = [*first, stability, *beside, *specificities]
    hops = [
        Headline(f"Portability_{far}hop", (f"portability_{far}hop",), optional=True)
        for far in range(1, MOST_HOPS + 1)
    ]
    parts = [part for _, own in located for part in own]
    wholes = [whole for whole, _ in located]
    otherwise = _by_other_measures(accuracies)
    return (*first, *wholes, stability, *beside, *specificities, *otherwise, *parts, *hops)


def _by_other_measures(accuracies: Sequence[Headline]) -> list[Headline]:
    return [
        replace(line, name=f"{line.name}_{suffix}", measure=measure)
        for suffix, measure in ((EM, EXACT_MATCH), (FIRST, FIRST_TOKEN))
        for line in accuracies
    ]


def _beside_pictures(answers: tuple[str, ...]) -> tuple[Headline, ...]:
    """The answers in text where others show pictures: `<NAME>_T`, of the probes `<name>_t`."""
    accuracies = [Headline(f"{name}_T", (f"{name.lower()}_t",)) for name in answers]
    accuracies += [
        Headline(f"{name}_T", (f"{name.lower()}_same_t", f"{name.lower()}_diff_t"))
        for name in ("Stability", "Leak")
    ]
    accuracies += _specific(accuracies[0], beside="_t")
    return (*accuracies, *_by_other_measures(accuracies))


def _is_in_text(probe: str) -> bool:
    """Whether a probe of a scenario with pictures shows none."""
    return probe.startswith("locality_t_") or probe.endswith("_t")


_TEXT = _scenario_headlines(("Reliability", "Generality", "Portability"), ("Locality",))
_WITH_PICTURES = _scenario_headlines(
    ("Reliability_S", "Reliability_U", "Generality_S", "Generality_U", "Portability"),
    ("Locality_T", "Locality_I"),
)
HEADLINES: dict[str, tuple[Headline, ...]] = {
    "unimodal": _TEXT,
    "transitive": _WITH_PICTURES,
    "multimodal": _WITH_PICTURES,
    "reverse": _TEXT,
    "joint": (*_WITH_PICTURES, *_beside_pictures(("Reliability", "Generality", "Portability"))),
}
