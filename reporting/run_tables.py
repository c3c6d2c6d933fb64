"""All figures of one run, one a line: the content of `table.md`."""

from collections.abc import Iterable, Sequence

from reporting.beside import ABOVE, BY_PICTURE, above_lines, part_lines
from reporting.by_name import AT_ONCE_NOTE, BY_NAME, by_name_lines
from reporting.clusters import RECORD, drawn_over, target_warning
from reporting.entries import Entry
from reporting.floors import floor_marks, floor_notes
from reporting.formats import EMPTY
from reporting.labels import arrow, editor_label, model_label
from reporting.origins import origin_phrase
from reporting.overlap import overlap_phrase
from reporting.tables import left_out_phrase, metric_cell
from results.folder import RunResult

_ABOVE = (
    "Gain: points over the unedited model. Specificity: points over what the new answer scores "
    "about another entity of the same type. Both with the 95 % interval of the difference, paired "
    "by record."
)
_BY_PICTURE = (
    "Before the edit the unedited model read a picture if it gave the true answer about it, and "
    "named it if it gave its subject's name. In brackets the records behind a mean."
)
_BY_NAME = (
    "By name: asked in text, by what the unedited model said that the picture shows. Gain: points "
    "over asking the same pictures at once, of the n records that were asked both ways. Gain of "
    "the edit: points over the unedited model that is asked by the same name, with the 95 % "
    "interval of the difference, paired by record. "
    f"{AT_ONCE_NOTE}"
)


def run_markdown(run: RunResult) -> str:
    """The page of one run: every metric, what it is above, and its parts by pictures read."""
    title = (
        f"# {editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario\n\n"
        f"Data {run.data}, {run.n_edits} edits{left_out_phrase(run)}{overlap_phrase(run)}, "
        f"seed {run.seed}. Means in "
        "percent over records with 95 % bootstrap intervals"
        f"{_of_clusters(run)}; n is the number of records.\n"
    )
    title += f"\n{warning}\n" if (warning := target_warning(run)) else ""
    title += f"\n{origin}\n" if (origin := origin_phrase(run)) else ""
    metrics = (("Metric", "Mean", "95 % interval", "n"), metric_lines(run, run.metrics))
    notes = floor_notes(floor_marks(Entry.of(run), run.metrics).values())
    parts = [title, _table(*metrics), *(f"{note}\n" for note in notes)]
    # First token and exact match are metrics of this page, in lines of their own.
    if above := [line[:3] for line in above_lines(run, run.metrics)]:
        parts += [f"{_ABOVE}\n", _table(ABOVE[:3], above)]
    if by_picture := part_lines(run, run.metrics):
        parts += [f"{_BY_PICTURE}\n", _table(BY_PICTURE, by_picture)]
    if by_name := by_name_lines(run):
        parts += [f"{_BY_NAME}\n", _table(BY_NAME, by_name)]
    return "\n".join(parts)


def _of_clusters(run: RunResult) -> str:
    """What intervals draw, where that is not records."""
    return "" if run.cluster == RECORD else f" over {drawn_over([run])} (metrics.cluster)"


def metric_lines(run: RunResult, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Name, mean, 95 % interval and n of some metrics of a run, as they are printed.

    Behind a mean stand the marks of the floors that it is not told from.
    """
    shown = list(names)
    marks = floor_marks(Entry.of(run), shown)
    lines: list[tuple[str, ...]] = []
    for name in shown:
        value = run.metrics[name]
        interval = f"{value.low:.1f} to {value.high:.1f}" if value.has_interval else EMPTY
        mean = f"{metric_cell(value).text} {marks.get(name, '')}".rstrip()
        lines.append((arrow(name), mean, interval, str(value.n)))
    return lines


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rules = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rules, *lines))
