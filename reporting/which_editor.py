"""The page of `make editors`: which editor to take for one edit, for ten, for a hundred, for more.

One number ranks editors where a choice has to be made, the score of Meng et al. (NeurIPS 2022):

    S = harmonic mean of Reliability, Generality and Locality (of all their columns in a scenario)

of the means over records. It is high only where the new answer is given, in other words too, and
other answers stay; who weighs these otherwise finds all of them below it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import harmonic_mean

from errors import DataError
from metrics.seeds import Measured
from reporting.blocks import Block, Figure, Items, Section, Span, Spans, Table, code, spans, text
from reporting.comparable import by_measure, by_model, check_measured_alike, in_order
from reporting.curves import curve_over_seeds, curve_table
from reporting.docs_page import run_facts, write_docs_page
from reporting.entries import Entry
from reporting.figures import edit_curves
from reporting.formats import (
    BEST,
    EMPTY,
    HIGHER,
    LOWER,
    PLAIN,
    SECOND,
    Cell,
    Column,
    ResultTable,
    Row,
)
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.overlap import marked_name
from reporting.paper import paper_columns
from reporting.sources import Sources
from reporting.tables import GIB, number_cell
from results.folder import BATCH, SEQUENTIAL, SINGLE

TITLE = "Which editor"
VERB = "editors"
MADE = {SINGLE: "one alone", BATCH: "in one update", SEQUENTIAL: "in sequence"}
_PARTS = ("Reliability", "Generality", "Locality")
GOOD_ENOUGH = 5.0  # points of S below the best that the answer still names


@dataclass(frozen=True)
class Standing:
    """What an editor is worth with some number of its edits in place.

    Attributes:
        entry: its row.
        n: edits in place; 1 under single editing.
        metrics: named metrics in percent.
    """

    entry: Entry
    n: int
    metrics: Mapping[str, Measured]

    @property
    def score(self) -> float | None:
        """S in percent; None where one of its parts was not measured."""
        names = [
            name for name in paper_columns(self.entry.scenario) if name.partition("_")[0] in _PARTS
        ]
        means = [self.metrics[name].mean for name in names if name in self.metrics]
        complete = len(means) == len(names) and all(self.metrics[name].n for name in names)
        return harmonic_mean(means) if complete else None


@dataclass(frozen=True)
class Part:
    """Rows that compete with each other.

    Attributes:
        name: model, data set and scenario.
        entries: of one model, data set and scenario.
    """

    name: str
    entries: Sequence[Entry]

    @property
    def key(self) -> str:
        """Of file names; unlike that of any other part."""
        return re.sub(r"\W+", "_", self.name)


def _parts(entries: Sequence[Entry]) -> list[Part]:
    """By model, data set and scenario, each in the order in which it comes first."""
    parts = []
    for model, of_model in by_model(entries):
        for data in dict.fromkeys(entry.first.data for entry in of_model):
            chosen = [entry for entry in of_model if entry.first.data == data]
            parts += [
                Part(f"{model_label(model)} on {data}, {scenario}", list(group))
                for scenario, group in groupby(chosen, key=lambda entry: entry.scenario)
            ]
    return parts


def standings(entry: Entry) -> list[Standing]:
    """Those of a row: one under single editing, else one for each point of its curve.

    A point of one edit is left out: it is one record, of which single editing has many.

    Raises:
        DataError: the row has no curve.
    """
    if entry.protocol_name == SINGLE:
        return [Standing(entry, 1, entry.metrics)]
    curve = curve_over_seeds(entry)
    return [Standing(entry, n, metrics) for n, metrics in curve.items() if n > 1]


def write_page(sources: Sources, file: Path) -> Path:
    """Write the page, and its figures into a folder `figures` beside it.

    Args:
        sources: of `reporting.sources.read_sources`.
        file: replaced where it is there (`reporting.docs_page.check_page`), as are its figures.

    Returns:
        The file, which is written last.

    Raises:
        DataError: no result is of edits made together or in sequence, runs of one part were not
            measured alike, or a run cannot be read.
    """
    return write_docs_page(build_page(sources), file)


def build_page(sources: Sources) -> Section:
    """The whole page as a value; nothing is written.

    Raises:
        DataError: as `write_page`.
    """
    entries = in_order(sources.entries)
    if all(entry.protocol_name == SINGLE for entry in entries):
        raise DataError(
            "--which-editor: none of the results is of many edits. Give folders of evaluate.py "
            f"with protocol=batch or protocol=sequential too, or run make {VERB}."
        )
    parts = _parts(entries)
    for part in parts:
        check_measured_alike(part.entries)
    how = text(
        "This page is written by ", code(f"make {VERB}"), " from result folders alone. S is the "
        "harmonic mean of Reliability, Generality and Locality in percent, of all their columns in "
        "a scenario (Meng et al. 2022): high only where the new answer is given, in other words "
        "too, and other answers stay. It has no interval; its parts, below it, have. The measures "
        "are those of ", code("docs/metrics.md"), ".",
    )  # fmt: skip
    answers = tuple(item for part in parts for item in _answer(part))
    details = tuple(_details(part) for part in parts)
    behind = (run_facts(entries, verb=VERB), spans(*_not_everywhere(parts)))
    return Section(
        TITLE,
        (
            how,
            Section("The answer", (Items(answers),)),
            *details,
            Section("What was run", (Items(behind),)),
        ),
    )


def _answer(part: Part) -> Iterator[Spans]:
    """A line for each number of edits: who is best, who is near, who is lost."""
    edited = [of for entry in part.entries if entry.editor != UNEDITED for of in standings(entry)]
    for n in sorted({standing.n for standing in edited}):
        scores = _best_by_editor([standing for standing in edited if standing.n == n])
        if not scores:
            continue
        _, best = scores[0]
        near = [_scored(*scored) for scored in scores if best - scored[1] <= GOOD_ENOUGH]
        lost = [_scored(*scored) for scored in scores[len(near) :] if scored[1] < best / 2]
        tail = f". Below half of that: {', '.join(lost)}." if lost else "."
        yield spans(
            Span(f"{part.name}, {n:,} edit{'s' if n > 1 else ''}: ", "bold"),
            f"S {', '.join(near)}{tail}",
        )


def _best_by_editor(edited: Sequence[Standing]) -> list[tuple[str, float]]:
    """Name (and how its edits were made) -> its S, the highest first; each name once."""
    scores: dict[str, tuple[str, float]] = {}
    for standing in edited:
        name, score = marked_name(standing.entry), standing.score
        if score is not None and score > scores.get(name, ("", -1.0))[1]:
            made = MADE[standing.entry.protocol_name]
            scores[name] = (name if standing.n == 1 else f"{name} {made}", score)
    return sorted(scores.values(), key=lambda scored: -scored[1])


def _scored(name: str, score: float) -> str:
    return f"{score:.1f} ({name})"


def _details(part: Part) -> Section:
    """Its scores, then the curves behind them."""
    title = f"{part.name} scenario"
    blocks: list[Block] = [Table(score_table(part), f"scores_{part.key}")]
    for protocol in (BATCH, SEQUENTIAL):
        groups = by_measure([entry for entry in part.entries if entry.protocol_name == protocol])
        for number, alike in enumerate(groups, start=1):
            name = f"{part.key}_{protocol}{f'_{number}' if len(groups) > 1 else ''}"
            blocks.append(
                Figure(
                    f"{VERB}_{name}",
                    partial(edit_curves, alike),
                    f"Each metric over the number of edits {MADE[protocol]}, {title}",
                )
            )
            blocks.append(Table(curve_table(alike), name))
    return Section(title, tuple(blocks))


def score_table(part: Part) -> ResultTable:
    """S by number of edits, and what an edit costs.

    Returns:
        A row per editor and protocol, those of single edits first; of each number of edits the best
        is marked, over all rows.
    """
    entries = sorted(part.entries, key=lambda entry: list(MADE).index(entry.protocol_name))
    scores = [{of.n: of.score for of in standings(entry)} for entry in entries]
    numbers = sorted({n for of_entry in scores for n in of_entry})
    ranked = {
        n: sorted({s for of in scores if (s := of.get(n)) is not None}, reverse=True)
        for n in numbers
    }
    rows = tuple(
        Row(
            (marked_name(entry), MADE[entry.protocol_name]),
            str(entry.n_edits),
            (
                *(_score_cell(of_entry.get(n), ranked[n]) for n in numbers),
                number_cell(entry.number("seconds_per_edit"), ".2g"),
                number_cell(entry.number("answer_seconds_per_edit"), ".2g"),
                number_cell(entry.number("peak_memory_bytes"), ".2f", GIB),
            ),
            seeds=len(entry.runs),
        )
        for entry, of_entry in zip(entries, scores, strict=True)
    )
    columns = (
        *(Column(f"S, {n:,}", HIGHER) for n in numbers),
        Column("s / edit", LOWER),
        Column("s / its answers", LOWER),
        Column("Peak memory (GiB)", LOWER),
    )
    notes = (
        "S of so many edits: one alone (of the means over n single edits), in one update of the "
        "unedited model, or in sequence, each turn on top of the earlier ones; best bold, second "
        f"underlined. {EMPTY}: not measured, or not defined for the method.",
        *editor_note(entry.editor for entry in entries),
    )
    title = f"S by number of edits, {part.name} scenario"
    return ResultTable(title, ("Editor", "Edits made"), columns, rows, notes)


def _score_cell(score: float | None, ranked: Sequence[float]) -> Cell:
    if score is None:
        return Cell()
    return Cell(f"{score:.1f}", mark={0: BEST, 1: SECOND}.get(ranked.index(score), PLAIN))


def _not_everywhere(parts: Sequence[Part]) -> Iterator[str]:
    """Editors that some part of the page lacks, so that no dash is taken for a failure."""
    every = dict.fromkeys(marked_name(entry) for part in parts for entry in part.entries)
    missing = []
    for part in parts:
        shown = {(marked_name(entry), entry.protocol_name) for entry in part.entries}
        for protocol, made in MADE.items():
            absent = [name for name in every if (name, protocol) not in shown]
            if absent and any(protocol == of for _, of in shown):
                missing.append(f"{part.name}, {made}: {', '.join(absent)}")
    yield f"Not there: {'; '.join(missing)}." if missing else "Every editor is everywhere."
