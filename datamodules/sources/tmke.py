"""data=tmke: the benchmark's own files, lists of records in the TMKE authors' schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.left_out import OnError
from datamodules.record_files import Form, RecordFileOptions, read_record_files
from datamodules.records import TmkeRecord
from datamodules.source import FilterKnown, RecordSource
from options import TypedPath

_FORM = Form("TMKE", TmkeRecord.model_validate)


class TmkeData(RecordFileOptions):
    """The benchmark's own files; configs/data/tmke.yaml explains the keys."""

    image_root: TypedPath | None

    def read(self) -> RecordSource:
        """Reads the files."""
        return read_tmke(
            Path(self.root),
            files=self.files or (),
            train_files=self.train_files or (),
            image_root=Path(self.image_root) if self.image_root else None,
            seed=self.seed,
            filter_known=self.filter_known,
            on_error=self.on_error,
        )


def read_tmke(
    root: Path,
    *,
    files: Sequence[str] = (),
    train_files: Sequence[str] = (),
    image_root: Path | None = None,
    seed: int = 0,
    filter_known: FilterKnown = "none",
    on_error: OnError = "error",
) -> RecordSource:
    """Reads the benchmark's files, as `read_record_files` does.

    Raises:
        DataError: a folder, file, record or field is missing or broken, or a file is named twice.
    """
    return read_record_files(
        root,
        _FORM,
        name="tmke",
        files=files,
        train_files=train_files,
        image_root=image_root,
        seed=seed,
        plain_locality=True,
        filter_known=filter_known,
        on_error=on_error,
    )


SOURCE = TmkeData
