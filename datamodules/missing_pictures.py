"""Pictures that are named and are not there: how that is told, and what helps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from errors import DataError, some_of


class Findable(Protocol):
    """Pictures that are looked for by name."""

    def find(self, name: str) -> object | None:
        """The picture of this name, None where there is none."""


def missing_pictures(names: Iterable[str], pictures: Findable) -> list[str]:
    """Those of some names that no picture has, each once, sorted."""
    return sorted(name for name in set(names) if pictures.find(name) is None)


def check_present(
    names: Iterable[str], pictures: Findable, *, who: str, where: str, ways: str
) -> None:
    """Makes sure that all pictures of some names are there.

    Args:
        names: as records give them.
        pictures: where they are looked for.
        who: what asks for them, with its verb, for the message.
        where: the place where they are not, for the message.
        ways: what helps besides putting them there.

    Raises:
        DataError: some are not; their number and the first few.
    """
    needed = set(names)
    missing = missing_pictures(needed, pictures)
    if not missing:
        return
    are = "is" if len(missing) == 1 else "are"
    raise DataError(
        f"{who} {len(needed)} pictures, and {len(missing)} of them {are} not in {where}: "
        f"{some_of(missing)}. Put the files there, {ways}."
    )
