"""The cases of records and pictures, and the words that all cases share."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.odd.harness import OUT, TINY, Case, Either, Expected, Refused, Runs
from tests.odd.json_files import OddJson, all_json
from tests.odd.pictures import OddPicture, all_pictures
from tests.odd.records import IMAGES

BASE = (
    "experiment=demo", "data=tmke", "data.root=data", f"model.path={TINY}", "logger=none",
    "trainer.enable_progress_bar=false", f"output_dir={OUT}",
)  # fmt: skip
TEXT = (*BASE, "editor=ft", "editor.steps=2", "scenario=unimodal")
PICTURES = (*BASE, "editor=none", "scenario=multimodal")


def with_words(words: tuple[str, ...], *others: str) -> tuple[str, ...]:
    """Words of a command line, with other values for some keys, or further keys."""
    keys = {word.partition("=")[0] for word in others}
    return (*(word for word in words if word.partition("=")[0] not in keys), *others)


def record_cases() -> list[Case]:
    """A data file of every odd kind."""
    return [_of_json(odd) for odd in all_json().values()]


def _of_json(odd: OddJson) -> Case:
    expected: Expected = Runs("text") if odd.n == 3 else Runs(n=odd.n)
    if odd.says is not None:
        expected = Refused((odd.file.replace(".", r"\."), *odd.says))
    return Case(odd.name, TEXT, expected, prepare=lambda folder: odd.write(folder / "data"))


def picture_cases() -> list[Case]:
    """A picture of every odd kind in the place of one that is shown."""
    return [_of_picture(odd) for odd in all_pictures().values()]


def _of_picture(odd: OddPicture) -> Case:
    expected: Expected = Runs(n=3)
    refused = Refused((odd.file.replace(".", r"\."),))
    if odd.fields is None:
        expected = refused
    if odd.may_be_refused:
        expected = Either(Runs(n=3), refused)
    return Case(odd.name, PICTURES, expected, prepare=functools.partial(_put_picture, odd))


def _put_picture(odd: OddPicture, folder: Path) -> None:
    odd.write(folder / "data" / IMAGES / odd.file)
    file = folder / "data" / "records.json"
    file.write_text(file.read_text().replace("a.png", odd.file))
