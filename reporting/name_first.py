"""Name first, then ask: what it changes to let the model say what a picture shows.

Where `evaluate.name_first` asked so, each probe of a picture was also asked in text, by the words
of the unedited model. Beside the direct answers stand those, and the paired difference; the price
is in what should not have changed: Locality, Stability, and Leak.
"""

from collections.abc import Sequence

from metrics.name_first import CHAIN, CHAIN_GAIN, RECOGNITION
from reporting.by_name import AT_ONCE_NOTE, named_first
from reporting.comparable import check_comparable, data_and_seeds, in_order
from reporting.entries import Entry
from reporting.floors import floor_notes
from reporting.formats import Cell, ResultTable, Row, metric_column
from reporting.labels import editor_note, model_label
from reporting.overlap import marked_name
from reporting.reading import marked_cell
from reporting.tables import metric_cell, points_cell, seed_notes

AT_ONCE, NAMED, GAINED = "at once", "by name", "gain"


def name_first_table(entries: Sequence[Entry]) -> ResultTable | None:
    """Answers at once and by a name of one scenario's rows.

    Args:
        entries: of one scenario, of any models.

    Returns:
        Three rows per model and name: at once, by name, and their difference; None where no row was
        asked by a name.

    Raises:
        DataError: the rows cannot share a table.
    """
    told = [entry for entry in in_order(entries) if named_first(entry.variants, entry.scenario)]
    if not told:
        return None
    check_comparable(told)
    names = list(dict.fromkeys(n for e in told for n in named_first(e.variants, e.scenario)))
    recognised = [name for name in RECOGNITION if any(name in entry.variants for entry in told)]
    rows = []
    for entry in told:
        found = entry.variants
        cells = {
            AT_ONCE: [marked_cell(entry, name) for name in names],
            NAMED: [metric_cell(found.get(f"{name}{CHAIN}")) for name in names],
            GAINED: [points_cell(found.get(f"{name}_{CHAIN_GAIN}")) for name in names],
        }
        for how, of_names in cells.items():
            named = [
                metric_cell(found.get(name)) if how == NAMED else Cell() for name in recognised
            ]
            heads = (model_label(entry.model), marked_name(entry), how)
            row = (*named, *of_names)
            rows.append(Row(heads, str(entry.n_edits), row, seeds=len(entry.runs)))
    notes = (
        "By name: the unedited model answers freely what the picture shows, its words go into the "
        "record's text question, and the edited model answers that. Gain: by name minus at once, "
        "in points with the 95 % interval, paired over the records and probes that were asked by "
        "a name; bold: it excludes 0. Recognition: the words are the name of what is shown. "
        "Locality_I by name compares the unedited and the edited model on the same text question.",
        AT_ONCE_NOTE,
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        "Figures by name have no mark: their floors are the unedited model's figure by name, and "
        "Leak by name.",
        *seed_notes(told),
        *editor_note(entry.editor for entry in told),
    )
    columns = tuple(metric_column(name) for name in (*recognised, *names))
    title = f"Name first, {told[0].scenario} scenario, {data_and_seeds(told)}"
    return ResultTable(title, ("Model", "Editor", "Asked"), columns, tuple(rows), notes)
