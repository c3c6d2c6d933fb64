"""Result tables laid out as Tables 1-3 of the paper, and the table of costs.

One row per model and editor, one column per metric: mean ± half the 95 % interval over records, in
percent; of a row with several seeds their mean and standard deviation, 98.2 (SD 0.4). Per model the
best editor is bold and the second underlined; a dagger says that an editor is not told apart from
the best. The unedited model comes first and is not ranked, since it keeps everything that an edit
may disturb. Tables with pictures show behind the paper's columns what Reliability on the seen
picture is above, and in all tables figures that are not told from a floor are marked
(`reporting.floors`). Under the rows of a model that the paper has used stand the paper's figures
and the difference to them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from metrics.bootstrap import Estimate
from metrics.headlines import EM, FIRST, GM, is_difference
from metrics.seeds import Measured, OverSeeds
from reporting.clusters import cluster_notes, drawn_over, target_notes
from reporting.comparable import (
    by_measure,
    check_comparable,
    data_and_seeds,
    in_order,
    measure_notes,
)
from reporting.entries import Entry, listed
from reporting.floors import floor_marks, floor_notes, seen_columns
from reporting.formats import (
    BEST,
    DIFFERENCE,
    EMPTY,
    LOWER,
    PAPER,
    PLAIN,
    SECOND,
    TIED,
    Cell,
    Column,
    ResultTable,
    Row,
    fewer_records,
    metric_column,
)
from reporting.labels import (
    UNEDITED,
    editor_note,
    lower_is_better,
    model_label,
    together_label,
)
from reporting.origins import origin_notes
from reporting.overlap import marked_name, overlap_notes
from reporting.pairs import (
    Pair,
    difference_cell,
    excludes_zero,
    interval_notes,
    paired_differences,
)
from reporting.paper import deviations, paper_columns, paper_row, paper_tables
from results.folder import RunResult

GIB = 2**30
# Title and name of the tables of what the paper's table does not show: of metrics by another
# measure, by their suffix, and of all others.
_BESIDE = ("Beside the paper's columns", "further")
_MEASURES = {
    EM: ("By exact match", "exact_match"),
    FIRST: ("By the first token", "first_token"),
    GM: ("By the generated answer", "generated"),
}


def scenario_table(entries: Sequence[Entry], columns: Sequence[str] | None = None) -> ResultTable:
    """The table of one scenario.

    Args:
        entries: of one scenario, in any order.
        columns: metrics to show; the paper's columns of the scenario if None, and with pictures
            what Reliability on the seen picture is above.

    Returns:
        Rows by model and editor, the paper's figures beneath those it has.

    Raises:
        DataError: the rows cannot share a table (see `check_comparable`), or a run's
            `edits.parquet` cannot be read.
    """
    check_comparable(entries)
    published = paper_columns(entries[0].scenario)
    names = (*published, *seen_columns(entries, published)) if columns is None else tuple(columns)
    rows: list[Row] = []
    ties: list[Estimate] = []
    floors: list[str] = []
    for alike in by_measure(entries):
        marks = _marks(alike, names)
        tied = _tied_with_best(alike, marks)
        ties += tied.values()
        for entry in alike:
            of_floors = floor_marks(entry, names)
            floors += of_floors.values()
            cells = tuple(
                replace(
                    _cell(entry, name),
                    mark=marks.get((entry.name, name), PLAIN),
                    is_tied=(entry.name, name) in tied,
                    floor=of_floors.get(name, ""),
                )
                for name in names
            )
            heads = (model_label(entry.model), marked_name(entry))
            rows.append(Row(heads, str(entry.n_edits), cells, seeds=len(entry.runs)))
            rows += _paper_rows(entry, len(names)) if columns is None else []
    titled = tuple(metric_column(name) for name in names)
    notes = (
        *seed_notes(entries),
        *cluster_notes(entries),
        *target_notes(entries),
        *fewer_records(rows, titled),
        *_difference_note(names),
        *_tie_note(ties, entries),
        *floor_notes(floors),
        *measure_notes(entries),
        *left_out_notes(entries),
        *origin_notes(entries),
        *overlap_notes(entries),
        *(_paper_notes(in_order(entries)) if columns is None else ()),
        *editor_note(entry.editor for entry in entries),
    )
    return ResultTable(_title(entries), ("Model", "Editor"), titled, tuple(rows), notes)


def seed_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What stands behind a mean where rows have several seeds; nothing where none has."""
    several = [len(entry.runs) > 1 for entry in entries]
    if not any(several):
        return ()
    single = [entry.first for entry in entries if len(entry.runs) == 1]
    over = f"; rows of one seed: ± half the 95 % interval over {drawn_over(single)}"
    rest = over if single else ""
    return (
        "Rows of several seeds: the mean over the seeds and in brackets SD, the standard deviation "
        f"between them; n counts the edits of one seed{rest}.",
    )


def left_out_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """How many records rows left out that could not be used or joined; nothing where none did."""
    names: dict[int, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.first.n_left_out, []).append(entry.name)
    if not any(names):
        return ()
    counts = (f"{count} ({listed(dict.fromkeys(of))})" for count, of in sorted(names.items()))
    return (
        "Records left out because they could not be used or not be joined (summary.json lists "
        f"them): {', '.join(counts)}.",
    )


def left_out_phrase(run: RunResult) -> str:
    """`, 3 records left out`; nothing where none was."""
    n = run.n_left_out
    return f", {n} record{'s' if n > 1 else ''} left out" if n else ""


def further_columns(entries: Sequence[Entry]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Metrics that the scenario's table does not show, in the order of the files.

    Returns:
        Title, name and columns of each further table: one of what stands beside the paper's
        columns, and one of each other measure, since there are as many metrics of each.
    """
    published = paper_columns(entries[0].scenario)
    shown = {*published, *seen_columns(entries, published)}
    names = dict.fromkeys(name for entry in entries for name in entry.metrics)
    tables: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if name not in shown:
            tables.setdefault(_MEASURES.get(name.rpartition("_")[2], _BESIDE), []).append(name)
    return [(*head, tuple(columns)) for head, columns in tables.items()]


def cost_table(entries: Sequence[Entry]) -> ResultTable:
    """What the editors cost: weights, time and memory.

    Args:
        entries: of any scenarios and models.

    Returns:
        A row per scenario, model and name; a dash where a run did not measure something.
    """
    columns = (
        Column("Trained parameters", LOWER),
        Column("s / edit", LOWER),
        Column("s / its answers", LOWER),
        Column("Peak memory (GiB)", LOWER),
    )
    rows = tuple(
        Row(
            (entry.scenario, model_label(entry.model), entry.name),
            str(entry.n_edits),
            (
                number_cell(entry.number("trained_parameters"), ",.0f"),
                number_cell(entry.number("seconds_per_edit"), ".2g"),
                number_cell(entry.number("answer_seconds_per_edit"), ".2g"),
                number_cell(entry.number("peak_memory_bytes"), ".2f", GIB),
            ),
            seeds=len(entry.runs),
        )
        for entry in in_order(entries)
    )
    notes = (
        "Seconds are means over n edits, to make an edit and to answer all its probes under it. "
        "Edits of a batch share their time, so there is no interval. Trained parameters are those "
        "that train.py learned; 0 for methods without training.",
        *_cost_seed_notes(entries),
        *editor_note(entry.editor for entry in entries),
    )
    return ResultTable("Cost", ("Scenario", "Model", "Editor"), columns, rows, notes)


def points_cell(value: Measured | None) -> Cell:
    """`+12.3 [10.1, 14.6]`; of several seeds the mean with their standard deviation."""
    if isinstance(value, Estimate):
        return difference_cell(value)
    cell = metric_cell(value)
    return cell if value is None else replace(cell, text=f"{value.mean:+.1f}")


def metric_cell(value: Measured | None) -> Cell:
    """Mean ± half the interval, or the mean over seeds with their standard deviation.

    A metric that the run lacks and one without records look the same: nothing was measured.
    """
    if value is None or value.n == 0:
        return Cell()
    if isinstance(value, OverSeeds):
        sd = EMPTY if value.sd is None else f"{value.sd:.1f}"
        return Cell(f"{value.mean:.1f}", sd=sd, n=value.n)
    half = f"{value.half_width:.1f}" if value.has_interval else EMPTY
    return Cell(f"{value.mean:.1f}", half, n=value.n)


def _cell(entry: Entry, name: str) -> Cell:
    """A figure of a row, or the difference that a gain or a specificity is."""
    if is_difference(name):
        return points_cell(entry.metrics.get(name) or entry.variants.get(name))
    return metric_cell(entry.metrics.get(name))


def _difference_note(names: Iterable[str]) -> tuple[str, ...]:
    if not any(map(is_difference, names)):
        return ()
    return (
        "Gain (over the unedited model) and Specificity (the new answer about the edited subject "
        "minus about another entity) are in points, with the 95 % interval of the paired "
        "difference.",
    )


def _title(entries: Sequence[Entry]) -> str:
    first = entries[0]
    protocol = together_label(first.protocol_name)
    after = f" after {first.n_edits} edits{protocol}" if protocol else ""
    return f"{first.scenario.capitalize()} scenario{after}, {data_and_seeds(entries)} (percent)"


def number_cell(value: Measured | None, form: str, unit: float = 1) -> Cell:
    """A cost in some unit; over several seeds with its standard deviation, where it has any."""
    if value is None:
        return Cell()
    sd = f"{value.sd / unit:.2g}" if isinstance(value, OverSeeds) and value.sd else ""
    return Cell(f"{value.mean / unit:{form}}", sd=sd)


def _cost_seed_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    if all(len(entry.runs) == 1 for entry in entries):
        return ()
    return (
        "Rows of several seeds: means over the seeds, with their standard deviation (SD) where "
        "they differ.",
    )


def _marks(entries: Sequence[Entry], columns: Sequence[str]) -> dict[tuple[str, str], str]:
    """Best and second row of one model per column, at the precision that is printed."""
    marks: dict[tuple[str, str], str] = {}
    ranked = [entry for entry in entries if entry.editor != UNEDITED]
    if len(ranked) < 2:
        return marks
    for name in columns:
        values = {entry.name: entry.metrics[name] for entry in ranked if name in entry.metrics}
        printed = {row: round(value.mean, 1) for row, value in values.items() if value.n}
        order = sorted(set(printed.values()), reverse=not lower_is_better(name))
        for marked_mean, mark in zip(order, (BEST, SECOND), strict=False):
            marks |= {(row, name): mark for row, mean in printed.items() if mean == marked_mean}
    return marks


def _tied_with_best(
    entries: Sequence[Entry], marks: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], Estimate]:
    """Rows of one model that differ from the best by no more than chance explains.

    Several that print alike are all best; the first of them stands for them.
    """
    ranked = [entry.name for entry in entries if entry.editor != UNEDITED]
    pairs: list[Pair] = []
    for name in dict.fromkeys(name for _, name in marks):
        best = [row for row in ranked if marks.get((row, name)) == BEST]
        pairs += [Pair(best[0], row, name) for row in ranked if row not in best]
    differences = paired_differences(entries, pairs, seed=entries[0].first.seed)
    return {
        (pair.second, pair.metric): difference
        for pair, difference in differences.items()
        if not excludes_zero(difference)
    }


def _tie_note(ties: Sequence[Estimate], entries: Sequence[Entry]) -> tuple[str, ...]:
    if not ties:
        return ()
    counts = sorted({difference.n for difference in ties})
    records = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"{TIED} not told apart from the best: the 95 % interval of the difference, paired over "
        f"the records that both have ({records}), includes 0.",
        *interval_notes(len(entry.runs) for entry in entries),
    )


def _paper_rows(entry: Entry, n_columns: int) -> list[Row]:
    """The paper's figures for this model and editor, and ours minus theirs.

    Columns beyond the paper's are empty.
    """
    published = paper_row(entry.first)
    if published is None:
        return []
    differences = [
        Cell(f"{value.mean - number:+.1f}") if (value := entry.metrics.get(name)) and value.n
        else Cell()
        for name, number in published.items()
    ]  # fmt: skip
    model, label = model_label(entry.model), entry.name
    quoted = [Cell(f"{number:.1f}") for number in published.values()]
    beyond = [Cell()] * (n_columns - len(quoted))
    return [
        Row((model, f"{label}, paper"), "", (*quoted, *beyond), PAPER, seeds=0),
        Row((model, f"{label}, difference"), "", (*differences, *beyond), DIFFERENCE, seeds=0),
    ]


def _paper_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What the quoted figures are, and whether the runs beside them were made in the same way."""
    beside = [entry for entry in entries if paper_row(entry.first) is not None]
    if not beside:
        return ()
    size = paper_tables()["records"]["the test set"]
    notes = [f"Rows marked paper: the published figures, of the benchmark's {size:,} records."]
    differing = dict.fromkeys(
        phrase for entry in beside for run in entry.runs for phrase in deviations(run)
    )
    if differing:
        notes.append(
            f"Not made as the paper's runs: {'; '.join(differing)}. Differences to the paper are "
            "shown, not judged."
        )
    return tuple(notes)
