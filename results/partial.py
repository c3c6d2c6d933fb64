"""Results on disk while a run is still going on, so that a killed one can continue.

    DIR/partial/run.json                      what the run is; a continuation must be the same
    DIR/partial/<first>-<last>.parquet        one batch of edits, written whole and then renamed

Every process writes the batches that it was served. A batch is either there or not; a file that
cannot be read counts as not there. The folder goes last, once the result is written, drawn and
sent: with a summary.json beside it, a run has only these steps left.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from errors import ConfigError, DataError
from results.files import PARTIAL, differences, replacing, write_text
from results.folder import CURVE_SCHEMA, EDIT_SCHEMA, EDITS_IN_PLACE

log = logging.getLogger(__name__)
RUN = "run.json"
_FACTS = b"tmke"  # key of what a batch's file says besides its lines

Line = dict[str, Any]  # of edits.parquet


@dataclass(frozen=True)
class BatchResult:
    """What one batch of edits came to.

    Attributes:
        lines: of edits.parquet; in a sequential run of curve.parquet.
        answer_seconds: per edit, to answer all its probes.
        report: what the editor says of each edit, in their order.
    """

    edit_ids: tuple[int, ...]
    lines: list[Line]
    answer_seconds: float = 0.0
    report: Mapping[str, list[float]] = field(default_factory=dict)


class PartialResults:
    """The batches of a run that are done.

    Args:
        folder: the run's output folder.
        identity: what fixes the numbers of the run, as plain JSON values.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder / PARTIAL
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))

    def open(self) -> list[BatchResult]:
        """The batches that an earlier run left; none in a new run. For the first process alone.

        Raises:
            ConfigError: the earlier run was another one.
            DataError: nothing can be written.
        """
        earlier = self._earlier_identity()
        if earlier is None:
            with explain_unwritable(self.folder.parent):
                write_text(self.folder / RUN, json.dumps(self.identity, indent=1))
            return []
        if unknown := [key for key in self.identity if key not in earlier]:
            raise ConfigError(
                f"resume=true: {self.folder.parent} holds the beginning of a run of an earlier "
                f"version, which did not note {', '.join(unknown)}, so it cannot be told whether "
                "that was the same. Name another output_dir, or add overwrite=true to start anew."
            )
        differing = differences(earlier, self.identity)
        if differing:
            raise ConfigError(
                f"resume=true: {self.folder.parent} holds the beginning of another run: "
                f"{'; '.join(differing)}. Restore what was, name another output_dir, or add "
                "overwrite=true to start anew."
            )
        # A name that begins with a dot was being written when the earlier run ended.
        files = sorted(self.folder.glob("[0-9]*.parquet"))
        batches = [batch for path in files if (batch := _read(path))]
        log.info("resume: %d edits are there already", sum(len(b.edit_ids) for b in batches))
        return batches

    def add(self, batch: BatchResult) -> None:
        """Writes a batch.

        Raises:
            DataError: it cannot be written.
        """
        is_curve = any(EDITS_IN_PLACE in line for line in batch.lines)
        table = pa.Table.from_pylist(batch.lines, schema=CURVE_SCHEMA if is_curve else EDIT_SCHEMA)
        facts = {key: value for key, value in asdict(batch).items() if key != "lines"}
        table = table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()})
        name = f"{batch.edit_ids[0]:08d}-{batch.edit_ids[-1]:08d}.parquet"
        with explain_unwritable(self.folder.parent), replacing(self.folder / name) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def _earlier_identity(self) -> dict[str, Any] | None:
        try:
            stored = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError("it is no JSON object")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"resume=true: {self.folder / RUN}, which says what run this was, cannot be read "
                f"({error}). Add overwrite=true to start anew."
            ) from error
        return stored


def remove_partial(folder: Path) -> None:
    """Removes the batches of a run that has nothing left to do; once they are gone it is finished.

    What cannot be removed is tried again when the run is next started with resume=true.
    """
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


@contextmanager
def explain_unwritable(folder: Path) -> Iterator[None]:
    """Turns a full disk, or one that is gone, into an error that says what is not lost.

    Raises:
        DataError: something cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"output_dir={folder} cannot be written ({error.strerror or error}). Make room there; "
            "the same command with resume=true goes on with the edits that are on disk."
        ) from error


def edits_of(batches: Iterable[BatchResult]) -> frozenset[int]:
    """Numbers of the edits in some batches."""
    return frozenset(edit for batch in batches for edit in batch.edit_ids)


def _read(path: Path) -> BatchResult | None:
    """A batch, or None with a warning where its file is broken."""
    try:
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[_FACTS])
        return BatchResult(
            tuple(facts["edit_ids"]),
            table.to_pylist(),
            facts["answer_seconds"],
            facts["report"],
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        log.warning("%s cannot be read (%s); its edits are made again", path, error)
        return None
