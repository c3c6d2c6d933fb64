"""How many tokens an edit has, by which processes share an evaluation."""

from __future__ import annotations

from pathlib import Path

from datamodules.collate import distinct_tokens
from datamodules.datamodule import EditDataModule
from datamodules.prompt_encoder import Encoded
from models.packing import pack
from tests.unit.datamodules.test_datamodule import root
from tests.unit.datamodules.test_workers import data

__all__ = ["data", "root"]


def row(ids: list[int], slots: tuple[int, ...] = ()) -> Encoded:
    is_slot = [place in slots for place in range(len(ids))]
    return Encoded(ids, [False] * len(ids), is_slot, [(0, 0)] * len(ids), "", (0, 0))


def test_what_rows_begin_with_counts_once() -> None:
    text = [(row([1, 5, 6]), None), (row([1, 5, 7]), None), (row([1, 5, 6]), None)]
    assert distinct_tokens(text) == 4
    shown = row([1, 9, 9, 9, 5], slots=(1, 2, 3))
    other = row([1, 9, 9, 9, 6], slots=(1, 2, 3))
    assert distinct_tokens([(shown, "a"), (other, "a")]) == 6, "a picture is read once"
    assert distinct_tokens([(shown, "a"), (shown, "b")]) == 9, "another picture is read as well"


def test_a_pass_over_packed_rows_reads_as_many(data: EditDataModule, root: Path) -> None:
    """But for what sequences of two pictures begin with, which stands in both of them."""
    counts = data.tokens("train")[:4]
    for count, batch in zip(counts, data.batches("train", [[0], [1], [2], [3]]), strict=True):
        assert count <= int(pack(batch.rows).filled.sum()) <= 1.05 * count


def test_counts_follow_the_edits_that_are_served(data: EditDataModule, root: Path) -> None:
    data._usable["test"].tokens = {0: 5, 1: 6, 2: 7}
    data._serve("test", (1, 2))
    assert data.tokens("test") == [6, 7]


def test_an_evaluation_is_shared_by_tokens(data: EditDataModule, root: Path) -> None:
    assert data.test_dataloader().order.tokens == data.tokens("test")
