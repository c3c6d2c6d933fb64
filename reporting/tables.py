"""Result tables laid out as Tables 1-3 of the paper, and the table of costs.

One row per model and editor, one column per metric: mean ± half the 95 % interval, in percent. Per
model the best editor is bold and the second underlined; a dagger says that an editor is not told
apart from the best. The unedited model comes first and is not ranked, since it keeps everything
that an edit may disturb. Under the rows of a model that the paper has used stand the paper's
figures and the difference to them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from metrics.bootstrap import Estimate
from reporting.comparable import by_model, check_comparable, in_order
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
    arrow,
    editor_label,
    editor_note,
    lower_is_better,
    model_label,
)
from reporting.pairs import Pair, excludes_zero, paired_differences
from reporting.paper import deviations, paper_columns, paper_row, paper_tables
from results.folder import SEQUENTIAL, RunResult

GIB = 2**30


def scenario_table(runs: Sequence[RunResult], columns: Sequence[str] | None = None) -> ResultTable:
    """The table of one scenario.

    Args:
        runs: of one scenario, in any order.
        columns: metrics to show; the paper's columns of the scenario if None.

    Returns:
        Rows by model and editor, the paper's figures beneath those it has.

    Raises:
        DataError: the runs cannot share a table (see `check_comparable`), or a run's
            `edits.parquet` cannot be read.
    """
    check_comparable(runs)
    names = paper_columns(runs[0].scenario) if columns is None else tuple(columns)
    rows: list[Row] = []
    ties: list[Estimate] = []
    for model, of_model in by_model(runs):
        marks = _marks(of_model, names)
        tied = _tied_with_best(of_model, marks)
        ties += tied.values()
        for run in of_model:
            cells = tuple(
                replace(
                    metric_cell(run.metrics.get(name)),
                    mark=marks.get((run.editor, name), PLAIN),
                    is_tied=(run.editor, name) in tied,
                )
                for name in names
            )
            heads = (model_label(model), editor_label(run.editor))
            rows.append(Row(heads, str(run.n_edits), cells))
            rows += _paper_rows(run) if columns is None else []
    titled = tuple(metric_column(name) for name in names)
    notes = (
        *fewer_records(rows, titled),
        *_tie_note(ties),
        *(_paper_notes(in_order(runs)) if columns is None else ()),
        *editor_note(run.editor for run in runs),
    )
    return ResultTable(_title(runs[0]), ("Model", "Editor"), titled, tuple(rows), notes)


def further_columns(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Metrics of the runs that the paper's table does not have, in the order of the files."""
    published = paper_columns(runs[0].scenario)
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return tuple(name for name in names if name not in published)


def cost_table(runs: Sequence[RunResult]) -> ResultTable:
    """What the editors cost: weights, time and memory.

    Args:
        runs: of any scenarios and models.

    Returns:
        A row per scenario, model and editor; a dash where a run did not measure something.
    """
    columns = (
        Column("Trained parameters", LOWER),
        Column("s / edit", LOWER),
        Column("s / its answers", LOWER),
        Column("Peak memory (GiB)", LOWER),
    )
    rows = tuple(
        Row(
            (run.scenario, model_label(run.model), editor_label(run.editor)),
            str(run.n_edits),
            (
                _number_cell(run.trained_parameters, ","),
                _number_cell(run.seconds_per_edit, ".2g"),
                _number_cell(run.answer_seconds_per_edit, ".2g"),
                _number_cell(run.peak_memory_bytes and run.peak_memory_bytes / GIB, ".2f"),
            ),
        )
        for run in in_order(runs)
    )
    notes = (
        "Seconds are means over n edits, to make an edit and to answer all its probes under it. "
        "Edits of a batch share their time, so there is no interval. Trained parameters are those "
        "that train.py learned; 0 for methods without training.",
        *editor_note(run.editor for run in runs),
    )
    return ResultTable("Cost", ("Scenario", "Model", "Editor"), columns, rows, notes)


def run_markdown(run: RunResult) -> str:
    """All metrics of one run, one a line: the content of `table.md`."""
    title = (
        f"# {editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario\n\n"
        f"Data {run.data}, {run.n_edits} edits, seed {run.seed}. Means in percent over records "
        "with 95 % bootstrap intervals; n is the number of records.\n"
    )
    lines = ["| Metric | Mean | 95 % interval | n |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(line)} |" for line in metric_lines(run, run.metrics)]
    return title + "\n" + "\n".join(lines) + "\n"


def metric_lines(run: RunResult, names: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Name, mean, 95 % interval and n of some metrics of a run, as they are printed."""
    lines = []
    for name in names:
        value = run.metrics[name]
        interval = f"{value.low:.1f} to {value.high:.1f}" if value.n else EMPTY
        lines.append((arrow(name), metric_cell(value).text, interval, str(value.n)))
    return lines


def metric_cell(value: Estimate | None) -> Cell:
    """Mean ± half the interval.

    A metric that the run lacks and one without records look the same: nothing was measured.
    """
    if value is None or value.n == 0:
        return Cell()
    return Cell(f"{value.mean:.1f}", f"{value.half_width:.1f}", n=value.n)


def _title(run: RunResult) -> str:
    after = f" after {run.n_edits} sequential edits" if run.protocol_name == SEQUENTIAL else ""
    return (
        f"{run.scenario.capitalize()} scenario{after}, data {run.data}, seed {run.seed} (percent)"
    )


def _number_cell(value: float | None, form: str) -> Cell:
    return Cell() if value is None else Cell(f"{value:{form}}")


def _marks(runs: Sequence[RunResult], columns: Sequence[str]) -> dict[tuple[str, str], str]:
    """Best and second editor of one model per column, at the precision that is printed."""
    marks: dict[tuple[str, str], str] = {}
    ranked = [run for run in runs if run.editor != UNEDITED]
    if len(ranked) < 2:
        return marks
    for name in columns:
        values = {run.editor: run.metrics[name] for run in ranked if name in run.metrics}
        printed = {editor: round(value.mean, 1) for editor, value in values.items() if value.n}
        order = sorted(set(printed.values()), reverse=not lower_is_better(name))
        for marked_mean, mark in zip(order, (BEST, SECOND), strict=False):
            marks |= {
                (editor, name): mark for editor, mean in printed.items() if mean == marked_mean
            }
    return marks


def _tied_with_best(
    runs: Sequence[RunResult], marks: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], Estimate]:
    """Editors of one model that differ from the best by no more than chance explains.

    Several that print alike are all best; the first of them stands for them.
    """
    editors = [run.editor for run in runs if run.editor != UNEDITED]
    pairs: list[Pair] = []
    for name in dict.fromkeys(name for _, name in marks):
        best = [editor for editor in editors if marks.get((editor, name)) == BEST]
        pairs += [Pair(best[0], editor, name) for editor in editors if editor not in best]
    differences = paired_differences(runs, pairs, seed=runs[0].seed)
    return {
        (pair.second, pair.metric): difference
        for pair, difference in differences.items()
        if not excludes_zero(difference)
    }


def _tie_note(ties: Sequence[Estimate]) -> tuple[str, ...]:
    if not ties:
        return ()
    counts = sorted({difference.n for difference in ties})
    records = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"{TIED} not told apart from the best: the 95 % interval of the difference, paired over "
        f"the records that both have ({records}), includes 0.",
    )


def _paper_rows(run: RunResult) -> list[Row]:
    """The paper's figures for this model and editor, and ours minus theirs."""
    published = paper_row(run)
    if published is None:
        return []
    differences = [
        Cell(f"{value.mean - number:+.1f}") if (value := run.metrics.get(name)) and value.n
        else Cell()
        for name, number in published.items()
    ]  # fmt: skip
    model, label = model_label(run.model), editor_label(run.editor)
    quoted = tuple(Cell(f"{number:.1f}") for number in published.values())
    return [
        Row((model, f"{label}, paper"), "", quoted, PAPER),
        Row((model, f"{label}, difference"), "", tuple(differences), DIFFERENCE),
    ]


def _paper_notes(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """What the quoted figures are, and whether the runs beside them were made in the same way."""
    beside = [run for run in runs if paper_row(run) is not None]
    if not beside:
        return ()
    size = paper_tables()["records"]["the test set"]
    notes = [f"Rows marked paper: the published figures, of the benchmark's {size:,} records."]
    differing = dict.fromkeys(phrase for run in beside for phrase in deviations(run))
    if differing:
        notes.append(
            f"Not made as the paper's runs: {'; '.join(differing)}. Differences to the paper are "
            "shown, not judged."
        )
    return tuple(notes)
