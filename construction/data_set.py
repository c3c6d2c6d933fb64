"""A folder of constructed records that `data=hub` reads, and `data=tmke` where all are complete.

DIR/test.jsonl    one record a line, with the id of its row
DIR/images/       the pictures that the records name, under the names that they have there
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from construction.decisions import picture_names
from construction.records import Constructed
from datamodules.missing_pictures import check_present
from datamodules.packed.data_set import OURS, PAGE
from datamodules.picture_folder import PictureFolder
from errors import ConfigError, DataError, some_of
from results.files import replacing_folder

TEST, IMAGES = "test.jsonl", "images"
FILES = (TEST, IMAGES, PAGE)  # what we write there


def check_pictures(constructed: Iterable[Constructed], pictures: PictureFolder) -> None:
    """Makes sure that the pictures of the records are there.

    Raises:
        DataError: some are not; their number and the first few.
    """
    check_present(
        _names(constructed), pictures, who="the rows name", where=str(pictures.root),
        ways="or name the folder that has them with pictures=DIR",
    )  # fmt: skip


def check_ours(folder: Path, names: Collection[str]) -> None:
    """Refuses to replace a folder that holds something else than we write there.

    Args:
        folder: need not be there.
        names: what we write there.

    Raises:
        ConfigError: it does; what, and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, and a folder is written there; move it away.")
    others = sorted(path.name for path in folder.glob("*") if path.name not in names)
    if others:
        raise ConfigError(
            f"{folder} would be written anew and holds what is not ours: {some_of(others)}. Move "
            "that away, or name another output_dir."
        )


class Terms(NamedTuple):
    """Where records come from, and what may be done with them.

    Attributes:
        origin: how they were made.
        licence: None where the user has stated none.
    """

    origin: str
    licence: str | None = None


def write_data_set(
    folder: Path, constructed: Sequence[Constructed], pictures: PictureFolder, terms: Terms
) -> None:
    """Writes the folder whole or not at all; an earlier one of ours gives way.

    Args:
        folder: made if it does not exist.
        constructed: the records.
        pictures: where their pictures are, which are copied.
        terms: origin and licence.

    Raises:
        ConfigError: something else is there.
        DataError: there is no record, a picture is missing, or something cannot be written.
    """
    if not constructed:
        raise DataError(f"there is no record to write into {folder}.")
    check_ours(folder, FILES)
    check_pictures(constructed, pictures)
    lines = [
        json.dumps({"id": one.id, **one.record.model_dump(mode="json")}, ensure_ascii=False)
        for one in constructed
    ]
    with replacing_folder(folder) as temporary:
        copy_pictures(_names(constructed), pictures, temporary / IMAGES)
        (temporary / PAGE).write_text(_page(constructed, terms), encoding="utf-8")
        (temporary / TEST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _page(constructed: Sequence[Constructed], terms: Terms) -> str:
    """README.md: metadata as the hub's pages have them, and a sentence or two."""
    facts = {"origin": terms.origin, **({"licence": terms.licence} if terms.licence else {})}
    files = [{"split": "test", "path": TEST}]
    metadata = {"configs": [{"config_name": "default", "data_files": files}], OURS: facts}
    complete = sum(one.is_complete for one in constructed)
    stated = f"Licence: {terms.licence}." if terms.licence else "No licence is stated."
    scenario = "transitive" if all(one.record.image for one in constructed) else "unimodal"
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n"
        f"{len(constructed)} edits of knowledge with their probes, {complete} of them with every "
        f"field of the TMKE schema. {terms.origin[0].upper()}{terms.origin[1:]}. {stated}\n\n"
        "```bash\npython evaluate.py editor=ft data=hub data.root=DIR "
        f"scenario={scenario}\n```\n"
    )


def copy_pictures(names: Iterable[str], pictures: PictureFolder, folder: Path) -> None:
    """Copies pictures into a folder, under their names."""
    for name in names:
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures.path(name), to)


def _names(constructed: Iterable[Constructed]) -> list[str]:
    return sorted({name for one in constructed for name in picture_names(one.record)})
