"""What test records share with records that were learnt from, so that they are no test of it.

    subject    one subject, in any spelling; of records without one, their picture
    fact       one subject and one relation of it; where none is named, one question about it
    folder     one folder of the subject's pictures, where a source has one for each entity

Records are known again by `Traces`, which a checkpoint keeps: whoever judges it need not have the
records of its training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from datamodules.records import Record, name_key
from errors import DataError

if TYPE_CHECKING:
    from datamodules.source import RecordSource, Split

Kind = Literal["subject", "fact", "folder"]
PLURALS: Mapping[Kind, str] = {
    "subject": "subjects", "fact": "facts", "folder": "picture folders"
}  # fmt: skip
_HELD_AGAINST: tuple[tuple[Split, Split], ...] = (
    ("test", "train"),
    ("test", "val"),
    ("val", "train"),
)
_SHOWN = 3  # of a kind, in a message and in a result
_DIGITS = 16  # of a digest: a million facts, and no two of them alike by chance


@dataclass
class Traces:
    """By what records are known again.

    Attributes:
        subjects: `Record.key` -> the subject as it is spelled.
        facts: digests; None where they were not kept, as in checkpoints of earlier versions.
        folders: of the subjects' pictures; None where they are not kept by entity, or not known.
    """

    subjects: dict[str, str] = field(default_factory=dict)
    facts: set[str] | None = field(default_factory=set)
    folders: set[str] | None = None

    @classmethod
    def of(cls, records: Iterable[Record], *, entity_folders: bool) -> Self:
        """Those of some records.

        Args:
            records: they may be many; none is kept.
            entity_folders: whether a folder of pictures is an entity.
        """
        facts, folders, traces = set[str](), set[str](), cls()
        for record in records:
            key = record.key
            traces.subjects.setdefault(key, record.about)
            facts.add(_fact(key, record))
            folders |= _folders(record)
        traces.facts, traces.folders = facts, folders if entity_folders else None
        return traces

    def without_facts(self) -> Traces:
        """The subjects alone."""
        return Traces(self.subjects, None, None)

    def stored(self) -> dict[str, Any]:
        """Facts and folders as plain values, for a checkpoint, which has its subjects already."""
        return {
            name: None if values is None else sorted(values)
            for name, values in (("facts", self.facts), ("folders", self.folders))
        }

    @classmethod
    def read(cls, subjects: Iterable[str], stored: Mapping[str, Any] | None) -> Self:
        """Those that a checkpoint keeps.

        Args:
            subjects: as they are spelled.
            stored: of `stored`; None in checkpoints of earlier versions.
        """
        of_both = [None if (s := (stored or {}).get(name)) is None else set(s)
                   for name in ("facts", "folders")]  # fmt: skip
        return cls({name_key(subject): subject for subject in subjects}, *of_both)


class Shared(NamedTuple):
    """What of one kind is shared.

    Attributes:
        n: how many the test records share.
        of: of how many that they have.
        first: the first few.
    """

    n: int
    of: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """What some test records share with others.

    Attributes:
        edits: test records that share something.
        of: how many there are.
        kinds: what is shared, of each kind that could be compared.
    """

    edits: int
    of: int
    kinds: Mapping[Kind, Shared]

    def __bool__(self) -> bool:
        return self.edits > 0

    def __str__(self) -> str:
        """What is shared, in words: `2 of 60 subjects (France; Chad), ...`."""
        return ", ".join(
            f"{shared.n:,} of {shared.of:,} {PLURALS[kind]} ({_listed(shared)})"
            for kind, shared in self.kinds.items()
            if shared.n
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for a result."""
        kinds: dict[str, Any] = {
            kind: {"n": shared.n, "of": shared.of, "first": list(shared.first)}
            for kind, shared in self.kinds.items()
        }
        return {"edits": self.edits, "of": self.of} | kinds


def overlap(tested: Iterable[Record], learnt: Traces, *, entity_folders: bool) -> Overlap:
    """What test records share with those that were learnt from.

    Args:
        tested: the test records.
        learnt: by what the others are known again.
        entity_folders: whether a folder of the test records' pictures is an entity.
    """
    learnt_of: dict[Kind, Container[str]] = {"subject": learnt.subjects}
    if learnt.facts is not None:
        learnt_of["fact"] = learnt.facts
    if learnt.folders is not None and entity_folders:
        learnt_of["folder"] = learnt.folders
    every: dict[Kind, set[str]] = {kind: set() for kind in learnt_of}
    shared: dict[Kind, dict[str, str]] = {kind: {} for kind in learnt_of}
    edits = of = 0
    for record in tested:
        values, before = _values(record, learnt), edits
        for kind, others in learnt_of.items():
            both = {value: name for value, name in values[kind].items() if value in others}
            every[kind].update(values[kind])
            shared[kind] |= both
            edits = before + 1 if both else edits
        of += 1
    kinds = {
        kind: Shared(len(names), len(every[kind]), tuple(list(names.values())[:_SHOWN]))
        for kind, names in shared.items()
    }
    return Overlap(edits, of, kinds)


def split_overlaps(source: RecordSource) -> dict[tuple[Split, Split], Overlap]:
    """What the records of a split share with those that a training sees before them.

    Validation records are held against training records by their subjects alone, by which they are
    drawn.
    """
    found: dict[tuple[Split, Split], Overlap] = {}
    traces = {other: source.traces(other) for other in {other for _, other in _HELD_AGAINST}}
    for split, other in _HELD_AGAINST:
        records, learnt = source.splits.get(split, ()), traces[other]
        if records and learnt.subjects:
            learnt = learnt if split == "test" else learnt.without_facts()
            folders = source.of(split).entity_folders
            found[split, other] = overlap(records, learnt, entity_folders=folders)
    return found


def overlap_error(
    source: RecordSource, overlaps: Mapping[tuple[Split, Split], Overlap]
) -> DataError:
    """The error of splits that may not share what they do."""
    told = "; ".join(
        f"{source.named(split)} shares {shared} with {source.named(other)}"
        for (split, other), shared in overlaps.items()
    )
    return DataError(
        f"{told}. An editor would be judged on what it was trained on. Take them out of one of the "
        "two, or say data.allow_overlap=true, which counts them in the result and in its report."
    )


def _values(record: Record, learnt: Traces) -> dict[Kind, dict[str, str]]:
    """What a record is known again by -> as it is named in a message, of each kind."""
    key = record.key
    return {
        "subject": {key: _spelled(record, learnt.subjects.get(key))},
        "fact": {_fact(key, record): _named(record)},
        "folder": {folder: folder for folder in _folders(record)},
    }


def _fact(key: str, record: Record) -> str:
    relation = record.relation or name_key(record.knowledge_edit.wording)
    return hashlib.sha256(f"{key}\0{relation}".encode()).hexdigest()[:_DIGITS]


def _folders(record: Record) -> set[str]:
    """The folders of the subject's own pictures; a picture beside all others is in none."""
    images = (record.image, record.image_rephrase)
    folders = {str(PurePosixPath(image).parent) for image in images if image is not None}
    return folders - {"."}


def _named(record: Record) -> str:
    """A fact in a message."""
    asked = f"its {record.relation}" if record.relation else record.knowledge_edit.wording
    return f"{record.about}: {asked}"


def _spelled(record: Record, there: str | None) -> str:
    """A subject in a message, and how it is spelled where it was learnt from."""
    about = record.about
    return about if there in (None, about) else f"{about} (there {there!r})"


def _listed(shared: Shared) -> str:
    more = shared.n - len(shared.first)
    return "; ".join(shared.first) + (f"; and {more:,} more" if more else "")
