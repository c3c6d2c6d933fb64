"""The base of all option classes and the kinds of values that several of them have."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Options(BaseModel):
    """Options of one configuration section, without defaults: the YAML holds the values.

    No unknown key, no silent conversion, no change afterwards.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _as_text(value: object) -> object:
    """A folder called 2026 or a revision of digits only is text, although YAML reads a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


TypedText = Annotated[str, BeforeValidator(_as_text)]
Files = Annotated[list[TypedText] | None, BeforeValidator(_as_list)]
