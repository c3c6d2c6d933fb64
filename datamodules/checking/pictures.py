"""Pictures that records name: which are missing, which cannot be read, which are one picture twice.

Every file is read to its end, by several threads: a picture that is cut short in its middle is
found as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from datamodules.checking.report import Finding, Noted
from datamodules.picture_file import read_image
from datamodules.records import Record
from datamodules.source import RecordSource, Split
from errors import DataError

Track = Callable[[Iterable[Any], int], Iterable[Any]]  # things, how many -> the same, with a bar
_DIGEST_BYTES = 16


class _Opened(NamedTuple):
    """A picture that was looked at.

    Attributes:
        digest: of its pixels; None where there are none.
        reason: why there are none; empty where it is missing.
    """

    digest: bytes | None
    reason: str = ""


def check_pictures(
    source: RecordSource, split: Split, images: Mapping[str, int], track: Track
) -> list[Finding]:
    """Looks at all pictures that the records of a split name.

    Args:
        source: the data.
        split: whose pictures.
        images: their names -> the first record that shows each.
        track: shows how far it is.
    """
    opened = _open_all(source.of(split), list(images), track)
    missing, unreadable, twins = Noted(), Noted(), Noted()
    for name, picture in opened.items():
        where = source.place(split, images[name])
        if picture.reason:
            unreadable.add(f"{name} ({where}): {picture.reason}")
        elif picture.digest is None:
            missing.add(f"{name} ({where})")
    for number, record in enumerate(source.splits.get(split, ())):
        if _is_one_picture(record, opened):
            twins.add(f"{source.place(split, number)} ({record.named}): {record.image}")
    folder, n = source.of(split).image_root, len(images)
    there = f"in {folder}" if folder.is_dir() else f"as there is no folder {folder}"
    found = [
        ("missing_pictures", missing, f"pictures are missing {there}", True, n),
        ("unreadable_pictures", unreadable, "pictures cannot be read", True, n),
        ("same_pictures", twins, "records have one picture as the seen and the unseen one, so the "
         "unseen one tests nothing", False, len(source.splits.get(split, ()))),
    ]  # fmt: skip
    return [
        Finding(kind, split, noted.count, of, what, is_problem, tuple(noted.first))
        for kind, noted, what, is_problem, of in found
        if noted.count
    ]


def _open_all(source: RecordSource, names: list[str], track: Track) -> dict[str, _Opened]:
    """Each picture, in the order of the names; none of them is kept."""

    def opened(name: str) -> _Opened:
        picture = source.pictures.find(name)
        if picture is None:
            return _Opened(None)
        try:
            image = read_image(picture)
        except DataError as error:
            return _Opened(None, str(error).partition(" cannot be read: ")[2] or str(error))
        content = f"{image.size}".encode() + image.tobytes()
        return _Opened(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest())

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(names, track(threads.map(opened, names), len(names)), strict=True))


def _is_one_picture(record: Record, opened: Mapping[str, _Opened]) -> bool:
    """Whether the seen and the unseen picture have the same pixels."""
    if record.image is None or record.image_rephrase is None:
        return False
    if record.image == record.image_rephrase:
        return True
    seen, unseen = opened[record.image].digest, opened[record.image_rephrase].digest
    return seen is not None and seen == unseen
