"""Edits that share something with what their editor learnt from: said beside every number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reporting.entries import Entry, listed
from results.folder import RunResult

_PLURALS = {"subject": "subjects", "fact": "facts", "folder": "picture folders"}
_MARK = " (overlap)"


def overlap_phrase(run: RunResult) -> str:
    """`, 12 of 60 edits overlap with the training (...)`; nothing where none does."""
    shared = run.overlap
    return f", {_sentence(shared)}" if shared else ""


def marked_name(entry: Entry) -> str:
    """The name of a row, with a word where its editor learnt from what it is judged on."""
    is_marked = any(run.overlap and run.overlap.get("is_read") for run in entry.runs)
    return entry.name + (_MARK if is_marked else "")


def overlap_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What rows share with what their editors learnt from; nothing where none does."""
    names: dict[str, dict[str, None]] = {}
    for entry in entries:
        for run in entry.runs:
            if shared := run.overlap:
                names.setdefault(_sentence(shared), {})[entry.name] = None
    if not names:
        return ()
    told = (f"{sentence} ({listed(of)})" for sentence, of in names.items())
    return (f"Overlap (data.allow_overlap=true): {'; '.join(told)}.",)


def _sentence(shared: Mapping[str, Any]) -> str:
    """`12 of 60 edits overlap with the checkpoint's training: 12 of 60 subjects, 9 of 60 facts`."""
    learnt = "the checkpoint's training" if shared.get("with") == "checkpoint" else (
        "the training records"
        if shared.get("is_read")
        else "the training records, which this editor does not read"
    )  # fmt: skip
    return (
        f"{shared['edits']:,} of {shared['of']:,} edits overlap with {learnt}: "
        f"{', '.join(_kinds(shared))}"
    )


def _kinds(shared: Mapping[str, Any]) -> Iterable[str]:
    for kind, plural in _PLURALS.items():
        counts = shared.get(kind)
        if counts and counts["n"]:
            yield f"{counts['n']:,} of {counts['of']:,} {plural}"
