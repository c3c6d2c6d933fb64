"""Where the records of results come from and by whose licence, as tables and pages say it.

    Records of vlkeb: licence BSD-3-Clause; origin https://github.com/VLKEB/VLKEB.

Where the authors of a source state no licence, it says "licence not stated".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reporting.entries import Entry, listed
from results.folder import RunResult


def origin_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What rows were judged on, and what trained editors learned on where that is another source.

    Returns:
        A sentence per source, and one on the probes that were drawn from other records; nothing
        of results that do not say.
    """
    judged: dict[str, None] = {}
    trained: dict[tuple[str, str], dict[str, None]] = {}
    drawn: dict[str, None] = {}
    for entry in entries:
        for run in entry.runs:
            if not run.records:
                continue
            judged[f"Records of {run.records['source']}: {_terms(run.records)}."] = None
            drawn |= dict.fromkeys(_drawn(run.records))
            if (source := other_training_source(run)) is not None:
                trained.setdefault((source["source"], _terms(source)), {})[entry.name] = None
    notes = [
        *judged,
        *(
            f"Trained on records of {source} ({listed(names)}): {terms}."
            for (source, terms), names in trained.items()
        ),
    ]
    notes += [f"Drawn from other records of the source: {', '.join(drawn)}."] if drawn else []
    return tuple(notes)


def other_training_source(run: RunResult) -> Mapping[str, Any] | None:
    """Source, origin and licence of what a checkpoint learned on, if it is not judged on that."""
    records = run.records or {}
    trained_on: Mapping[str, Any] | None = records.get("trained_on")
    if trained_on is None or trained_on["source"] == records["source"]:
        return None
    return trained_on


def origin_phrase(run: RunResult) -> str:
    """The sentences about one run after each other; empty where it does not say."""
    return " ".join(origin_notes([Entry.of(run)]))


def licence_phrase(run: RunResult) -> str:
    """`vlkeb: licence MIT; trained on zsre: licence not stated`; empty where it does not say."""
    if not run.records:
        return ""
    other = other_training_source(run)
    trained = "" if other is None else f"; trained on {other['source']}: licence {other['licence']}"
    return f"{run.records['source']}: licence {run.records['licence']}{trained}"


def _terms(source: Mapping[str, Any]) -> str:
    return f"licence {source['licence']}; origin {source['origin']}"


def _drawn(records: Mapping[str, Any]) -> list[str]:
    """`same_type_entity_question of 12 edits`, one for each field that was drawn."""
    counts: Mapping[str, int] = records.get("drawn") or {}
    return [f"{field} of {n} edit{'s' if n > 1 else ''}" for field, n in counts.items()]
