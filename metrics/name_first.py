"""Metrics of answers that come by way of a name: name first, then ask.

The unedited model says what a probe's picture shows, its words go into the probe's text question,
and the edited model answers that. Beside a probe p stand

    <p>_name     whether the words are the name (or another one) of what is shown
    <p>_chain    the answer to the text question, scored as p is

and beside a metric, over the probes P_r of a record that are asked so,

    <NAME>_chain              1/|P_r| sum_{p in P_r} score(r, p_chain)
    <NAME>_chain_gain         1/|P_r| sum_{p in P_r} [score(r, p_chain) - score(r, p)]
    <NAME>_chain_edit_gain    1/|P_r| sum_{p in P_r} [score(r, p_chain) - before(r, p_chain)]

each a mean over records; both gains are paired, in points: what asking by a name adds, and, with
before the unedited model's score of the same text question, what the edit adds there.
Specificities, which are differences already, have no gain over asking at once. Locality compares
the unedited and the edited model on the same text question, so that it says what the edit has moved
there, and has no gain over the unedited model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metrics.headlines import (
    BEFORE,
    GAIN,
    GENERATION_MATCH,
    WITH_BEFORE,
    Headline,
    Scores,
    floors_of,
)

CHAIN, NAME = "_chain", "_name"  # suffixes of a probe
DIRECT = "_direct"  # of one that holds a probe's own scores, where it is asked by a name
CHAIN_GAIN = "chain_gain"  # over asking at once
EDIT_GAIN = "chain_edit_gain"  # over the unedited model, asked by the same name
RECOGNITION = {
    "Recognition_S": "reliability_s",
    "Recognition_U": "reliability_u",
    "Recognition_same": "stability_same",
    "Recognition_diff": "stability_diff",
}


def is_beside(probe: str) -> bool:
    """Whether a probe is another one's, asked by a name, or that name."""
    return probe.endswith((CHAIN, NAME))


def probe_of(probe: str) -> str:
    """The probe that one of these stands beside; any other itself.

    >>> probe_of("leak_same_chain"), probe_of("leak_same_name"), probe_of("leak_same")
    ('leak_same', 'leak_same', 'leak_same')
    """
    return probe.removesuffix(CHAIN).removesuffix(NAME)


def with_direct(scores: Scores) -> Scores:
    """The scores, and those of each probe itself in the records that ask it by a name."""
    added = {
        (f"{probe_of(probe)}{DIRECT}", measure): {
            edit: direct[edit] for edit in of_edits if edit in direct
        }
        for (probe, measure), of_edits in scores.items()
        if probe.endswith(CHAIN) and (direct := scores.get((probe_of(probe), measure)))
    }
    return {**scores, **added}


def floors_by_name(name: str) -> dict[str, str]:
    """What `metrics.headlines.floors_of` a metric are where its probes are asked by a name.

    >>> floors_by_name("Reliability_S")
    {'gain': 'Reliability_S_chain_edit_gain', 'specificity': 'Specificity_S_chain'}
    """
    return {
        kind: f"{name}_{EDIT_GAIN}" if kind == GAIN else f"{floor}{CHAIN}"
        for kind, floor in floors_of(name).items()
    }


def name_first_metrics(
    headlines: Sequence[Headline], probes: Iterable[str]
) -> tuple[Headline, ...]:
    """What is told of a result whose probes were asked by a name too.

    Args:
        headlines: the named metrics of the scenario; gains and parts of metrics by pictures that
            were read have none by name.
        probes: that were scored.

    Returns:
        Of scores `with_direct`; nothing where no probe was asked by a name.

    >>> lines = name_first_metrics([Headline("Leak", ("leak_same", "leak_diff"))],
    ...                            ["leak_same_chain", "leak_same_name"])
    >>> [(line.name, line.probes, line.minus) for line in lines][-1]
    ('Leak_chain_gain', ('leak_same_chain',), ('leak_same_direct',))
    """
    scored = set(probes)
    metrics = [
        Headline(name, (f"{probe}{NAME}",), GENERATION_MATCH)
        for name, probe in RECOGNITION.items()
        if f"{probe}{NAME}" in scored
    ]
    for line in headlines:
        if line.over or line.given:
            continue
        asked = tuple(probe for probe in line.probes if f"{probe}{CHAIN}" in scored)
        if not asked or any(f"{probe}{CHAIN}" not in scored for probe in line.minus):
            continue
        chained = tuple(f"{probe}{CHAIN}" for probe in asked)
        floor = tuple(f"{probe}{CHAIN}" for probe in line.minus)
        named = replace(line, name=f"{line.name}{CHAIN}", probes=chained, minus=floor)
        metrics.append(named)
        if line.measure in WITH_BEFORE:
            over = f"{line.measure}{BEFORE}"
            metrics.append(replace(named, name=f"{line.name}_{EDIT_GAIN}", over=over))
        if not line.minus:
            direct = tuple(f"{probe}{DIRECT}" for probe in asked)
            name = f"{line.name}_{CHAIN_GAIN}"
            metrics.append(replace(line, name=name, probes=chained, minus=direct))
    return tuple(metrics)
