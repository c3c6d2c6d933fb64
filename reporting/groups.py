"""Results by what edits have in common: a relation, or a target.

A mean over all records is one over a mixture. One relation may be asked in words that lead to the
new answer by themselves, and one target may be taught over and over: both show only group by group.
A relation is the data's name of what the edit changes, or else the question without its subject;
groups of fewer than `FEWEST` edits, and what is beyond the `MOST` largest, stand together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from metrics.bootstrap import Estimate, estimates
from metrics.headlines import GAIN, floors_of, is_difference
from metrics.seeds import Measured, over_seeds
from reporting.clusters import Clusters, cluster_notes, edits_of
from reporting.comparable import by_model, check_comparable, data_and_seeds, measure_notes
from reporting.entries import Entry, each_once
from reporting.formats import HIGHER, Column, ResultTable, Row, fewer_records, metric_column
from reporting.labels import editor_note, model_label
from reporting.overlap import marked_name
from reporting.pairs import record_scores
from reporting.paper import paper_columns
from reporting.tables import metric_cell, points_cell, seed_notes

GROUPED_BY = ("relation", "target")
DRAWN_BY = "relation"  # a figure each costs most of a report's time
FEWEST = 5  # edits of a group that stands alone
MOST = 12  # groups of a table that stand alone
OTHERS = "all others"


@dataclass(frozen=True)
class Group:
    """Some edits of one row.

    Attributes:
        entry: the row.
        name: of the relation or target; `OTHERS` for the rest.
        n: its edits.
        values: metric -> its estimate over them, in percent.
    """

    entry: Entry
    name: str
    n: int
    values: Mapping[str, Measured]


def grouped(entries: Sequence[Entry], by: str) -> list[Group]:
    """The rows of one scenario, group by group.

    Args:
        entries: of one scenario, of any models.
        by: one of `GROUPED_BY`.

    Returns:
        By model, group (the largest first, then the rest) and row. Models of which nothing says the
        groups, or whose edits are all of one, are left out.

    Raises:
        DataError: a table cannot be read.
    """
    groups: list[Group] = []
    for _, of_model in by_model(entries):
        labels = {entry.name: _labels(entry, by) for entry in of_model}
        told = [entry for entry in of_model if not labels[entry.name].empty]
        names = _shown(labels[entry.name] for entry in told)
        if len(names) < 2:
            continue
        by_row = {entry.name: _of_row(entry, labels[entry.name], names) for entry in told}
        groups += [
            by_row[entry.name][name]
            for name in names
            for entry in told
            if name in by_row[entry.name]
        ]
    return groups


def group_table(groups: Sequence[Group], by: str) -> ResultTable | None:
    """Groups as a table; None without any.

    Args:
        groups: of `grouped`, of one scenario.
        by: what they were grouped by.

    Returns:
        A row per model, group and row of the other tables, n its edits of that group.

    Raises:
        DataError: the rows cannot share a table.
    """
    if not groups:
        return None
    entries = each_once(group.entry for group in groups)
    check_comparable(entries)
    names = [n for n in group_metrics(entries[0].scenario) if any(n in g.values for g in groups)]
    columns = tuple(_column(name) for name in names)
    rows = [
        Row(
            (model_label(group.entry.model), group.name, marked_name(group.entry)),
            str(group.n),
            tuple(
                (points_cell if is_difference(name) else metric_cell)(group.values.get(name))
                for name in names
            ),
            seeds=len(group.entry.runs),
        )
        for group in groups
    ]
    notes = (
        f"Each {by} with at least {FEWEST} edits, the {MOST} largest at most; {OTHERS}: the edits "
        f"of the rest{_and_untold(by)}. Gain over the unedited model and Specificity are in points "
        "with their 95 % intervals; bold: it excludes 0.",
        *seed_notes(entries),
        *cluster_notes(entries),
        *fewer_records(rows, columns),
        *measure_notes(entries),
        *editor_note(entry.editor for entry in entries),
    )
    title = f"By {by}, {entries[0].scenario} scenario, {data_and_seeds(entries)} (percent)"
    heads = ("Model", by.capitalize(), "Editor")
    return ResultTable(title, heads, columns, tuple(rows), notes)


def group_metrics(scenario: str) -> tuple[str, ...]:
    """The paper's columns, and after the first what it has gained and how specific it is."""
    first, *rest = paper_columns(scenario)
    return first, *floors_of(first).values(), *rest


def _labels(entry: Entry, by: str) -> "pd.Series[str]":
    """The group of each edit of a row, by one name for all its spellings."""
    told = edits_of(entry.first)[by]
    if told.isna().all():
        return pd.Series(dtype=object)
    spelled: dict[str, str] = {}
    named = {
        edit: spelled.setdefault(" ".join(name.casefold().split()), name)
        for edit, name in told.dropna().items()
    }
    return pd.Series(named, dtype=object).reindex(told.index, fill_value=OTHERS)


def _shown(labels: Iterable["pd.Series[str]"]) -> list[str]:
    """The groups that stand alone, by size, and the rest; a name alone where all are of one."""
    counts: Counter[str] = Counter()
    for of_row in labels:
        for name, count in Counter(of_row).items():
            counts[name] = max(counts[name], count)
    large = sorted(
        (name for name, n in counts.items() if n >= FEWEST and name != OTHERS),
        key=lambda name: (-counts[name], name),
    )[:MOST]
    return [*large, OTHERS] if large and len(large) < len(counts) else large


def _of_row(entry: Entry, labels: "pd.Series[str]", names: Sequence[str]) -> dict[str, Group]:
    """The groups of one row, by name."""
    alone = set(names) - {OTHERS}
    group_of = labels.where(labels.isin(alone), OTHERS)
    metrics = group_metrics(entry.scenario)
    of_runs: list[dict[tuple[str, str], Estimate]] = []
    for run in entry.runs:
        scores, clusters = record_scores(run), Clusters(run)
        columns = {
            (name, metric): of_metric[of_metric.index.isin(group_of.index[group_of == name])]
            for metric in metrics
            if metric in scores
            for of_metric in (scores[metric].dropna(),)
            for name in names
        }
        of_columns = estimates(
            [column.to_numpy() for column in columns.values()],
            seed=run.seed,
            clusters=[clusters.of(column.index) for column in columns.values()],
        )
        of_runs.append(dict(zip(columns, of_columns, strict=True)))
    return {
        name: Group(
            entry,
            name,
            int((group_of == name).sum()),
            {
                metric: over_seeds([of_run[name, metric] for of_run in of_runs])
                for metric in metrics
                if all((name, metric) in of_run for of_run in of_runs)
            },
        )
        for name in names
        if (group_of == name).any()
    }


def _column(name: str) -> Column:
    return Column("Gain", HIGHER) if name.endswith(f"_{GAIN}") else metric_column(name)


def _and_untold(by: str) -> str:
    return ", and those whose question does not name the subject" if by == "relation" else ""
