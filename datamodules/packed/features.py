"""The columns of a data set, from the fields of a `Record`: a new field is a new column."""

from __future__ import annotations

from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from datasets import Features, Image, List, Value
from pydantic import AfterValidator, BaseModel

from datamodules.records import Record, inside_folder

_PLAIN = {str: "string", int: "int32", bool: "bool"}


def record_features() -> Features:
    """The columns of records: texts as they are, the names of pictures as pictures."""
    return Features(_of_model(Record))


def with_pictures(value: Any, feature: Any, picture: Callable[[str], Any]) -> Any:
    """A value of a record with something else for the name of each picture in it.

    Args:
        value: as `model_dump` gives it.
        feature: of its column.
        picture: the name -> what takes its place.
    """
    if value is None:
        return None
    if isinstance(feature, Image):
        return picture(value)
    if isinstance(feature, List):
        return [with_pictures(part, feature.feature, picture) for part in value]
    if isinstance(feature, dict):
        return {n: with_pictures(value.get(n), part, picture) for n, part in feature.items()}
    return value


def _of_model(model: type[BaseModel]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {name: _of_type(hints[name]) for name in model.model_fields}


def _of_type(kind: Any) -> Any:
    """The feature of a field's type.

    Raises:
        TypeError: a field has a type that no column is known for.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        marks = (mark.func for mark in parts[1:] if isinstance(mark, AfterValidator))
        return Image() if inside_folder in marks else _of_type(parts[0])
    if origin in (Union, UnionType):
        (some,) = (part for part in parts if part is not type(None))
        return _of_type(some)
    if origin in (list, tuple):
        return List(_of_type(parts[0]))
    if origin is Literal:
        return Value("string")
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _of_model(kind)
    if kind in _PLAIN:
        return Value(_PLAIN[kind])
    raise TypeError(f"no column is known for {kind}")
