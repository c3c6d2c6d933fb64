"""data=mmedit: MMEdit's edits of answers about pictures, E-VQA and E-IC (Cheng et al., 2023).

The edit mends an answer that a model once gave (`pred`) to a question about a picture of COCO; no
entity is named, and what is true is what is taught. A record of E-IC is a caption: "a photo of",
which the answer continues, stands without the prompt's template. `data.task` says which of the two
the files hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.picture_edits import PictureEdit
from datamodules.record_files import RecordFileOptions
from datamodules.records import Record
from options import TypedPath

Task = Literal["vqa", "caption"]


def to_record(value: Any, *, task: Task) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    return PictureEdit.model_validate(value).record(is_cloze=task == "caption")


class MmeditData(RecordFileOptions):
    """MMEdit's files; configs/data/mmedit.yaml explains the keys."""

    has_text: ClassVar[bool] = False
    says_true: ClassVar[bool] = False
    licence: ClassVar[str | None] = "MIT"
    origin: ClassVar[str | None] = "https://github.com/zjunlp/EasyEdit"
    looks: ClassVar[tuple[Look, ...]] = (
        Look.of(
            "src alt rephrase image m_loc",
            lacks="textual_edit knowledge_type",
            image=r"(.*[/\\])?(COCO_|val2014|train2014)",
        ),
    )

    image_root: TypedPath | None
    task: Task

    def form(self) -> Form:
        """How a record is written."""
        return Form("MMEdit", lambda value: to_record(value, task=self.task))

    def pictures(self) -> Path | None:
        """The folder of the pictures."""
        return Path(self.image_root) if self.image_root else None


SOURCE = MmeditData
