"""The check of a data source: it is read to its end, whatever is wrong with its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from datamodules.checking.pictures import Track, check_pictures
from datamodules.checking.probes import ProbeCounts
from datamodules.checking.report import Finding, Report, SplitReport
from datamodules.checking.tally import Tally
from datamodules.source import SPLITS, DataOptions, RecordSource, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COMMONEST = 5  # targets that are named
# What reading leaves out: kind -> its name in JSON, what it is, whether it is a problem.
_LEFT_OUT = {
    "empty": ("empty_texts", "records have an empty answer or question", True),
    "unusable": ("unusable_records", "records cannot be used", True),
    "copy": ("copies", "records are the same as earlier ones", True),
    "not joined": ("not_joined", "records are left out by the source's own rule", False),
}


def check_data(
    data: DataOptions,
    *,
    tokenizers: Sequence[tuple[str, PreTrainedTokenizerBase]] = (),
    are_opened: bool = True,
    track: Track = lambda things, _: things,
) -> Report:
    """Reads a source and says what is in it.

    Args:
        data: its options; records that cannot be used are listed and overlaps counted, whatever
            they say of both.
        tokenizers: name -> a tokenizer that answers are read with.
        are_opened: whether pictures are looked for and opened.
        track: shows how far that is.

    Raises:
        DataError: a file cannot be read at all.
        ModelError: a tokenizer is of no use.
    """
    source = _lenient(data).open()
    splits: dict[Split, SplitReport] = {}
    findings = _overlaps(source)
    for split in SPLITS:
        findings += _unusable(source, split)
        records, place = source.splits.get(split, ()), partial(source.place, split)
        if not records:
            continue
        tally, probes = Tally(place, most=None), ProbeCounts(place)
        for record in records:
            tally.add(record)
            probes.add(record)
        splits[split] = _counts(source.of(split).name, tally, probes)
        findings += [*tally.findings(split), *probes.findings(split)]
        if are_opened:
            findings += check_pictures(source, split, probes.images, track)
        if tokenizers:
            from datamodules.checking.tokens import check_tokens  # loads torch

            for name, tokenizer in tokenizers:
                findings += check_tokens(source, split, name, tokenizer)
    return Report(
        **source.terms,
        splits=splits,
        findings=tuple(sorted(findings, key=lambda finding: not finding.is_problem)),
        tokenizers=tuple(name for name, _ in tokenizers),
    )


def _lenient(data: DataOptions) -> DataOptions:
    """The same options, under which nothing that is wrong with a record ends the reading."""
    train = data.train and _lenient(data.train)
    return data.model_copy(update={"on_error": "skip", "allow_overlap": True, "train": train})


def _counts(source: str, tally: Tally, probes: ProbeCounts) -> SplitReport:
    return SplitReport(
        source=source,
        records=tally.records,
        subjects=tally.subjects,
        targets=tally.targets,
        commonest=tally.commonest(_COMMONEST),
        relations=dict(probes.relations.most_common()),
        types=dict(probes.types.most_common()),
        text_probes=dict(probes.text),
        picture_probes=dict(probes.pictures),
        pictures=len(probes.images),
    )


def _overlaps(source: RecordSource) -> list[Finding]:
    """What splits share, where anything."""
    return [
        Finding(
            "overlap", split, shared.edits, shared.of,
            f"records overlap with the {other} split: {shared}", True,
            detail={"with": other} | shared.as_dict(),
        )
        for (split, other), shared in source.overlaps.items()
        if shared
    ]  # fmt: skip


def _unusable(source: RecordSource, split: Split) -> Iterable[Finding]:
    """Records that reading has left out, by why."""
    left_out = source.left_out.get(split, ())
    of = len(left_out) + len(source.splits.get(split, ()))
    for kind, (name, what, is_problem) in _LEFT_OUT.items():
        if those := [str(record) for record in left_out if record.kind == kind]:
            yield Finding(name, split, len(those), of, what, is_problem, tuple(those))
