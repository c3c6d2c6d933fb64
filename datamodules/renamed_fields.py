"""Which field of an object was meant by a name that no schema knows.

A field that is missing is often there under another name: `subjects`, `Subject`, `answer new`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

_ALIKE = 0.85  # of difflib's ratio: `image` and `images` are 0.91, `image` and `image_id` 0.77
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


def unread_fields(value: Any, model: type[BaseModel]) -> list[str]:
    """Fields that no one reads although they look like one that is absent, a sentence for each.

    A schema passes over what it does not know, so an optional field with a letter too many would be
    lost in silence.

    Args:
        value: what stands in a file.
        model: its schema.
    """
    unread: list[str] = []
    _add_unread(unread, value, model, ())
    return unread


def _add_unread(unread: list[str], value: Any, model: type[BaseModel], at: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        return
    fields = _fields(model)
    if not value.keys() <= fields.keys():
        absent = {_spelled(name): name for name in fields.keys() - value.keys()}
        unread += [
            f"{'.'.join((*at, name))}: no field is called so, and it would not be read: rename it "
            f"to {absent[similar[0]]!r}, or take it out"
            for name in sorted(map(str, value.keys() - fields.keys()))
            if (similar := difflib.get_close_matches(_spelled(name), absent, 1, _ALIKE))
        ]
    for name, part in value.items():
        if isinstance(part, dict | list) and (inner := fields.get(name)) is not None:
            for one in part if isinstance(part, list) else (part,):
                _add_unread(unread, one, inner, (*at, name))


@cache
def _fields(model: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """Names of a schema's fields, as files write them, with the schema of what stands there."""
    fields = model.model_fields.items()
    return {field.alias or name: _model_in(field.annotation) for name, field in fields}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The schema in a type such as `list[Question]` or `Question | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _spelled(name: str) -> str:
    """Without capitals, and with one kind of blank."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()
