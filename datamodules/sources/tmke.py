"""data=tmke: the benchmark's own files, lists of records in the TMKE authors' schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from datamodules.forms import Form
from datamodules.left_out import OnError
from datamodules.looks import Look
from datamodules.record_files import RecordFileOptions, read_record_files
from datamodules.source import FilterKnown, RecordSource
from datamodules.tmke_record import TmkeRecord
from options import TypedPath

_FORM = Form("TMKE", TmkeRecord.model_validate)


class TmkeData(RecordFileOptions):
    """The benchmark's own files; configs/data/tmke.yaml explains the keys."""

    licence: ClassVar[str | None] = None
    origin: ClassVar[str | None] = "https://github.com/wxz2002/multimodal-knowledge-edit"
    looks: ClassVar[tuple[Look, ...]] = (Look.of("knowledge_edit rephrase_question"),)

    image_root: TypedPath | None

    def form(self) -> Form:
        """How a record is written."""
        return _FORM

    def pictures(self) -> Path | None:
        """The folder of the pictures."""
        return Path(self.image_root) if self.image_root else None

    def prompts(self) -> dict[str, bool]:
        """Questions of text locality stand as they are."""
        return {"plain_locality": True}


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
