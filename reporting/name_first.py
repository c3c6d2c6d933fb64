"""Name first, then ask: what it changes to let the model say what a picture shows.

Where `evaluate.name_first` asked so, each probe of a picture was also asked in text, by the words
of the unedited model. Beside the direct answers stand those, and two paired differences: over
asking at once, and over the unedited model that is asked by the same name. The price is in what
should not have changed: Locality, Stability, and Leak.
"""

from collections.abc import Sequence
from dataclasses import replace

from metrics.name_first import CHAIN, CHAIN_GAIN, EDIT_GAIN, RECOGNITION
from reporting.by_name import AT_ONCE_NOTE, named_first
from reporting.comparable import check_comparable, data_and_seeds, in_order
from reporting.entries import Entry
from reporting.floors import floor_marks, floor_notes
from reporting.formats import EMPTY, Cell, ResultTable, Row, metric_column
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.overlap import marked_name
from reporting.reading import marked_cell
from reporting.tables import metric_cell, points_cell, seed_notes

AT_ONCE, NAMED, GAINED, ADDED = "at once", "by name", "gain", "gain of the edit"


def name_first_table(entries: Sequence[Entry]) -> ResultTable | None:
    """Answers at once and by a name of one scenario's rows.

    Args:
        entries: of one scenario, of any models.

    Returns:
        Four rows per model and name: at once, by name, and by name minus at once and minus the
        unedited model by name, which has no such row itself; None where no row was asked by a name.

    Raises:
        DataError: the rows cannot share a table.
    """
    shown = [entry for entry in in_order(entries) if named_first(entry.variants, entry.scenario)]
    if not shown:
        return None
    check_comparable(shown)
    names = list(dict.fromkeys(n for e in shown for n in named_first(e.variants, e.scenario)))
    recognised = [name for name in RECOGNITION if any(name in entry.variants for entry in shown)]
    rows = []
    for entry in shown:
        variants = entry.variants
        chained = floor_marks(entry, [f"{name}{CHAIN}" for name in names])
        marks = {name.removesuffix(CHAIN): mark for name, mark in chained.items()}
        cells = {
            AT_ONCE: [marked_cell(entry, name) for name in names],
            NAMED: [
                replace(metric_cell(variants.get(f"{name}{CHAIN}")), floor=marks.get(name, ""))
                for name in names
            ],
            GAINED: [points_cell(variants.get(f"{name}_{CHAIN_GAIN}")) for name in names],
        }
        if entry.editor != UNEDITED:
            cells[ADDED] = [points_cell(variants.get(f"{name}_{EDIT_GAIN}")) for name in names]
        for how, of_names in cells.items():
            named = [
                metric_cell(variants.get(name)) if how == NAMED else Cell() for name in recognised
            ]
            heads = (model_label(entry.model), marked_name(entry), how)
            row = (*named, *of_names)
            rows.append(Row(heads, str(entry.n_edits), row, seeds=len(entry.runs)))
    notes = (
        "By name: the unedited model answers freely what the picture shows, its words go into the "
        "record's text question, and the edited model answers that. Gain: by name minus at once; "
        "gain of the edit: by name minus the unedited model, asked the same questions by name "
        f"({EMPTY}: it was not, or the figure compares with it already). Both in points with the "
        "95 % interval, paired over the records and probes that were asked by a name; bold: it "
        "excludes 0. Recognition: the words are the name of what is shown. "
        "Locality_I by name compares the unedited and the edited model on the same text question.",
        AT_ONCE_NOTE,
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        "Of figures by name the floors are the unedited model's figure by name, and the new answer "
        "about another entity by its name.",
        *seed_notes(shown),
        *editor_note(entry.editor for entry in shown),
    )
    columns = tuple(metric_column(name) for name in (*recognised, *names))
    title = f"Name first, {shown[0].scenario} scenario, {data_and_seeds(shown)}"
    return ResultTable(title, ("Model", "Editor", "Asked"), columns, tuple(rows), notes)
