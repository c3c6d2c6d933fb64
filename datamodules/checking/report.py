"""What a check says of a data set, as values: for the table, for JSON and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from datamodules.source import Split


@dataclass(frozen=True)
class Finding:
    """Something about the records that their user has to know.

    Attributes:
        kind: its name in JSON.
        split: where it is.
        count: how many there are.
        of: of how many.
        what: what it is, after the count.
        examples: all of them, or the first few.
    """

    kind: str
    split: Split
    count: int
    of: int
    what: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitCounts:
    """What is in a split.

    Attributes:
        records: how many can be used.
        subjects: how many different ones they are about.
    """

    records: int
    subjects: int


@dataclass(frozen=True)
class Report:
    """What is in a data set and what is wrong with it.

    Attributes:
        source: its name.
        origin: where its records come from.
        licence: theirs.
        splits: what is in each split that has records.
        problems: what keeps records from being used, or makes results mean something else.
    """

    source: str
    origin: str
    licence: str
    splits: Mapping[Split, SplitCounts]
    problems: tuple[Finding, ...]

    def as_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)
