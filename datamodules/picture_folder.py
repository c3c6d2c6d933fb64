"""Where the pictures are that records name: each folder is listed once, whatever is asked of it.

A letter with an accent is one character or two (NFC, NFD), and which one a file's name has depends
on the system that wrote it. A name finds its file in either form; the exact one comes first.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.missing_pictures import check_present

WAYS = (
    "point data.image_root at the folder that has them, or use scenario=unimodal, which shows no "
    "picture and takes edits in text"
)


class _Listing(NamedTuple):
    """What lies in a folder: name as it is and composed -> as it is; and which are files."""

    names: Mapping[str, str]
    files: frozenset[str]


class PictureFolder:
    """The files below a folder, by the names that records give them.

    Args:
        root: what names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[Path, _Listing] = {}
        self._by_name: dict[str, _Listing] = {}

    def find(self, name: str) -> Path | None:
        """The file of this name, None where there is none."""
        folder, _, file = name.rpartition("/")
        if file in self._below(folder).files:
            return self.root / name
        at = self.root
        for part in Path(name).parts:
            names = self._list(at).names
            at /= names.get(part) or names.get(_composed(part)) or part
        return at if os.path.isfile(at) else None  # a listing may be old

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        folder, _, file = name.rpartition("/")
        return file in self._below(folder).files or self.find(name) is not None

    def path(self, name: str) -> Path:
        """Where the picture of this name is, or should be."""
        return self.find(name) or self.root / name

    def check(self, names: Iterable[str], why: str) -> None:
        """Makes sure that all pictures of these names are there.

        Args:
            names: as records give them.
            why: what needs them, for the message.

        Raises:
            DataError: some are not; their number and the first few.
        """
        check_present(names, self, who=f"{why} needs", where=str(self.root), ways=WAYS)

    def _below(self, folder: str) -> _Listing:
        """What lies in a folder below the root, by the name that a record gives the folder."""
        if folder not in self._by_name:
            self._by_name[folder] = self._list(self.root / folder)
        return self._by_name[folder]

    def _list(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            names, files = list[str](), set[str]()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        names.append(entry.name)
                        if entry.is_file():
                            files.add(entry.name)
            except (OSError, ValueError):  # no folder, or one that may not be read
                pass
            by_name = {_composed(name): name for name in names} | {name: name for name in names}
            self._listings[folder] = _Listing(by_name, frozenset(files))
        return self._listings[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
