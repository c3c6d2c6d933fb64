"""The check of a data source: it is read to its end, whatever is wrong with its records."""

from __future__ import annotations

from datamodules.checking.report import Finding, Report, SplitCounts
from datamodules.source import SPLITS, DataOptions, RecordSource, Split, origin_of


def check_data(data: DataOptions) -> Report:
    """Reads a source and says what is in it.

    Args:
        data: its options; records that cannot be used are listed, whatever `on_error` says.

    Raises:
        DataError: a file cannot be read at all.
    """
    source = _lenient(data).open()
    splits = {split: _counts(source, split) for split in SPLITS if source.splits.get(split)}
    return Report(**origin_of(source.name), splits=splits, problems=tuple(_unusable(source)))


def _lenient(data: DataOptions) -> DataOptions:
    """The same options, under which a record that cannot be used does not end the reading."""
    train = data.train and _lenient(data.train)
    return data.model_copy(update={"on_error": "skip", "train": train})


def _counts(source: RecordSource, split: Split) -> SplitCounts:
    records = source.splits[split]
    return SplitCounts(records=len(records), subjects=len({record.key for record in records}))


def _unusable(source: RecordSource) -> list[Finding]:
    return [
        Finding(
            kind="unusable",
            split=split,
            count=len(left_out),
            of=len(left_out) + len(source.splits.get(split, ())),
            what="records cannot be used",
            examples=tuple(record.in_short for record in left_out),
        )
        for split in SPLITS
        if (left_out := source.left_out.get(split, ()))
    ]
