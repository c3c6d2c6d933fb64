"""The transitivity gap: what a text edit loses on its way to the pictures.

    gap(M) = M(unimodal) - M_S(transitive)              (points; M: Reliability, Generality)

Both scenarios make the same edit from text; the first asks in text, the second about the picture
that belongs to the edit ("seen"). Where both were judged on the same records, the interval is of
the paired difference; otherwise it is of the difference of two independent means. Of a row with
several seeds it is over records and seeds, which are paired where both scenarios have the same.

What is left of it where the unedited model read the picture is the same difference over those
records alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from metrics.bootstrap import Estimate
from metrics.headlines import PARTS
from metrics.seeds import difference_over_seeds, unpaired_over_seeds
from reporting.clusters import RECORD, Clusters, notes_of
from reporting.comparable import are_comparable, by_model
from reporting.entries import Entry, seeds_of
from reporting.formats import Column, ResultTable, Row, fewer_records
from reporting.labels import editor_note, model_label
from reporting.pairs import difference_cell, entry_scores, interval_notes

# Property -> its metric in text, and about the seen picture.
GAPS = {
    "Reliability": ("Reliability", "Reliability_S"),
    "Generality": ("Generality", "Generality_S"),
}
READ_GAPS = {
    f"{part.suffix} pictures": ("Reliability", f"Reliability_S_{part.suffix}") for part in PARTS
}


@dataclass(frozen=True)
class Gap:
    """How much lower a property is about pictures than in text.

    Attributes:
        name: of the row.
        metric: key of `GAPS` or `READ_GAPS`.
        value: unimodal minus transitive, in points, with its 95 % interval.
        is_paired: whether both were judged on the same records, so that the interval is paired.
        seeds: of the scenario that has more of them.
        cluster: what the interval draws.
    """

    model: str
    name: str
    editor: str
    metric: str
    value: Estimate
    is_paired: bool
    seeds: int = 1
    cluster: str = RECORD


def transitivity_gaps(
    entries: Sequence[Entry], pairs: Mapping[str, tuple[str, str]] = GAPS
) -> list[Gap]:
    """The gaps of all rows that were judged in text and about pictures.

    Args:
        entries: of any scenarios and models; others than unimodal and transitive are passed over.
        pairs: property -> its metrics in text and about pictures. Where the latter is of some
            pictures alone, the former is taken of their records.

    Returns:
        By model, name and property. A row is left out where its runs of both scenarios differ in
        data, scoring or weights of the model, or where one of them has no `edits.parquet`.

    Raises:
        DataError: a table cannot be read.
    """
    gaps: list[Gap] = []
    for _, of_model in by_model(entries):
        by_key = {(entry.scenario, entry.name, entry.editor): entry for entry in of_model}
        for (scenario, name, editor), in_text in by_key.items():
            on_pictures = by_key.get(("transitive", name, editor))
            if scenario != "unimodal" or on_pictures is None:
                continue
            if are_comparable([in_text, on_pictures]):
                gaps += _row_gaps(in_text, on_pictures, pairs)
    return gaps


def _row_gaps(
    in_text: Entry, on_pictures: Entry, pairs: Mapping[str, tuple[str, str]]
) -> Iterable[Gap]:
    """The gaps of one row; its seeds are paired where both scenarios have the same."""
    seeds = [[seeds_of(run) for run in entry.runs] for entry in (in_text, on_pictures)]
    clusters = Clusters(in_text.first), Clusters(on_pictures.first)
    for metric, (first, second) in pairs.items():
        text, pictures = entry_scores(in_text, first), entry_scores(on_pictures, second)
        if pairs is not GAPS:
            text = text.loc[text.index.intersection(pictures.index)]
        if text.empty or pictures.empty:
            continue
        is_paired = text.index.equals(pictures.index)
        same_seeds, seed = seeds[0] == seeds[1], in_text.first.seed
        scores = text.to_numpy().T, pictures.to_numpy().T
        labels = clusters[0].of(text.index), clusters[1].of(pictures.index)
        if is_paired:
            value = difference_over_seeds(
                *scores, seed=seed, same_seeds=same_seeds, clusters=labels[0]
            )
        else:
            both = None if labels[0] is None or labels[1] is None else (labels[0], labels[1])
            value = unpaired_over_seeds(*scores, seed=seed, same_seeds=same_seeds, clusters=both)
        yield Gap(
            in_text.model, in_text.name, in_text.editor, metric, value, is_paired,
            max(map(len, seeds)), in_text.first.cluster,
        )  # fmt: skip


def gap_table(gaps: Sequence[Gap], pairs: Iterable[str] = tuple(GAPS)) -> ResultTable | None:
    """The gaps as a table.

    Returns:
        A row per model and name, cells `+12.3 [10.1, 14.6]` in points; None without a gap.
    """
    if not gaps:
        return None
    metrics = list(pairs)
    titles = [f"{name} gap" if name in GAPS else f"Reliability gap, {name}" for name in metrics]
    columns = tuple(Column(title) for title in titles)
    rows = []
    for (model, name), group in groupby(gaps, key=lambda gap: (gap.model, gap.name)):
        values = {gap.metric: gap.value for gap in group}
        cells = tuple(difference_cell(values.get(metric)) for metric in metrics)
        n = max(value.n for value in values.values())
        seeds = max(gap.seeds for gap in gaps if (gap.model, gap.name) == (model, name))
        rows.append(Row((model_label(model), name), str(n), cells, seeds=seeds))
    notes = (
        gap_caption(gaps),
        *interval_notes(gap.seeds for gap in gaps),
        *notes_of((gap.name, gap.cluster) for gap in gaps),
        *fewer_records(rows, columns),
        *editor_note(gap.editor for gap in gaps),
    )
    title = "Transitivity gap, text minus seen picture (points)"
    return ResultTable(title, ("Model", "Editor"), columns, tuple(rows), notes)


def gap_caption(gaps: Sequence[Gap]) -> str:
    """What the numbers are, and of which kind their intervals."""
    what = (
        "Unimodal minus transitive with the seen picture, in points, with 95 % intervals; what is "
        "far above 0 does not reach the pictures."
    )
    unpaired = dict.fromkeys(
        f"{gap.name} on {model_label(gap.model)}" for gap in gaps if not gap.is_paired
    )
    if not unpaired:
        return f"{what} The intervals are paired by record."
    if len(unpaired) == len({(gap.model, gap.name) for gap in gaps}):
        return f"{what} Both were judged on different records: the intervals are not paired."
    return (
        f"{what} The intervals are paired by record, but not those of {', '.join(unpaired)}, "
        "judged on different records."
    )
