"""The transitivity gap: what a text edit loses on its way to the pictures.

    gap(M) = M(unimodal) - M_S(transitive)              (points; M: Reliability, Generality)

Both scenarios make the same edit from text; the first asks in text, the second about the picture
that belongs to the edit ("seen"). Where both were judged on the same records, the interval is of
the paired difference; otherwise it is of the difference of two independent means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from metrics.bootstrap import Estimate, paired_difference, unpaired_difference
from reporting.comparable import are_comparable, by_model
from reporting.formats import Column, ResultTable, Row, fewer_records
from reporting.labels import editor_label, editor_note, model_label
from reporting.pairs import difference_cell, record_scores
from results.folder import RunResult

# Property -> its metric in text, and about the seen picture.
GAPS = {
    "Reliability": ("Reliability", "Reliability_S"),
    "Generality": ("Generality", "Generality_S"),
}


@dataclass(frozen=True)
class Gap:
    """How much lower a property is about pictures than in text.

    Attributes:
        metric: key of `GAPS`.
        value: unimodal minus transitive, in points, with its 95 % interval.
        is_paired: whether both were judged on the same records, so that the interval is paired.
    """

    model: str
    editor: str
    metric: str
    value: Estimate
    is_paired: bool


def transitivity_gaps(runs: Sequence[RunResult]) -> list[Gap]:
    """The gaps of all editors that were judged in text and about pictures.

    Args:
        runs: of any scenarios and models; others than unimodal and transitive are passed over.

    Returns:
        By model, editor and property. An editor is left out where its two runs differ in data,
        seed, scoring or weights of the model, or where one of them has no `edits.parquet`.

    Raises:
        DataError: a table cannot be read.
    """
    gaps: list[Gap] = []
    for model, of_model in by_model(runs):
        by_key = {(run.scenario, run.editor): run for run in of_model}
        for (scenario, editor), in_text in by_key.items():
            on_pictures = by_key.get(("transitive", editor))
            if scenario != "unimodal" or on_pictures is None:
                continue
            if not are_comparable([in_text, on_pictures]):
                continue
            text, pictures = record_scores(in_text), record_scores(on_pictures)
            gaps += [
                Gap(model, editor, metric, *_gap(text[first], pictures[second], in_text.seed))
                for metric, (first, second) in GAPS.items()
                if first in text and second in pictures
            ]
    return gaps


def gap_table(gaps: Sequence[Gap]) -> ResultTable | None:
    """The gaps as a table.

    Returns:
        A row per model and editor, cells `+12.3 [10.1, 14.6]` in points; None without a gap.
    """
    if not gaps:
        return None
    columns = tuple(Column(f"{metric} gap") for metric in GAPS)
    rows = []
    for (model, editor), group in groupby(gaps, key=lambda gap: (gap.model, gap.editor)):
        values = {gap.metric: gap.value for gap in group}
        cells = tuple(difference_cell(values.get(metric)) for metric in GAPS)
        n = max(value.n for value in values.values())
        rows.append(Row((model_label(model), editor_label(editor)), str(n), cells))
    notes = (
        gap_caption(gaps),
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
        f"{editor_label(gap.editor)} on {model_label(gap.model)}"
        for gap in gaps
        if not gap.is_paired
    )
    if not unpaired:
        return f"{what} The intervals are paired by record."
    if len(unpaired) == len({(gap.model, gap.editor) for gap in gaps}):
        return f"{what} Both were judged on different records: the intervals are not paired."
    return (
        f"{what} The intervals are paired by record, but not those of {', '.join(unpaired)}, "
        "judged on different records."
    )


def _gap(text: pd.Series, pictures: pd.Series, seed: int) -> tuple[Estimate, bool]:
    """The difference of two series of scores by record, and whether it is paired."""
    first, second = text.dropna(), pictures.dropna()
    if first.index.equals(second.index):
        return paired_difference(first.to_numpy(), second.to_numpy(), seed=seed), True
    return unpaired_difference(first.to_numpy(), second.to_numpy(), seed=seed), False
