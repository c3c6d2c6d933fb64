"""A folder of constructed records that `data=hub` reads, and `data=tmke` where all are complete.

DIR/test.jsonl    one record a line, with the id of its row
DIR/images/       the pictures that the records name, under the names that they have there
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from construction.decisions import picture_names
from construction.records import Constructed
from datamodules.picture_folder import PictureFolder
from errors import ConfigError, DataError, some_of
from results.files import replacing_folder

TEST, IMAGES = "test.jsonl", "images"


def check_pictures(constructed: Iterable[Constructed], pictures: PictureFolder) -> None:
    """Makes sure that the pictures of the records are there.

    Raises:
        DataError: some are not; their number and the first few.
    """
    needed = _names(constructed)
    missing = [name for name in needed if pictures.find(name) is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(needed)} pictures that the rows name are missing in "
            f"{pictures.root}: {some_of(missing)}. Put the files there, or name the folder that "
            "has them in pictures=DIR."
        )


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that holds something which would be replaced.

    Raises:
        ConfigError: it does, and may not be.
    """
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds something already; name another output_dir, or add overwrite=true to "
            "replace it."
        )


def write_data_set(
    folder: Path, constructed: Sequence[Constructed], pictures: PictureFolder, *, overwrite: bool
) -> None:
    """Writes the folder whole or not at all.

    Args:
        folder: made if it does not exist.
        constructed: the records.
        pictures: where their pictures are, which are copied.
        overwrite: whether what is there gives way.

    Raises:
        ConfigError: the folder is taken.
        DataError: there is no record, a picture is missing, or something cannot be written.
    """
    if not constructed:
        raise DataError(f"there is no record to write into {folder}.")
    check_free(folder, overwrite=overwrite)
    check_pictures(constructed, pictures)
    lines = [
        json.dumps({"id": one.id, **one.record.model_dump(mode="json")}, ensure_ascii=False)
        for one in constructed
    ]
    with replacing_folder(folder, overwrite=overwrite) as temporary:
        copy_pictures(_names(constructed), pictures, temporary / IMAGES)
        (temporary / TEST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def copy_pictures(names: Iterable[str], pictures: PictureFolder, folder: Path) -> None:
    """Copies pictures into a folder, under their names."""
    for name in names:
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures.path(name), to)


def _names(constructed: Iterable[Constructed]) -> list[str]:
    return sorted({name for one in constructed for name in picture_names(one.record)})
