"""What an edit does to pictures that the unedited model read, and to those that it did not.

A text edit can only reach a picture whose subject the model recognises. An editor that scores as
high on pictures which the model could not read moves the question's answer, not the fact. So each
row is split by what the unedited model made of the picture (`metrics.headlines.PARTS`): read and
unread by the answer to the probe's own question, named and unnamed by the name of what is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from metrics.headlines import EM, FIRST, GAIN, PARTS, SPECIFICITY, floors_of
from metrics.seeds import Measured
from reporting.beside import PART_TITLES
from reporting.clusters import cluster_notes
from reporting.comparable import are_comparable, check_comparable, data_and_seeds, in_order
from reporting.entries import Entry
from reporting.floors import floor_marks, floor_notes
from reporting.formats import HIGHER, Cell, Column, ResultTable, Row
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.overlap import marked_name
from reporting.paper import paper_columns
from reporting.tables import metric_cell, points_cell

PICTURES = {"seen": "Reliability_S", "unseen": "Reliability_U"}
IN_TEXT = "Reliability"
OWN_IN_TEXT = "Reliability_T"  # of a scenario that asks in text too
KEPT = ("Locality_T", "Locality_I", "Stability")


def reading_table(entries: Sequence[Entry], in_text: Sequence[Entry] = ()) -> ResultTable | None:
    """Reliability on pictures: how much of it is new, and of which pictures it is.

    Args:
        entries: of one scenario with pictures.
        in_text: rows of the unimodal scenario, for the same editor's Reliability in text where
            the scenario asks nothing in text.

    Returns:
        Two rows per model and name, for the seen and the unseen picture; None where no row says
        what was read.

    Raises:
        DataError: the rows cannot share a table.
    """
    told = [entry for entry in in_order(entries) if _says(entry)]
    if not told:
        return None
    check_comparable(told)
    columns = (
        Column("In text", HIGHER), Column("On the picture", HIGHER), Column("Gain", HIGHER),
        Column(SPECIFICITY, HIGHER), Column("First token", HIGHER), Column("Exact match", HIGHER),
        *(
            column
            for part in PARTS
            for column in (Column(PART_TITLES[part.suffix]), Column(f"n {part.suffix}"))
        ),
        *(Column(name, HIGHER) for name in KEPT),
    )  # fmt: skip
    rows = tuple(
        Row(
            (model_label(entry.model), marked_name(entry), picture),
            str(entry.n_edits),
            (
                _in_text_cell(entry, in_text),
                marked_cell(entry, name),
                points_cell(entry.variants.get(f"{name}_{GAIN}")),
                points_cell(entry.metrics.get(floors_of(name)[SPECIFICITY.lower()])),
                metric_cell(entry.metrics.get(f"{name}_{FIRST}")),
                metric_cell(entry.metrics.get(f"{name}_{EM}")),
                *_part_cells(name, entry.variants),
                *(metric_cell(entry.metrics.get(kept)) for kept in KEPT),
            ),
            seeds=len(entry.runs),
        )
        for entry in told
        for picture, name in PICTURES.items()
    )
    of_its_own = any(OWN_IN_TEXT in entry.metrics for entry in told)
    edited = "after the same edit" if of_its_own else "after an edit in text, of scenario=unimodal"
    notes = (
        f"In text: the row's Reliability {edited}.",
        "Reliability, in percent; first token and exact match: the first, and every, token of the "
        "answer. Gain: points over the unedited model's score of the same probes; Specificity: "
        "points over what the new answer scores about another entity of the same type; both with "
        "the 95 % interval of the paired difference. Before the edit the "
        "unedited model read a picture if it answered the probe's own question about it with the "
        "true answer, and named it if it gave the subject's name; pictures without a question for "
        "the name are neither named nor not. Localities and Stability are of the row's editor.",
        *cluster_notes(told),
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        *editor_note(entry.editor for entry in told),
    )
    title = f"Reliability by what was read, {told[0].scenario} scenario, {data_and_seeds(told)}"
    return ResultTable(title, ("Model", "Editor", "Picture"), columns, rows, notes)


def gain_table(entries: Sequence[Entry]) -> ResultTable | None:
    """Gains over the unedited model of one scenario's rows, in points.

    Args:
        entries: of one scenario, of any models.

    Returns:
        A row per model and name but the unedited model's; None where no row says.

    Raises:
        DataError: the rows cannot share a table.
    """
    told = [e for e in in_order(entries) if e.editor != UNEDITED and f"Leak_{GAIN}" in e.variants]
    if not told:
        return None
    check_comparable(entries)
    gained = [f"{name}_{GAIN}" for name in (*paper_columns(told[0].scenario), "Leak")]
    shown = [name for name in gained if any(name in entry.variants for entry in told)]
    columns = tuple(
        Column(name.removesuffix(f"_{GAIN}"), "↓" if name.startswith("Leak") else HIGHER)
        for name in shown
    )
    rows = tuple(
        Row(
            (model_label(entry.model), marked_name(entry)),
            str(entry.n_edits),
            tuple(points_cell(entry.variants.get(name)) for name in shown),
            seeds=len(entry.runs),
        )
        for entry in told
    )
    notes = (
        "Token accuracy after the edit minus that of the unedited model, of the same probe against "
        "the same target, in points with the 95 % interval. Bold: it excludes 0.",
        *cluster_notes(told),
        *editor_note(entry.editor for entry in told),
    )
    title = f"Gain over the unedited model, {told[0].scenario} scenario, {data_and_seeds(told)}"
    return ResultTable(f"{title} (points)", ("Model", "Editor"), columns, rows, notes)


def _says(entry: Entry) -> bool:
    """Whether something of a row's pictures was read or not read, or named or not."""
    return any(
        (value := entry.variants.get(f"{name}_{part.suffix}")) is not None and value.n
        for name in PICTURES.values()
        for part in PARTS
    )


def _part_cells(name: str, variants: Mapping[str, Measured]) -> list[Cell]:
    cells = []
    for part in PARTS:
        value = variants.get(f"{name}_{part.suffix}")
        cells += [metric_cell(value), Cell(str(value.n if value is not None else 0))]
    return cells


def marked_cell(entry: Entry | None, name: str) -> Cell:
    """A figure with the marks of the floors that it is not told from."""
    if entry is None:
        return Cell()
    marks = floor_marks(entry, [name]).get(name, "")
    return replace(metric_cell(entry.metrics.get(name)), floor=marks)


def _in_text_cell(entry: Entry, in_text: Sequence[Entry]) -> Cell:
    """Reliability in text: after the edits of the row themselves, where they were asked so."""
    if OWN_IN_TEXT in entry.metrics:
        return marked_cell(entry, OWN_IN_TEXT)
    return marked_cell(_row_in_text(entry, in_text), IN_TEXT)


def _row_in_text(entry: Entry, in_text: Sequence[Entry]) -> Entry | None:
    """The same row of the unimodal scenario; None where it was not judged alike."""
    key = (entry.model, entry.name, entry.editor)
    same = [other for other in in_text if (other.model, other.name, other.editor) == key]
    if len(same) != 1 or not are_comparable([same[0], entry]):
        return None
    return same[0]
