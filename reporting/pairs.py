"""Differences between rows on the records that both were judged on.

Two editors meet the same records, and easy records are easy for both, so a difference is resampled
record by record (`metrics.bootstrap.paired_difference`), or cluster by cluster where runs draw
those:

    d_r = s_r(first) - s_r(second),    CI of mean(d) over r in R(first) & R(second),

with s_r the score of one record, from `edits.parquet`. An interval that excludes 0 says that the
editors differ; two intervals of means that overlap do not say that they are alike. Draws depend on
the seed and the number of records alone, so all metrics and pairs with as many share them.

Where a row has several seeds, s_r is the mean over them, and the interval is over records and seeds
(`metrics.seeds.difference_over_seeds`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from errors import DataError
from metrics.bootstrap import Estimate, estimates
from metrics.headlines import (
    BEFORE,
    PRE_VALUE,
    READ_BEFORE,
    Headline,
    headlines_of,
    variant_of,
    variants_of,
)
from metrics.name_first import CHAIN, DIRECT, name_first_metrics, probe_of
from metrics.seeds import difference_over_seeds
from reporting.clusters import Clusters, cluster_notes
from reporting.comparable import (
    by_measure,
    check_comparable,
    data_and_seeds,
    measure_notes,
)
from reporting.entries import Entry
from reporting.formats import (
    APART,
    EMPTY,
    PLAIN,
    Cell,
    ResultTable,
    Row,
    fewer_records,
    metric_column,
)
from reporting.kept import kept_while_unchanged
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.paper import paper_columns
from results.files import EDITS, PROBES
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA, RunResult, read_rows

# Differences that are 0 but for rounding do not make two editors differ (points).
ROUNDING = 1e-9
_SCORES = ("edit_id", "probe", "metric", "value", PRE_VALUE, *READ_BEFORE)  # that are read


class Pair(NamedTuple):
    """A question: how much higher does the row `first` score than `second` in `metric`?"""

    first: str
    second: str
    metric: str


def record_scores(run: RunResult) -> pd.DataFrame:
    """The score of each record in each named metric.

    Returns:
        One line per edit, in the order of their ids, one column per metric that a record has, and
        one per gain, part of it over pictures that were read or not, and answer by way of a name,
        in percent; nan where the record has no such probe. Their means over lines are the metrics
        of `summary.json`. Empty if the folder has no `edits.parquet`. Not to be changed: it is
        kept.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a score twice.
    """
    path = run.folder / EDITS
    if not path.is_file():
        return pd.DataFrame()
    return _read_scores(path, scored_headlines(run))


def scored_headlines(run: RunResult) -> tuple[Headline, ...]:
    """The metrics that records of a run are scored in: those of its summary and their variants."""
    headlines = headlines_of(run.scenario, **variant_of(run.settings))
    return headlines + variants_of(run.scenario, headlines)


def scores_by_record(
    long: pd.DataFrame, headlines: Sequence[Headline], hops: "pd.Series[int] | None" = None
) -> pd.DataFrame:
    """The same from a long table.

    Args:
        long: with the columns edit_id, probe, metric and value (fractions), and those of what the
            unedited model scored and read where gains and parts of metrics are wanted.
        headlines: the named metrics.
        hops: by edit id, steps from the edited fact to the answer of its portability probe. Where
            edits differ in it, Portability is also given by number of hops.

    Raises:
        ValueError: an edit has two values of one probe and measure.
    """
    long = long.dropna(subset=["value"])
    if hops is not None and hops.nunique() > 1:
        far = long[(long["probe"] == "portability") & long["edit_id"].isin(hops.index)]
        names = "portability_" + far["edit_id"].map(hops).astype(int).astype(str) + "hop"
        long = pd.concat([long, far.assign(probe=names)])
    edits, lines = np.unique(long["edit_id"], return_inverse=True)
    by_probe: dict[tuple[str, str], np.ndarray] = {}
    flags = [name for name in READ_BEFORE if name in long]
    for (probe, measure), rows in long.assign(line=lines).groupby(["probe", "metric"]):
        values = by_probe[str(probe), str(measure)] = np.full(len(edits), np.nan)
        values[rows["line"]] = rows["value"]
        if len(rows) > np.isfinite(values).sum():
            raise ValueError(f"{measure} of {probe}")
        if PRE_VALUE in rows:
            before = by_probe[str(probe), f"{measure}{BEFORE}"] = np.full(len(edits), np.nan)
            before[rows["line"]] = rows[PRE_VALUE]
        for name in flags:
            of_probe = by_probe.setdefault((str(probe), name), np.full(len(edits), np.nan))
            of_probe[rows["line"]] = rows[name].astype(float)
    scores: dict[str, np.ndarray] = {}
    for headline in (*headlines, *_by_name(by_probe, headlines)):
        fractions = _values(by_probe, headline)
        if fractions is not None:
            scores[headline.name] = 100 * fractions
    return pd.DataFrame(scores, index=pd.Index(edits, name="edit_id"))


def _by_name(
    by_probe: dict[tuple[str, str], np.ndarray], headlines: Sequence[Headline]
) -> Sequence[Headline]:
    """What is told of probes that were asked by a name too; adds their own scores, where they were.

    As `metrics.name_first.with_direct`, of all records at once.
    """
    named = {key for key in by_probe if key[0].endswith(CHAIN)}
    for probe, measure in named:
        direct = by_probe.get((probe_of(probe), measure))
        if direct is not None:
            asked = np.isfinite(by_probe[probe, measure])
            by_probe[f"{probe_of(probe)}{DIRECT}", measure] = np.where(asked, direct, np.nan)
    return name_first_metrics(headlines, [probe for probe, _ in by_probe]) if named else ()


def entry_scores(
    entry: Entry, metric: str, scores_of: Callable[[RunResult], pd.DataFrame] = record_scores
) -> pd.DataFrame:
    """The scores of a row in one metric: a line per record that all its runs have, in percent.

    Args:
        entry: the row.
        metric: a column of the scores.
        scores_of: the scores of a run, a line per edit and a column per metric.

    Returns:
        One column per run; empty where a run lacks the metric or its `edits.parquet`.

    Raises:
        DataError: a table cannot be read.
    """
    columns = [table[metric] for run in entry.runs if metric in (table := scores_of(run))]
    if len(columns) < len(entry.runs):
        return pd.DataFrame()
    return pd.concat(columns, axis=1, keys=range(len(columns))).dropna()


def paired_differences(
    entries: Sequence[Entry], pairs: Sequence[Pair], *, seed: int
) -> dict[Pair, Estimate]:
    """Differences between rows, with 95 % intervals.

    Args:
        entries: of one scenario and model, measured alike.
        pairs: what to compare, by the names of the rows.
        seed: of the draws.

    Returns:
        Differences in points, over the records that both have; pairs without such a record, or of
        a row with a folder that has no `edits.parquet`, are absent.

    Raises:
        DataError: a table cannot be read.
    """
    scores = {
        (entry.name, metric): entry_scores(entry, metric)
        for entry in entries
        for metric in dict.fromkeys(pair.metric for pair in pairs)
    }
    clusters = Clusters(entries[0].first) if pairs else None
    single: dict[Pair, tuple[np.ndarray, list[str] | None]] = {}
    differences: dict[Pair, Estimate] = {}
    for pair in pairs:
        first, second = scores[pair.first, pair.metric], scores[pair.second, pair.metric]
        shared = first.index.intersection(second.index)
        if not len(shared):
            continue
        a, b = first.loc[shared].to_numpy().T, second.loc[shared].to_numpy().T
        labels = clusters.of(shared) if clusters else None
        if len(a) == len(b) == 1:
            single[pair] = a[0] - b[0], labels
        else:
            differences[pair] = difference_over_seeds(a, b, seed=seed, clusters=labels)
    # All vectors of one length and the same clusters share their draws, most of the work.
    vectors, of_vectors = [v for v, _ in single.values()], [own for _, own in single.values()]
    differences |= zip(single, estimates(vectors, seed=seed, clusters=of_vectors), strict=True)
    return {pair: differences[pair] for pair in pairs if pair in differences}


def excludes_zero(difference: Estimate) -> bool:
    """Whether the interval of a difference excludes 0; one without an interval does not."""
    return difference.low > ROUNDING or difference.high < -ROUNDING


def paired_table(entries: Sequence[Entry]) -> ResultTable | None:
    """Every row against every other one, and against the unedited model.

    Args:
        entries: of one scenario, of any models.

    Returns:
        A row per model and pair, cells `+12.3 [10.1, 14.6]` in points; n counts the records that
        both have. None if there are no two rows of a model with an `edits.parquet`.

    Raises:
        DataError: the runs cannot share a table, or a table cannot be read.
    """
    check_comparable(entries)
    scenario, seed = entries[0].scenario, entries[0].first.seed
    metrics = paper_columns(scenario)
    rows: list[Row] = []
    for alike in by_measure(entries):
        # The unedited model comes last: it is what the others are compared with.
        alike.sort(key=lambda entry: entry.editor == UNEDITED)
        pairs = list(combinations([entry.name for entry in alike], 2))
        questions = [Pair(*pair, metric) for pair in pairs for metric in metrics]
        answers = paired_differences(alike, questions, seed=seed)
        for pair in pairs:
            row = [answers.get(Pair(*pair, name)) for name in metrics]
            rows += _pair_row(alike[0].model, pair, row)
    if not rows:
        return None
    columns = tuple(metric_column(metric) for metric in metrics)
    notes = (
        "First minus second, in points with the 95 % interval of the difference, paired over the n "
        "records that both have. Bold: the interval excludes 0.",
        *interval_notes(len(entry.runs) for entry in entries),
        *cluster_notes(entries),
        *fewer_records(rows, columns),
        *measure_notes(entries),
        *editor_note(entry.editor for entry in entries),
    )
    title = f"Paired differences, {scenario} scenario, {data_and_seeds(entries)} (points)"
    return ResultTable(title, ("Model", "Pair"), columns, tuple(rows), notes)


def interval_notes(seeds: Iterable[int]) -> tuple[str, ...]:
    """What an interval of a difference is over, where a row has several seeds."""
    if max(seeds) == 1:
        return ()
    return (
        "Where a row has several seeds, its scores are means over them, and the interval of a "
        "difference is over records and seeds.",
    )


def difference_cell(value: Estimate | None) -> Cell:
    """`+12.3 [10.1, 14.6]`, marked where the interval excludes 0; `+12.3 [-]` without one."""
    if value is None or value.n == 0:
        return Cell()
    if not value.has_interval:
        return Cell(f"{value.mean + 0.0:+.1f}", interval=f"[{EMPTY}]", n=value.n)
    mark = APART if excludes_zero(value) else PLAIN
    # Adding 0.0 makes a negative zero positive.
    mean, low, high = (round(number, 1) + 0.0 for number in (value.mean, value.low, value.high))
    ends = [f"{low:.1f}", f"{high:.1f}"]
    if mark == APART:  # an end that only rounds to 0 shows on which side it is
        ends = [
            f"{exact:.1g}" if printed == "0.0" else printed
            for exact, printed in zip((value.low, value.high), ends, strict=True)
        ]
    return Cell(f"{mean:+.1f}", "", mark, f"[{', '.join(ends)}]", n=value.n)


def _pair_row(
    model: str, pair: tuple[str, str], differences: Sequence[Estimate | None]
) -> list[Row]:
    """The row of a pair; none where the two share no record."""
    n = max((value.n for value in differences if value), default=0)
    label = " − ".join(pair)
    cells = tuple(difference_cell(value) for value in differences)
    return [Row((model_label(model), label), str(n), cells)] if n else []


def _values(
    by_probe: Mapping[tuple[str, str], np.ndarray], headline: Headline
) -> np.ndarray | None:
    """What `metrics.headlines.record_means` gives, of all records at once.

    Returns:
        (n,) fractions, nan where a record has none; None for a probe that no record has, and for a
        variant of a metric that no record says.
    """
    means = _mean_over(by_probe, headline.probes, headline)
    if means is not None and headline.minus:
        floor = _mean_over(by_probe, headline.minus, replace(headline, given=None))
        means = None if floor is None else means - floor
    is_variant = bool(headline.given or headline.over or headline.minus)
    if means is None or (is_variant and not np.isfinite(means).any()):
        return None
    return means


def _mean_over(
    by_probe: Mapping[tuple[str, str], np.ndarray], probes: Sequence[str], headline: Headline
) -> np.ndarray | None:
    """(n,) means over some probes, as far as a record has them; None where none has any."""
    keys = [(probe, headline.measure) for probe in probes]
    parts = [_of_probe(by_probe, key, headline) for key in keys if key in by_probe]
    return _mean_of_measured(np.stack(parts)) if parts else None


def _of_probe(
    by_probe: Mapping[tuple[str, str], np.ndarray], key: tuple[str, str], headline: Headline
) -> np.ndarray:
    """(n,) what one probe adds to a metric; nan where it adds nothing."""
    values = by_probe[key]
    nothing = np.full(len(values), np.nan)
    if headline.given is not None:
        measure, is_so = headline.given
        values = np.where(by_probe.get((key[0], measure), nothing) == is_so, values, np.nan)
    if headline.over:
        values = values - by_probe.get((key[0], headline.over), nothing)
    return values


def _mean_of_measured(values: np.ndarray) -> np.ndarray:
    """(k, n) -> (n,): the mean over the first axis without the nan; nan where all are."""
    counts = np.isfinite(values).sum(axis=0)
    sums = np.where(np.isfinite(values), values, 0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


@kept_while_unchanged(maxsize=128)
def _read_scores(path: Path, headlines: tuple[Headline, ...]) -> pd.DataFrame:
    """Tables, pairs and figures ask for the same scores."""
    long = read_rows(path, EDIT_SCHEMA, _SCORES)
    try:
        return scores_by_record(long, headlines, hops_of(path.parent))
    except ValueError as error:
        raise DataError(
            f"{path} has two scores of one edit, probe and measure ({error}); evaluate "
            "again with evaluate.py into a new folder."
        ) from error


def hops_of(folder: Path) -> "pd.Series[int] | None":
    """Steps from the edited fact to its portability answer by edit; None where nothing tells."""
    if not (folder / PROBES).is_file():
        return None
    probes = read_rows(folder / PROBES, PROBE_SCHEMA, ("edit_id", "probe", "hops"))
    far: pd.DataFrame = probes[probes["probe"] == "portability"].dropna(subset=["hops"])
    return far.drop_duplicates("edit_id").set_index("edit_id")["hops"]
