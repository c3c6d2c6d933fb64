"""What a check says of a data set, as values: for tables, for JSON and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datamodules.source import Split


class Noted:
    """Counts records of which something is to be told, and keeps the first few.

    Args:
        most: so many are kept; None: all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.count, self.first = 0, list[str]()
        self._most = most

    def add(self, text: str) -> None:
        """Counts one."""
        self.count += 1
        if self._most is None or len(self.first) < self._most:
            self.first.append(text)


@dataclass(frozen=True)
class Finding:
    """Something about the records of a split that their user has to know.

    Attributes:
        kind: its name in JSON.
        split: where it is.
        count: how many there are.
        of: of how many.
        what: what it is, after the count.
        is_problem: it keeps records from being used, or makes a result mean something else; no: it
            is worth knowing.
        first: all of them, or the first few.
        detail: the counts behind it, where there are more.
    """

    kind: str
    split: Split
    count: int
    of: int
    what: str
    is_problem: bool
    first: tuple[str, ...] = ()
    detail: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.count:,} of {self.of:,} {self.what}"


@dataclass(frozen=True)
class SplitReport:
    """What is in a split.

    Attributes:
        source: that its records come from, which is another one with `data.train`.
        records: how many can be used.
        subjects: how many different ones they are about.
        targets: how many different answers their edits teach.
        commonest: those that most edits teach, with how many.
        relations: the relation, or where none is named the question without its subject -> records.
        types: of entities -> records; of those that name one.
        text_probes: name of a probe -> records that it can be asked of in text.
        picture_probes: the same, about pictures.
        pictures: how many different ones they name.
    """

    source: str
    records: int
    subjects: int
    targets: int
    commonest: Mapping[str, int]
    relations: Mapping[str, int]
    types: Mapping[str, int]
    text_probes: Mapping[str, int]
    picture_probes: Mapping[str, int]
    pictures: int


@dataclass(frozen=True)
class Report:
    """What is in a data set and what is wrong with it.

    Attributes:
        source: its name.
        origin: where its records come from.
        licence: theirs.
        splits: what is in each split that has records.
        findings: problems first.
        tokenizers: those that answers were read with.
    """

    source: str
    origin: str
    licence: str
    splits: Mapping[Split, SplitReport]
    findings: tuple[Finding, ...] = field(default=())
    tokenizers: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What keeps records from being used, or makes a result mean something else."""
        return tuple(finding for finding in self.findings if finding.is_problem)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What is worth knowing."""
        return tuple(finding for finding in self.findings if not finding.is_problem)

    def as_json(self) -> str:
        """The report as JSON, with every record of a finding."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)
