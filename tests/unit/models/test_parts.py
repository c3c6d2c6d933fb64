"""Parts of a batch are the batches that their edits make by themselves."""

from __future__ import annotations

import pytest
import torch

from models.parts import of_rows, split_edits
from models.rows import EditBatch
from tests.builders import any_model, edit_batch

NUMBERS = (3, 8, 5, 1, 2)


def assert_same(part: EditBatch, expected: EditBatch) -> None:
    """Row by row; a part is padded where its own rows need it."""
    assert (part.edit_ids, part.subjects) == (expected.edit_ids, expected.subjects)
    assert torch.equal(part.edit_rows, expected.edit_rows)
    assert part.probes.keys() == expected.probes.keys()
    for name, rows in expected.probes.items():
        assert torch.equal(part.probes[name], rows), name
    for name in ("input_ids", "attention_mask", "answer_mask", "image_slots", "edit_index"):
        assert torch.equal(getattr(part.rows, name), getattr(expected.rows, name)), name


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_parts_are_the_batches_of_their_edits(size: int, padding: str, pictures: bool) -> None:
    whole = edit_batch(NUMBERS, pictures=pictures, padding=padding, extra=3)
    parts = split_edits(whole, size)
    assert len(parts) == -(-len(NUMBERS) // size)
    for start, part in zip(range(0, len(NUMBERS), size), parts, strict=True):
        alone = edit_batch(NUMBERS[start : start + size], pictures=pictures, padding=padding)
        assert_same(part, alone)


def test_rows_of_a_part_show_the_pictures_that_they_did() -> None:
    model = any_model("llava")
    whole = edit_batch(NUMBERS, pictures=True)
    expected = model(whole.rows)
    start = 0
    for part in split_edits(whole, 2):
        got, stop = model(part.rows), start + len(part.rows)
        real = part.rows.attention_mask
        wanted = expected[start:stop, : real.shape[1]]
        torch.testing.assert_close(got[real], wanted[real], rtol=1e-4, atol=1e-5)
        start = stop


def test_other_rows_are_left_out() -> None:
    whole = edit_batch(NUMBERS)
    rows = torch.cat([whole.edit_rows, whole.probes["locality_far"]]).sort().values
    part = of_rows(whole, rows)
    assert part.probes.keys() == {"reliability", "locality_far"}
    assert torch.equal(part.rows.input_ids, whole.rows.input_ids[rows])
    assert torch.equal(rows[part.edit_rows], whole.edit_rows)
    assert torch.equal(rows[part.probes["locality_far"]], whole.probes["locality_far"])
    assert torch.equal(part.rows.edit_index, whole.rows.edit_index[rows])
