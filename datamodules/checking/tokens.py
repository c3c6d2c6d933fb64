"""Answers as a tokenizer reads them, behind their question in the default prompt.

Where the old and the new answer of an edit begin with the same token, the unedited model is right
about it, and token accuracy (the mean over the tokens of the new answer) does not begin at 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from datamodules.checking.report import Finding, Noted
from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from datamodules.source import RecordSource, Split
from errors import DataError


def check_tokens(
    source: RecordSource, split: Split, name: str, tokenizer: PreTrainedTokenizerBase
) -> list[Finding]:
    """Answers without a token of their own, and old and new ones that begin alike.

    Args:
        source: the data.
        split: whose records.
        name: of the tokenizer, for the report.
        tokenizer: a fast one.

    Raises:
        ModelError: the tokenizer is a slow one.
    """
    encoder = PromptEncoder(tokenizer, None)
    alike, empty, records, compared = Noted(), Noted(), 0, 0
    for number, record in enumerate(source.splits.get(split, ())):
        records += 1
        try:
            tokens = [first_tokens(encoder, record, answer) for answer in _answers(record)]
        except DataError as error:
            empty.add(f"{source.place(split, number)} ({record.named}): {error}")
            continue
        if len(tokens) < 2 or record.changes_nothing:
            continue
        compared += 1
        if tokens[0][0] == tokens[1][0]:
            new, true = _answers(record)
            token = tokenizer.convert_ids_to_tokens(tokens[0][0])
            alike.add(
                f"{source.place(split, number)} ({record.named}): {true!r} and {new!r} begin with "
                f"{token!r}"
            )
    by = f"(tokenizer {name})"
    begin = f"edits have an old and a new answer that begin with the same token {by}"
    lack = f"records have an answer without a token {by}"
    found = (
        ("no_token", empty, records, lack, True),
        ("same_first_token", alike, compared, begin, False),
    )
    return [
        Finding(kind, split, noted.count, of, what, is_problem, tuple(noted.first))
        for kind, noted, of, what, is_problem in found
        if noted.count
    ]


def first_tokens(encoder: PromptEncoder, record: Record, answer: str) -> list[int]:
    """The tokens of an answer behind the question of a record's edit.

    Raises:
        DataError: there is none.
    """
    row = encoder.encode(record.knowledge_edit.wording, answer, plain=record.is_cloze)
    return [token for token, is_answer in zip(row.ids, row.answer, strict=True) if is_answer]


def _answers(record: Record) -> Iterable[str]:
    """The new answer and, where it is stated, the true one."""
    edit = record.knowledge_edit
    return [edit.answer_new] + ([] if edit.answer_true is None else [edit.answer_true])
