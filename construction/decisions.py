"""What a reviewer decided about each record: a file that the page saves and the next step reads.

    decisions.json    {"form": "tmke review 1", "decisions": [
                          {"id": "1f0c...", "digest": "9a...", "verdict": "edit",
                           "texts": {"paraphrase": "..."}, "left_out": ["different_type"],
                           "note": "..."}, ...]}

A decision holds for what was looked at: the digest is of the record and of the bytes of its
pictures. Where either has changed since, the decision is stale, and the record is not used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from construction.fields import DROPS, changed
from construction.records import Constructed
from datamodules.json_file import read_json
from datamodules.left_out import LeftOut, first_of
from datamodules.picture_folder import PictureFolder
from datamodules.records import Record, Text, field_errors
from errors import DataError, some_of

FORM = "tmke review 1"
Verdict = Literal["accept", "edit", "reject"]
_PICTURES = (
    "image", "image_rephrase", "same_entity_image", "diff_entity_image", "locality_image"
)  # fmt: skip


class Decision(BaseModel):
    """About one record.

    Attributes:
        id: of its row.
        digest: of what was looked at.
        verdict: `accept` takes the record as it is, `edit` with changes, `reject` not at all.
        texts: field -> its new text, of an edit.
        left_out: parts that the record goes without, of an edit.
        note: for the reviewers alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    digest: Text
    verdict: Verdict
    texts: dict[str, Text] = {}
    left_out: tuple[str, ...] = ()
    note: str = ""


class _DecisionFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    form: Literal["tmke review 1"]
    decisions: tuple[Decision, ...]


@dataclass
class Reviewed:
    """Records after their review.

    Attributes:
        records: those that were accepted, with their changes, in their order.
        edited: ids of those that were changed.
        rejected, undecided: ids.
        stale: decisions about a record that is another one now.
        unknown: ids of decisions about no record.
        borrowers: ids of accepted records that show the picture of a rejected one.
    """

    records: list[Constructed] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    stale: list[LeftOut] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    borrowers: list[str] = field(default_factory=list)


def digest_of(record: Record, pictures: PictureFolder) -> str:
    """A hash of a record and of the bytes of its pictures; one that is missing has none."""
    digest = hashlib.sha256(record.model_dump_json().encode())
    for name in picture_names(record):
        path = pictures.find(name)
        content = b"" if path is None else path.read_bytes()
        digest.update(f"\n{name}:{len(content)}:".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()[:20]


def picture_names(record: Record) -> list[str]:
    """Names of the pictures that a record shows, each once."""
    names = (getattr(record, name) for name in _PICTURES)
    return list(dict.fromkeys(name for name in names if name is not None))


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a file.

    Raises:
        DataError: it is no such file, or decides about a record twice.
    """
    content = read_json(path)
    try:
        decisions = list(_DecisionFile.model_validate(content).decisions)
    except ValidationError as error:
        raise DataError(
            f"decisions={path}: {field_errors(error)}. The file is saved by the review page, with "
            '"Save decisions".'
        ) from error
    counts = Counter(decision.id for decision in decisions)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(
            f"decisions={path}: {len(twice)} records are decided about twice: {some_of(twice)}. "
            "Leave one decision for each."
        )
    return decisions


def apply_decisions(
    constructed: Sequence[Constructed], decisions: Sequence[Decision], pictures: PictureFolder
) -> Reviewed:
    """What is left of the records after their review.

    Raises:
        DataError: an edit cannot be made.
    """
    by_id = {decision.id: decision for decision in decisions}
    reviewed = Reviewed(
        unknown=[d.id for d in decisions if d.id not in {c.id for c in constructed}]
    )
    for one in constructed:
        decision = by_id.get(one.id)
        if decision is None:
            reviewed.undecided.append(one.id)
        elif decision.digest != (now := digest_of(one.record, pictures)):
            why = f"it was decided about as {decision.digest}, and is {now} now"
            reviewed.stale.append(LeftOut(f"record {one.id}", one.record.subject, why))
        elif decision.verdict == "reject":
            reviewed.rejected.append(one.id)
        else:
            reviewed.records.append(_decided(one, decision))
            reviewed.edited += [one.id] if decision.verdict == "edit" else []
    gone = set(reviewed.rejected)
    reviewed.borrowers = [one.id for one in reviewed.records if gone & set(one.lent.values())]
    return reviewed


def check_current(reviewed: Reviewed, path: Path) -> None:
    """Refuses decisions of which some are stale, or about no record.

    Raises:
        DataError: with their number and the first few.
    """
    clauses = []
    if reviewed.stale:
        clauses.append(
            f"{len(reviewed.stale)} are about records that have changed since, or whose pictures "
            f"have: {first_of(reviewed.stale)}"
        )
    if reviewed.unknown:
        clauses.append(f"{len(reviewed.unknown)} are about no record: {some_of(reviewed.unknown)}")
    if clauses:
        raise DataError(
            f"decisions={path}: {'; '.join(clauses)}. Open the new review page, load this file "
            "there (decisions that still hold are taken over), decide about the others and save "
            "again; or leave those records out with on_error=skip."
        )


def _decided(one: Constructed, decision: Decision) -> Constructed:
    """A record that was accepted, with its changes.

    Raises:
        DataError: they cannot be made.
    """
    if decision.verdict == "accept":
        if decision.texts or decision.left_out:
            raise DataError(
                f"the decision about record {one.id} accepts it and changes "
                f"{some_of([*decision.texts, *decision.left_out])}: its verdict is edit, or it "
                "changes nothing."
            )
        return one
    try:
        record = changed(one.record, decision.texts, decision.left_out)
    except DataError as error:
        raise DataError(f"the edit of record {one.id} cannot be made: {error}.") from error
    lent = {name: by for name, by in one.lent.items() if getattr(record, name) is not None}
    gone = {DROPS[name][0]: "left out in review" for name in decision.left_out}
    return Constructed(one.id, record, {**one.lacks, **gone}, lent)
