"""Writes the records of a source, with their pictures, as a data set in Parquet.

    DIR/README.md                              what is in it, for people and for `load_dataset`
    DIR/data/test-00000-of-00001.parquet       records; a picture is a cell of bytes and its name

`datasets.load_dataset(DIR)` opens it, the hub shows it, and `data=hub data.root=DIR` reads the same
records and pictures as the source that it was written from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.missing_pictures import check_present, missing_pictures
from datamodules.packed.card import card
from datamodules.packed.counts import Counts
from datamodules.packed.data_set import PAGE
from datamodules.packed.features import record_features, with_pictures
from datamodules.packed.folder import FOLDER, NAMES, SUFFIX, check_free
from datamodules.pictures import Pictures
from datamodules.records import Record
from datamodules.source import SPLITS, RecordSource, Split
from errors import ConfigError, DataError
from results.files import replacing_folder

_GROUP_ROWS = 1000  # that a reader takes into memory at once
_GROUP_BYTES = 2**25  # of their pictures
_FILE_BYTES = 5 * 10**8  # of pictures in one file, as hubs recommend
_DICTIONARY = 2**26  # bytes of different pictures up to which a row group holds each of them once


@dataclass
class Written:
    """What was written.

    Attributes:
        counts: split -> of its records.
        files: their names, in the folder of the data set.
        absent: names of pictures that are named and not there.
    """

    counts: dict[Split, Counts] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def export(
    source: RecordSource,
    output: Path,
    *,
    words: Sequence[str],
    limit: int | None = None,
    allow_missing: bool = False,
) -> Written:
    """Writes a source as a data set.

    Args:
        source: its records and pictures.
        output: the folder; not there yet, or empty.
        words: of the command line that names the source, for the page.
        limit: the first so many records of each split; None: all.
        allow_missing: whether a picture that is not there is named without its bytes.

    Raises:
        ConfigError: the folder holds something, or records come from two sources.
        DataError: there are no records, or pictures are missing; nothing is written then.
        UnwritableError: the disk is full, or the place cannot be written.
    """
    check_free(output)
    if source.training is not None:
        raise ConfigError(
            f"data.train={source.training.name}: a data set has one source. Export "
            f"data={source.name} and data={source.training.name} each into a folder of its own."
        )
    source = replace(source, splits={s: r[:limit] for s in SPLITS if (r := source.splits.get(s))})
    if not source.splits:
        raise DataError(f"data={source.name} has no records to export. {source.absent}")
    names, pictures = _picture_names(source), source.pictures
    if not allow_missing:
        check_present(
            names, pictures, who=f"data={source.name} names", where=str(pictures.root),
            ways="point data.image_root at the folder that has them, or write the set with their "
            "names alone (--allow-missing)",
        )  # fmt: skip
    absent = missing_pictures(names, pictures)
    written = Written(absent=absent)
    with replacing_folder(output, overwrite=False) as folder:
        (folder / FOLDER).mkdir()
        for split, records in source.splits.items():
            written.files += _write_split(folder, split, records, pictures)
            written.counts[split] = Counts.of(records)
        sizes = {name: (folder / name).stat().st_size for name in written.files}
        page = card(source, written.counts, sizes, absent=absent, words=words)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return written


def _picture_names(source: RecordSource) -> Collection[str]:
    """The pictures that its records name."""
    features, names = dict(record_features()), dict[str, None]()
    for records in source.splits.values():
        for record in records:
            with_pictures(record.model_dump(), features, names.setdefault)
    return names


def _write_split(
    folder: Path, split: Split, records: Sequence[Record], pictures: Pictures
) -> list[str]:
    """Writes the files of a split; their names say how many there are, so they get them last."""
    schema, name = record_features().arrow_schema, NAMES[split][0]
    parts: list[Path] = []
    writer, room = None, 0
    try:
        for rows, size in _groups(records, pictures):
            if writer is None or size > room:
                if writer is not None:
                    writer.close()
                parts.append(folder / FOLDER / f"{name}-{len(parts)}{SUFFIX}")
                writer, room = _writer(parts[-1], schema), _FILE_BYTES
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            room -= size
    finally:
        if writer is not None:
            writer.close()
    names = [f"{FOLDER}/{name}-{n:05}-of-{len(parts):05}{SUFFIX}" for n in range(len(parts))]
    for part, final in zip(parts, names, strict=True):
        part.rename(folder / final)
    return names


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path, schema, dictionary_pagesize_limit=_DICTIONARY, write_page_index=True
    )


def _groups(
    records: Sequence[Record], pictures: Pictures
) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Rows that are written and read together, and the bytes of their pictures."""
    features, coming = dict(record_features()), iter(records)
    size = 0

    def packed(name: str) -> dict[str, Any]:
        nonlocal size
        picture = pictures.find(name)
        if picture is None:
            return {"bytes": None, "path": name}
        with picture.open("rb") as file:
            content = file.read()
        size += len(content)
        return {"bytes": content, "path": name}

    rows: list[dict[str, Any]] = []
    for record in coming:
        rows.append(with_pictures(record.model_dump(), features, packed))
        if len(rows) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield rows, size
            rows, size = [], 0
    if rows:
        yield rows, size
