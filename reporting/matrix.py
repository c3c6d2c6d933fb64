r"""The whole matrix: edits in text, on a picture or in both, asked in text and about the picture.

    edit \ asked    in text                 about the picture of the edit
    text            unimodal, Reliability   transitive, Reliability_S
    picture         reverse, Reliability    multimodal, Reliability_S
    both            joint, Reliability_T    joint, Reliability_S

Beside each value stands its gain over the unedited model on the same probe: what is high before any
edit is no transfer. Cells off the diagonal are what an edit carries over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from metrics.headlines import GAIN, SPECIFICITY, floors_of
from metrics.seeds import Measured
from reporting.clusters import cluster_notes
from reporting.comparable import are_comparable, by_model, data_and_seeds
from reporting.entries import Entry, listed
from reporting.floors import floor_notes
from reporting.formats import EMPTY, HIGHER, Column, ResultTable, Row
from reporting.labels import UNEDITED, editor_note, editor_rank, model_label, scenario_rank
from reporting.overlap import marked_name
from reporting.reading import marked_cell
from reporting.style import COLUMN_INCHES, STYLE, drawn_text, save
from reporting.tables import points_cell

EDITS = ("text", "picture", "both")
ASKED = ("text", "picture")
RELIABILITY = "Reliability"
ACROSS = 6  # editors side by side in the figure
_DARK = 55  # percent; text on darker cells is white
_STRONG = 60  # points; text on cells of so strong a gain is white


# What is edited and how it is asked -> the scenario, and the suffix of its metrics.
PLACES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("text", "text"): ("unimodal", ""),
    ("text", "picture"): ("transitive", "_S"),
    ("picture", "text"): ("reverse", ""),
    ("picture", "picture"): ("multimodal", "_S"),
    ("both", "text"): ("joint", "_T"),
    ("both", "picture"): ("joint", "_S"),
}


@dataclass(frozen=True)
class Matrix:
    """What is there of one row: a model and an editor under some scenarios.

    Attributes:
        name: of the row.
        entries: by scenario, in their order; all were judged alike.
        left_out: scenarios of the same row that were judged otherwise.
    """

    name: str
    entries: Mapping[str, Entry]
    left_out: tuple[str, ...] = ()

    @property
    def first(self) -> Entry:
        return next(iter(self.entries.values()))

    def entry(self, edit: str, asked: str) -> Entry | None:
        """The run of a cell; None where there is none."""
        return self.entries.get(PLACES[edit, asked][0])

    def metric(self, edit: str, asked: str) -> str:
        """What Reliability is called there."""
        return f"{RELIABILITY}{PLACES[edit, asked][1]}"

    def value(self, edit: str, asked: str) -> Measured | None:
        """Reliability there; None where nothing was measured."""
        entry = self.entry(edit, asked)
        return None if entry is None else entry.metrics.get(self.metric(edit, asked))

    def gain(self, edit: str, asked: str) -> Measured | None:
        """Its gain over the unedited model; None also in results that do not say."""
        entry, floors = self.entry(edit, asked), floors_of(self.metric(edit, asked))
        return None if entry is None else entry.variants.get(floors[GAIN])

    def specificity(self, edit: str, asked: str) -> Measured | None:
        """What of it is about the edited subject alone; None also in results that do not say."""
        entry, floors = self.entry(edit, asked), floors_of(self.metric(edit, asked))
        return None if entry is None else entry.metrics.get(floors[SPECIFICITY.lower()])


def matrices(entries: Sequence[Entry]) -> list[Matrix]:
    """One for each model and row that more than one cell is there of.

    Args:
        entries: of any scenarios and models, of single edits.

    Returns:
        By model and editor. Of runs that differ in data, scoring or weights of the model those like
        the first scenario's are shown.
    """
    found = []
    for _, of_model in by_model(entries):
        names = sorted(
            {(entry.name, entry.editor) for entry in of_model},
            key=lambda key: (editor_rank(key[1]), key[0]),
        )
        for name, editor in names:
            of_row = sorted(
                (one for one in of_model if (one.name, one.editor) == (name, editor)),
                key=lambda entry: scenario_rank(entry.scenario),
            )
            alike = [entry for entry in of_row if are_comparable([of_row[0], entry])]
            left_out = tuple(entry.scenario for entry in of_row if entry not in alike)
            found.append(Matrix(name, {entry.scenario: entry for entry in alike}, left_out))
    return [matrix for matrix in found if "joint" in matrix.entries or len(matrix.entries) > 1]


def matrix_table(rows: Sequence[Matrix]) -> ResultTable | None:
    """Values, gains and specificity of Reliability, a line for each kind of edit.

    Returns:
        Per row three lines, of the unedited model one; a dash where a run is missing or the method
        is not defined. None without rows.
    """
    if not rows:
        return None
    columns = tuple(
        Column(f"{title}, {asked}", HIGHER)
        for asked in ("in text", "picture")
        for title in ("Reliability", "gain", "specificity")
    )
    lines = [line for matrix in rows for line in _lines(matrix)]
    shown = [entry for matrix in rows for entry in matrix.entries.values()]
    notes = (
        "What is edited, and how it is asked: in text, or about the picture that belongs to the "
        "edit. Text edits are those of scenario=unimodal and transitive, picture edits those of "
        "reverse and multimodal, edits in both those of joint. Gains are over the unedited model "
        "on the same probe, specificities over the new answer on another subject of the type, in "
        "points with the 95 % interval; bold: it excludes 0. A dash: there is no such run, the "
        "method is not defined there, or no record has the probe.",
        *cluster_notes(shown),
        *floor_notes(cell.floor for line in lines for cell in line.cells),
        *_left_out_notes(rows),
        *editor_note(entry.editor for entry in shown),
    )
    title = f"What is edited by how it is asked, {data_and_seeds(shown)} (percent)"
    return ResultTable(title, ("Model", "Editor", "Edit"), columns, tuple(lines), notes)


def _lines(matrix: Matrix) -> Iterator[Row]:
    """The lines of one row of a report."""
    kinds = [(edit, [(edit, asked) for asked in ASKED]) for edit in EDITS]
    if matrix.first.editor == UNEDITED:  # whatever is edited
        kinds = [(EMPTY, [_first_there(matrix, asked) for asked in ASKED])]
    for edit, asked in kinds:
        entries = list(filter(None, (matrix.entry(*cell) for cell in asked)))
        cells = [
            cell
            for one in asked
            for cell in (
                marked_cell(matrix.entry(*one), matrix.metric(*one)),
                points_cell(matrix.gain(*one)),
                points_cell(matrix.specificity(*one)),
            )
        ]
        sizes = sorted({entry.n_edits for entry in entries})
        yield Row(
            (model_label(matrix.first.model), marked_name(matrix.first), edit),
            " / ".join(map(str, sizes)) or EMPTY,
            tuple(cells),
            seeds=max((len(entry.runs) for entry in entries), default=0),
        )


def _first_there(matrix: Matrix, asked: str) -> tuple[str, str]:
    """A cell of a question that there is a run of, if there is any."""
    there = [edit for edit in EDITS if matrix.entry(edit, asked) is not None]
    return (*there, EDITS[0])[0], asked


def _left_out_notes(rows: Sequence[Matrix]) -> list[str]:
    return [
        f"{matrix.name} on {model_label(matrix.first.model)}: scenario {listed(matrix.left_out)} "
        f"was judged otherwise than {next(iter(matrix.entries))} and is not shown."
        for matrix in rows
        if matrix.left_out
    ]


def matrix_heat_maps(rows: Sequence[Matrix], base: Path) -> list[Path]:
    """Reliability of one model: per editor a map of values and below it one of gains."""
    rows = [matrix for matrix in rows if matrix.first.editor != UNEDITED] or list(rows)
    across = min(ACROSS, len(rows))
    bands = -(-len(rows) // across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 0.6 + 2.8 * bands), layout="constrained")
        axes = figure.subplots(2 * bands, across, sharey=True, squeeze=False)
        for number, matrix in enumerate(rows):
            band, column = divmod(number, across)
            means = [
                _means([read(edit, asked) for edit in EDITS for asked in ASKED])
                for read in (matrix.value, matrix.gain)
            ]
            upper, lower = axes[2 * band : 2 * band + 2, column]
            upper.imshow(means[0], cmap="cividis", vmin=0, vmax=100, aspect="auto")
            lower.imshow(means[1], cmap="PuOr", vmin=-100, vmax=100, aspect="auto")
            upper.set_title(drawn_text(matrix.name), fontsize=8)
            _write(upper, means[0], "{:.0f}", lambda value: value < _DARK)
            _write(lower, means[1], "{:+.0f}", lambda value: abs(value) > _STRONG)
        for number, axis in enumerate(axes.ravel()):
            band, column = number // across // 2, number % across
            axis.set_visible(band * across + column < len(rows))
            axis.set_yticks(range(len(EDITS)), EDITS)
            axis.set_xticks(range(len(ASKED)), ASKED, fontsize=8)
        for number, (axis, *_) in enumerate(axes):
            axis.set_ylabel(("edit (percent)", "edit (gain, points)")[number % 2])
        figure.supxlabel("asked in text, or about the picture of the edit", fontsize=9)
        figure.suptitle(drawn_text(f"{model_label(rows[0].first.model)}: Reliability"))
        return save(figure, base)


def _means(values: Sequence[Measured | None]) -> np.ndarray:
    """Means by edit and question: (3, 2); nan where nothing was measured."""
    means = [value.mean if value is not None and value.n else np.nan for value in values]
    return np.array(means, dtype=float).reshape(len(EDITS), len(ASKED))


def _write(axis: Any, means: np.ndarray, form: str, is_dark: Callable[[float], bool]) -> None:
    """The numbers of a heat map, readable on dark and light cells."""
    for (line, column), value in np.ndenumerate(means):
        text = EMPTY if np.isnan(value) else form.format(round(value) + 0.0)
        colour = "white" if not np.isnan(value) and is_dark(value) else "black"
        axis.text(column, line, text, ha="center", va="center", color=colour, fontsize=8)
