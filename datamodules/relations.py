"""What edits have in common: the relation that they change, and what they are drawn together by.

A result is told by relation, and its intervals may draw all edits of one subject, or of one target,
together (`metrics.bootstrap`): such edits are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from datamodules.drawn import by_wording
from datamodules.records import Record, name_key

Cluster = Literal["record", "subject", "target"]
_KEYS: Mapping[Cluster, Callable[[Record], str]] = {
    "subject": lambda record: record.key,
    "target": lambda record: name_key(record.knowledge_edit.answer_new),
}


def relation_of(record: Record) -> str | None:
    """The relation that an edit changes: its name in the data, or else what is asked.

    That is the edit's question without its subject, "Who is the author of {}?"; of an edit that is
    asked of a picture alone its question, which names no subject. None where the question does not
    name the subject, so that it may ask anything.
    """
    if record.relation is not None:
        return record.relation
    edit = record.knowledge_edit
    if edit.question is None:
        return edit.image_question
    wording = by_wording(record)
    return None if wording is None else str(wording)


def cluster_of(record: Record, by: Cluster) -> str | None:
    """Equal for edits that an interval draws together; None where each is drawn alone.

    A record without a subject counts as one of its picture, or of its words; a target by its
    letters in any case, width and spacing.
    """
    return None if by == "record" else _KEYS[by](record)
