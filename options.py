"""The base of all option classes and the kinds of values that several of them have."""

import argparse
import os
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

HUB = "hub:"  # begins a reference to a repository (`editors.hub`) where else a path stands
LARGEST = 2**32 - 1  # no seed of NumPy's is larger, and no count comes near it


class Options(BaseModel):
    """Options of one configuration section, without defaults: the YAML holds the values.

    No unknown key, no silent conversion, no change afterwards. Numbers are finite, and whole ones
    at most `LARGEST`: beyond it the libraries that get them overflow.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _within_reach(cls, value: object) -> object:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, list):
                cls._within_reach(number)
            elif isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"whole numbers should be at most {LARGEST}")
        return value


class PathMark:
    """Marks the text of an option as a path, or as a name that may be one."""


class WholeMark:
    """Marks a text that is taken letter by letter, quotes and `null` too: a question, an answer."""


class HubMark(PathMark):
    """Marks a path in whose place a repository of a hub may be named."""


def without_tilde(path: str) -> str:
    """A path as it was typed, with the home folder for a `~` that is its first part.

    This is the only place where that is done, for command lines and for flags alike. Another name
    that begins with a tilde, `./~` or `~a`, is given in full, as is one with a colon, `s3:`:
    libraries would look for a home or an address.

    >>> without_tilde("a/~"), without_tilde("~a") == os.path.abspath("~a")
    ('a/~', True)
    """
    if path.split("/")[0] == "~":
        return from_home(path)
    first = PurePath(path).parts[:1]
    is_misread = bool(first) and (first[0].startswith("~") or ":" in first[0])
    return os.path.abspath(path) if is_misread else path


def from_home(path: str) -> str:
    """The same for a file inside another option's folder, whose name may begin with anything."""
    return os.path.expanduser(path) if path.split("/")[0] == "~" else path


def is_on_hub(path: str) -> bool:
    """Whether a text names a repository of a hub where a path is expected."""
    return path.startswith(HUB)


def local_or_hub(path: str) -> str:
    """As `without_tilde`, where a repository of a hub may be named: that name stays as it is."""
    return path if is_on_hub(path) else without_tilde(path)


def check_path(path: str) -> str:
    """Returns a path that something can lie at, and that can be stored.

    Raises:
        ValueError: it is empty or no text, or the system does not even look there: a name is too
            long, or a folder on the way is closed.
    """
    return check_place(check_text(path))


def check_place(path: str) -> str:
    """The same of a path that is stored nowhere, and may be of any bytes."""
    if not path:
        raise ValueError("a path is needed, and this is an empty text")
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever needs it there says so
    except OSError as error:
        raise ValueError(f"nothing can be looked up there ({error.strerror})") from error
    return path


def check_text(text: str) -> str:
    """Returns a text that can be written; bytes that are no UTF-8 are none.

    Raises:
        ValueError: there are such bytes in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("bytes that are no UTF-8 are in it; rename it or link it") from error
    return text


def path_flag(path: str) -> Path:
    """The path that a flag names; the `type=` of an argument of argparse.

    Raises:
        argparse.ArgumentTypeError: as `check_place`.
    """
    try:
        return Path(check_place(without_tilde(path)))
    except ValueError as error:
        shown = path.encode(errors="backslashreplace").decode()
        raise argparse.ArgumentTypeError(f"{shown}: {error}") from error


def _as_text(value: object) -> object:
    """Refuses what YAML has made of a name such as 2026_11_24: digits of it are lost."""
    if isinstance(value, str):
        return check_text(value)
    if value is None:
        return value
    raise ValueError("a text is needed; in a YAML file, quotes keep a number or date a text")


def as_list(value: object) -> object:
    """A list of one text for the text alone."""
    return [value] if isinstance(value, str) else value


Seed = Annotated[int, Field(ge=0, le=LARGEST)]
TypedText = Annotated[str, BeforeValidator(_as_text)]
TypedPath = Annotated[str, BeforeValidator(_as_text), AfterValidator(check_path), PathMark()]
PathOrHub = Annotated[str, BeforeValidator(_as_text), AfterValidator(check_path), HubMark()]
Files = Annotated[list[TypedPath] | None, BeforeValidator(as_list)]
