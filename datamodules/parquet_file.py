"""Files of records in Parquet: rows as the objects that stand in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.packed.columns import Columns
from errors import DataError

_AT_ONCE = 64  # rows in memory, with the bytes of pictures that may stand in them


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file. A field that is null is absent; a picture is its name.

    Raises:
        DataError: the file cannot be read, or has no rows.
    """
    try:
        with pq.ParquetFile(path) as file:
            if not file.metadata.num_rows:
                raise DataError(f"{path} has no rows. Write or fetch it again.")
            for batch in file.iter_batches(_AT_ONCE):
                yield from Columns.of(pa.Table.from_batches([batch]), path.stem).values()
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{path} is no Parquet file that can be read ({said}). Fetch it again."
        ) from error
