"""Whether all rows that an editor makes of the records are rows that its models read."""

from __future__ import annotations

from functools import partial

from datamodules.collate import as_asked, row_text
from datamodules.datamodule import EditDataModule
from datamodules.prompts import Prompt
from datamodules.source import RecordSource, Split
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
    for split in splits:
        scenario = data.scenarios[split]
        text = partial(_text, data.source.of(split))
        too_long: dict[int, DataError] = {}
        for number, record in enumerate(data.records(split)):
            prompts = [make_prompt(record) for make_prompt in scenario.probes.values()]
            asked = [text(prompt) for prompt in prompts if prompt is not None]
            try:
                editor.check_lengths([text(prompt) for prompt in scenario.edit(record)], asked)
            except DataError as error:
                too_long[number] = error
        data.unserve(split, too_long)


def _text(source: RecordSource, prompt: Prompt) -> RowText:
    form = {"plain_locality": source.plain_locality, "cloze": source.cloze}
    return row_text(as_asked(prompt, **form))
