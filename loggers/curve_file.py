"""`metrics.csv`, the curves of a training: one line per logged step, one column per value.

Lines are appended. Where a new column appears, the file is written anew beside its place and then
renamed. On a full disk the lines stay in memory, and the next save tries again.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from results.files import CURVES, replacing

log = logging.getLogger(__name__)


class CurveFile(CSVLogger):
    """`metrics.csv` in the output folder itself, continued when training continues.

    Args:
        folder: the output folder.
        continue_after: keep an earlier run's lines up to this optimiser step; None starts anew.
        validated: whether the lines of a validation after that step are kept too.
    """

    def __init__(
        self, folder: Path, continue_after: int | None = None, *, validated: bool = True
    ) -> None:
        super().__init__(str(folder), name="", version="")
        self._earlier_lines: list[dict[str, Any]] = []
        self._warned = False
        file = folder / ExperimentWriter.NAME_METRICS_FILE
        if continue_after is not None and file.is_file():
            self._earlier_lines = [
                line
                for line in _read(file)
                if int(line["step"]) < continue_after - (not validated and _is_of_validation(line))
            ]

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml has them."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, with the lines of an earlier run in front."""
        if self._experiment is None:
            self._experiment = _CurveWriter(self.log_dir, self._earlier_lines)
        return cast("ExperimentWriter", self._experiment)

    def save(self) -> None:
        """Writes what was logged since the last save; a disk that is full ends no training."""
        try:
            super().save()
        except OSError as error:
            if not self._warned:
                log.warning(
                    "%s cannot be written (%s): training goes on, its curves stay in memory and "
                    "every save tries again",
                    Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE,
                    error.strerror or error,
                )
            self._warned = True


class _CurveWriter(ExperimentWriter):
    """Lightning's writer, which never leaves the file shorter than it was or a line cut off."""

    def __init__(self, folder: str, earlier_lines: Iterable[dict[str, Any]]) -> None:
        super().__init__(folder)
        self._path = Path(self.metrics_file_path)
        self._columns: list[str] = []  # of the file; none as long as this run has written none
        self.metrics = list(earlier_lines)

    def _check_log_dir_exists(self) -> None:
        """An earlier file stays until there is something to put in its place."""

    def save(self) -> None:
        """Appends the lines, or writes the file anew for new columns.

        Raises:
            OSError: nothing was written, and the lines are kept.
        """
        if not self.metrics:
            return
        columns = sorted({*self._columns, *chain.from_iterable(self.metrics)})
        if columns == self._columns:
            self._append()
        else:
            self._rewrite(columns)
        self._columns, self.metrics = columns, []

    def _append(self) -> None:
        size = self._path.stat().st_size
        try:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(self.metrics)
        except OSError:
            os.truncate(self._path, size)
            raise

    def _rewrite(self, columns: list[str]) -> None:
        written = _read(self._path) if self._columns else []
        with replacing(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(chain(written, self.metrics))


def lacks_picture(folder: Path) -> bool:
    """Whether a folder has curves, and no pictures of them as they are now."""
    files = [folder / name for name in (CURVES, "curves.png", "curves.pdf")]
    times = [file.stat().st_mtime_ns if file.is_file() else 0 for file in files]
    return min(times) < times[0]


def _read(file: Path) -> list[dict[str, Any]]:
    """The lines of a file, without a last one that a killed run left cut off."""
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(whole.splitlines()))


def _is_of_validation(line: dict[str, Any]) -> bool:
    return any(value and name.startswith("val/") for name, value in line.items())
