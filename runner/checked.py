"""The part of `python -m datamodules check` that is cheap enough to be a part of every run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from datamodules.checking.tally import Tally
from datamodules.source import RecordSource, Split
from results.log_file import OFF_SCREEN

log = logging.getLogger(__name__)
_TOLD_LATER = {"idle_edits"}  # of those that are used, when the data are set up


def log_contents(source: RecordSource, splits: Iterable[Split]) -> None:
    """Says what is in the splits that a run uses; on the screen, what is worth knowing of it.

    Raises:
        DataError: a split has no records.
    """
    for split in splits:
        tally = Tally.of(source.records(split), partial(source.place, split))
        log.info(
            "%s split: %d records about %d subjects, %d answers to teach",
            split, tally.records, tally.subjects, tally.targets, extra=OFF_SCREEN,
        )  # fmt: skip
        for finding in tally.findings(split):
            if finding.kind not in _TOLD_LATER:
                first = "; ".join(finding.first)
                log.info("%s split: %s: %s", split, finding, first)
