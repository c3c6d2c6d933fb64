"""Where the records of results come from and by whose licence, as tables and pages say it.

    Records of vlkeb: licence BSD-3-Clause; origin https://github.com/VLKEB/VLKEB.

Where the authors of a source state no licence, it says "licence not stated".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reporting.entries import Entry, listed
from results.folder import RunResult

# Of other records: how a sentence and how a short list begins.
_LEARNT = {"trained_on": ("Trained on", "trained on"), "shown": ("Shown are", "shows")}
_TERMS = ("source", "origin", "licence")


def origin_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What rows were judged on, and what editors learned on or show where that is another source.

    Returns:
        A sentence per source, and one on the probes that were drawn from other records; nothing
        of results that do not say.
    """
    judged: dict[str, None] = {}
    learnt: dict[tuple[str, str], dict[str, None]] = {}
    drawn: dict[str, None] = {}
    for entry in entries:
        for run in entry.runs:
            if not run.records:
                continue
            judged[f"Records of {run.records['source']}: {_terms(run.records)}."] = None
            drawn |= dict.fromkeys(_drawn(run.records))
            for (how, _), source in _other_sources(run):
                what = f"{how} records of {source['source']}"
                learnt.setdefault((what, _terms(source)), {})[entry.name] = None
    notes = [
        *judged,
        *(f"{what} ({listed(names)}): {terms}." for (what, terms), names in learnt.items()),
    ]
    notes += [f"Drawn from other records of the source: {', '.join(drawn)}."] if drawn else []
    return tuple(notes)


def _other_sources(run: RunResult) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    """What an editor learned on or shows, if it is not judged on that: in words, and its terms."""
    records = run.records or {}
    for key, how in _LEARNT.items():
        source: Mapping[str, Any] | None = records.get(key)
        if source is not None and any(source[key] != records[key] for key in _TERMS):
            yield how, source


def origin_phrase(run: RunResult) -> str:
    """The sentences about one run after each other; empty where it does not say."""
    return " ".join(origin_notes([Entry.of(run)]))


def licence_phrase(run: RunResult) -> str:
    """`vlkeb: licence MIT; trained on zsre: licence not stated`; empty where it does not say."""
    if not run.records:
        return ""
    others = (f"{how} {s['source']}: {_licence(s)}" for (_, how), s in _other_sources(run))
    return "; ".join((f"{run.records['source']}: {_licence(run.records)}", *others))


def _terms(source: Mapping[str, Any]) -> str:
    return f"{_licence(source)}; origin {source['origin']}"


def _licence(source: Mapping[str, Any]) -> str:
    return f"licence {source['licence']}"


def _drawn(records: Mapping[str, Any]) -> list[str]:
    """`same_type_entity_question of 12 edits`, one for each field that was drawn."""
    counts: Mapping[str, int] = records.get("drawn") or {}
    return [f"{field} of {n} edit{'s' if n > 1 else ''}" for field, n in counts.items()]
