"""Which field of an object was meant by a name that no schema knows.

A field that is missing is often there under another name: `subjects`, `Subject`, `answer new`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from pydantic import BaseModel

_SHOWN = 8  # names of an object that has none like the one that it lacks


def instead_of(field: str, value: object, known: Collection[str]) -> str:
    """What an object has in place of a field that it lacks, as a clause that goes on after it.

    Args:
        field: its name.
        value: the object.
        known: names of fields that mean something else.

    >>> instead_of("subject", {"Subjects": "France", "question": "?"}, {"question"})
    " (the record has 'Subjects': rename it if that is meant)"
    >>> instead_of("subject", {"entity": "France", "question": "?"}, {"question"})
    " (the record has 'entity', 'question')"
    """
    if not isinstance(value, Mapping):
        return ""
    names = [name for name in value if isinstance(name, str)]
    by_spelling = {_spelled(name): name for name in names if name not in known}
    similar = difflib.get_close_matches(_spelled(field), by_spelling, 1)
    if similar:
        return f" (the record has {by_spelling[similar[0]]!r}: rename it if that is meant)"
    if not names or len(names) > _SHOWN:
        return ""
    return f" (the record has {', '.join(map(repr, names))})"


def field_names(models: Iterable[type[BaseModel]]) -> set[str]:
    """Names of the fields of some models and of all that are made of them, as files write them."""
    names: set[str] = set()
    for model in models:
        names |= {field.alias or name for name, field in model.model_fields.items()}
        names |= field_names(model.__subclasses__())
    return names


def _spelled(name: str) -> str:
    """Without capitals, and with one kind of blank."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()
