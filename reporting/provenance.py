"""What a report says of its runs besides their numbers: what they share, and where each lies."""

from collections.abc import Sequence

from reporting.blocks import Items, Section, Span, Spans, Text, code, spans, text
from reporting.comparable import SHARED_BY_TABLE
from reporting.entries import Entry, listed, seeds_of
from reporting.naming import typed
from reporting.origins import origin_notes
from results.folder import RunResult


def shared_facts(entries: Sequence[Entry]) -> Text:
    """What all rows have in common; where they differ, which row has what."""
    scored = [key for key in SHARED_BY_TABLE if key != "data"]
    shown = [key for key in scored if any(key in e.first.settings for e in entries)]
    facts: list[list[tuple[str, object]]] = [[("data", e.first.data) for e in entries]]
    facts.append([(e.seeds.partition(" ")[0], e.seeds.partition(" ")[2]) for e in entries])
    facts += [[(key.replace("_", " "), entry.fact(key)) for entry in entries] for key in shown]
    parts: list[str | Span] = []
    for values in facts:
        names: dict[tuple[str, object], dict[str, None]] = {}
        for entry, fact in zip(entries, values, strict=True):
            names.setdefault((fact[0], str(fact[1])), {})[entry.name] = None
        for (title, value), of_value in names.items():
            parts += [f"{', ' if parts else ''}{title} ", code(value)]
            parts += [f" ({listed(of_value)})"] if len(names) > 1 else []
    return text(*parts)


def provenance_section(entries: Sequence[Entry]) -> Section:
    """Where the records come from, and a line per run."""
    items = [spans(note) for note in origin_notes(entries)]
    items += [_provenance(entry, run) for entry in entries for run in entry.runs]
    return Section("Provenance", (Items(tuple(items)),))


def _provenance(entry: Entry, run: RunResult) -> Spans:
    """One run: what it is, where it lies, and in what it differs from others of its editor."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    name = run.editor if entry.key == run.editor else f"{run.editor}: {entry.name}"
    seeds = ", ".join(f"{key} {value}" for key, value in seeds_of(run).items())
    parts: list[str | Span] = []
    for key, value in entry.differing.items():
        parts += [", ", code(f"{key}={typed(value)}")]
    return spans(
        f"{run.scenario}, {run.model}, {name}, {seeds}: ",
        code(run.folder),
        *parts,
        ", model ",
        code(run.settings.get("model_digest", "unknown")),
        f" ({versions})",
    )
