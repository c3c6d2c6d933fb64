"""What the edits of an evaluation share with the records that its editor learnt from.

Those are the records of the checkpoint's training, which it keeps the traces of, or else the
training and validation records of the data, which an editor may show (IKE) or not read at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from configs.stored import stored_config, trained_source
from datamodules.overlap import Overlap, Traces, overlap
from datamodules.records import Record
from datamodules.source import NOT_STATED, RecordSource, origin_of
from editors.checkpoint import SUBJECTS, TERMS, TRACES, read_checkpoint
from errors import DataError

log = logging.getLogger(__name__)
CHECKPOINT, DATA = "checkpoint", "data"


class Learnt(NamedTuple):
    """Records that an editor learnt from, or might have.

    Attributes:
        of: whose training records they are, `CHECKPOINT` or `DATA`.
        is_read: whether the editor has read them.
        traces: by what they are known again.
    """

    of: str
    is_read: bool
    traces: Traces

    def shared_with(self, tested: Sequence[Record], source: RecordSource) -> Overlap:
        """What test records share with them."""
        return overlap(tested, self.traces, entity_folders=source.of("test").entity_folders)


def learnt_by(ckpt: str | None, source: RecordSource, *, shows_records: bool) -> Learnt | None:
    """What an editor learnt from; None where there is nothing to hold its edits against.

    Args:
        ckpt: of a trained editor; None of another.
        source: the data of the evaluation.
        shows_records: whether the editor shows training records.

    Raises:
        ModelError: the checkpoint cannot be read.
    """
    if ckpt is not None:
        content = read_checkpoint(ckpt)
        traces = Traces.read(content.get(SUBJECTS, ()), content.get(TRACES))
        return Learnt(CHECKPOINT, True, traces)
    traces = source.traces("train", "val")
    return Learnt(DATA, shows_records, traces) if traces.subjects else None


def terms_of_training(ckpt: str) -> dict[str, str] | None:
    """Source, origin and licence of the records that a checkpoint was trained on.

    Returns:
        As the checkpoint says, or else as the source of its settings does; None where neither does.

    Raises:
        ModelError: the checkpoint cannot be read.
        ConfigError: its settings cannot.
    """
    terms = read_checkpoint(ckpt).get(TERMS)
    if isinstance(terms, dict):
        return {key: str(terms.get(key, NOT_STATED)) for key in ("source", "origin", "licence")}
    source = trained_source(stored_config(ckpt))
    return None if source is None else origin_of(source)


def check_new(ckpt: str, tested: Sequence[Record], source: RecordSource) -> None:
    """Makes sure that a trained editor is judged on what is new to it.

    Args:
        ckpt: its checkpoint.
        tested: the test records.
        source: the data that they come from.

    Raises:
        DataError: it is not, and `data.allow_overlap` does not allow that.
    """
    learnt = learnt_by(ckpt, source, shows_records=False)
    shared = learnt.shared_with(tested, source) if learnt else None
    if not shared:
        return
    if not source.allow_overlap:
        raise DataError(
            f"ckpt={ckpt} was trained on {shared} of the test split: the result would not be a "
            "test. Use the data options of its training (data.seed above all), other data, or "
            "data.allow_overlap=true, which counts them in the result and in its report."
        )
    log.warning(
        "data.allow_overlap=true: ckpt=%s was trained on %s of the test split", ckpt, shared
    )


def log_overlaps(source: RecordSource) -> None:
    """Says what the splits of the data share, where `data.allow_overlap` lets them."""
    for (split, other), shared in source.overlaps.items():
        if shared:
            log.warning(
                "data.allow_overlap=true: %s shares %s with %s",
                source.named(split), shared, source.named(other),
            )  # fmt: skip


def overlap_counts(learnt: Learnt | None, tested: Sequence[Record], source: RecordSource) -> Any:
    """What a result says of it, as plain values; None where there was nothing to compare with."""
    if learnt is None:
        return None
    shared = learnt.shared_with(tested, source)
    return {"with": learnt.of, "is_read": learnt.is_read} | shared.as_dict()
