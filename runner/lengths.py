"""Whether all rows that an editor makes of the records are rows that its models read."""

from __future__ import annotations

from datamodules.datamodule import EditDataModule
from datamodules.scenarios import Prompt
from datamodules.source import Split
from editors.base import AsksLonger
from errors import DataError
from models.rows import RowText


def check_lengths(editor: object, data: EditDataModule, *splits: Split) -> None:
    """Asks an editor that puts texts before questions, before its first edit.

    Args:
        editor: any.
        data: set up.
        splits: which edits are made.

    Raises:
        DataError: a row is too long for the model that reads it; names the record. With
            `data.on_error=skip` the record is left out instead.
    """
    if not isinstance(editor, AsksLonger):
        return
    plain_locality, cloze = data.source.plain_locality, data.source.cloze

    def text(prompt: Prompt) -> RowText:
        pictured = prompt.image is not None
        plain = (cloze and not pictured) or (prompt.plain and plain_locality)
        return RowText(prompt.question, prompt.answer, pictured, plain)

    for split in splits:
        scenario = data.scenarios[split]
        too_long: dict[int, DataError] = {}
        for number, record in enumerate(data.records(split)):
            prompts = [make_prompt(record) for make_prompt in scenario.probes.values()]
            asked = [text(prompt) for prompt in prompts if prompt is not None]
            try:
                editor.check_lengths(text(scenario.edit(record)), asked)
            except DataError as error:
                too_long[number] = error
        data.unserve(split, too_long)
