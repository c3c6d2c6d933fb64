"""GRACE's codebook with vectors that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editors.grace.codebook import EXPAND, Codebook, Entries
from errors import ModelError
from models.tensor_file import TensorFile

PARIS, ROME = (1,), (2, 3)


def entry(x: float, label: tuple[int, ...], *, y: float = 0.0, prompt: str = "") -> Entries:
    """One edit with a key in the plane, and its x as the value."""
    key = torch.tensor([[x, y]])
    return Entries(key, torch.tensor([[x]]), (label,), ((prompt or f"{x},{y}").encode(),))


def book(*entries: Entries) -> Codebook:
    return Codebook.of(Entries.joined(entries), epsilon_init=1.0)


def test_entries_come_back_from_their_file_and_damage_is_named(tmp_path: Path) -> None:
    path, cpu = tmp_path / "codebook.safetensors", torch.device("cpu")
    entries = Entries.joined([entry(0, PARIS), entry(2.5, ROME)])
    entries.save(path)
    read, file = Entries.load(path, cpu), TensorFile.of(path, remedy="")
    assert torch.equal(read.keys, entries.keys)
    assert torch.equal(read.values, entries.values)
    assert (read.labels, read.prompts) == (entries.labels, entries.prompts)
    facts, tensors = dict(file.facts), file.read()
    for bad_tensors, bad_facts, message in (
        (tensors, facts | {"labels": "[[1]]"}, "2 keys, 2 values, 1 labels and 2 prompts"),
        (tensors, facts | {"prompts": "["}, "does not say which prompts .*JSONDecodeError"),
        (tensors, {}, "does not say which prompts .*KeyError"),
        ({"keys": tensors["keys"]}, facts, "has no values; it has keys"),
        (tensors | {"keys": torch.zeros(2)}, facts, r"keys of shape \(2,\)"),
    ):
        save_file(bad_tensors, path, bad_facts)
        with pytest.raises(ModelError, match=rf"codebook\.safetensors .*{message}.*save the edit"):
            Entries.load(path, cpu)


def test_the_first_edit_is_an_entry() -> None:
    first = book(entry(0, PARIS))
    assert first.entries.keys.tolist() == [[0, 0]]
    assert first.radii.tolist() == [1.0]


def test_an_edit_far_away_is_an_entry_of_its_own() -> None:
    both = book(entry(0, PARIS), entry(2.5, ROME))
    assert both.entries.labels == (PARIS, ROME)
    assert both.radii.tolist() == [1.0, 1.0]


def test_a_near_edit_of_the_same_answer_makes_the_radius_larger() -> None:
    one = book(entry(0, PARIS), entry(1.5, PARIS))
    assert len(one) == 1
    assert one.radii.tolist() == pytest.approx([1.5 * EXPAND])
    assert one.lookup(torch.tensor([[1.5, 0.0], [1.6, 0.0]])).tolist() == [0, -1]
    assert book(entry(0, PARIS), entry(0.5, PARIS)).radii.tolist() == [1.0]


def test_a_near_edit_of_another_answer_splits() -> None:
    both = book(entry(0, PARIS), entry(1.5, ROME))
    assert both.radii.tolist() == [0.75, 0.75]
    assert both.entries.values[:, 0].tolist() == [0, 1.5]
    third = book(entry(0, PARIS), entry(1.5, ROME), entry(0.0, ROME, y=1.7))
    assert third.radii.tolist() == pytest.approx([0.75, 0.75, 0.85])  # none becomes larger


def test_the_border_of_both_radii_is_near() -> None:
    assert book(entry(0, PARIS), entry(2.0, ROME)).radii.tolist() == [1.0, 1.0]
    assert len(book(entry(0, PARIS), entry(2.0, PARIS))) == 1


def test_the_nearest_entry_decides_and_not_one_whose_radius_reaches_further() -> None:
    wide = book(entry(0, PARIS), entry(1.9, PARIS), entry(5.0, ROME))
    assert wide.radii.tolist() == pytest.approx([1.9 * EXPAND, 1.0])
    assert wide.lookup(torch.tensor([[1.8, 0], [3.0, 0], [4.5, 0]])).tolist() == [0, -1, 1]


def test_of_the_same_prompt_the_later_answer_counts() -> None:
    again = book(entry(0, PARIS, prompt="q"), entry(1e-6, ROME, prompt="q"))
    assert again.entries.labels == (ROME,)
    assert again.entries.values[0, 0] == pytest.approx(1e-6)
    assert again.radii.tolist() == [1.0]
    wide = book(entry(0, PARIS, prompt="q"), entry(1.5, PARIS), entry(0, ROME, prompt="q"))
    assert wide.radii.tolist() == [1.0]  # what the earlier answer had gained is not the later one's
    assert book(entry(0, PARIS, prompt="q"), entry(0, PARIS, prompt="q")).radii.tolist() == [1.0]


def test_of_two_prompts_with_one_key_the_later_answer_counts() -> None:
    """A split at distance 0 would leave two entries of radius 0, the first of which answers."""
    at, one = torch.zeros(1, 2), entry(0, PARIS, prompt="p")
    later = replace(entry(0, ROME, prompt="q"), values=torch.tensor([[7.0]]))
    both = book(one, later)
    assert both.entries.labels == (ROME,)
    assert both.entries.values.tolist() == [[7.0]]
    assert both.radii.tolist() == [1.0]
    assert both.lookup(at).tolist() == [0]
    in_turns = Codebook.of(later, epsilon_init=1.0, earlier=book(one))
    assert (in_turns.entries.labels, in_turns.radii.tolist()) == ((ROME,), [1.0])
    assert book(one, entry(0, PARIS, prompt="q")).entries.values.tolist() == [[0.0]]
    near = book(one, entry(0, ROME, y=0.5, prompt="r"), later)  # a split's radius stays a split's
    assert (near.entries.labels, near.radii.tolist()) == ((ROME, ROME), [0.25, 0.25])


def test_a_query_sees_the_entries_that_it_may() -> None:
    both = book(entry(0, PARIS), entry(5, ROME))
    queries = torch.tensor([[0.0, 0], [5.0, 0], [0.0, 0]])
    allowed = torch.tensor([[True, False], [True, False], [False, True]])
    assert both.lookup(queries).tolist() == [0, 1, 0]
    assert both.lookup(queries, allowed).tolist() == [0, -1, -1]


def test_half_precision_keys_are_compared_in_single_precision() -> None:
    """Half precision has no number between 1000 and 1008 that the distance could be."""
    keys = torch.tensor([[1000.0, 1.0], [1000.0, 2.0]], dtype=torch.bfloat16)
    entries = Entries(keys, torch.zeros(2, 1), (PARIS, ROME), (b"a", b"b"))
    both = Codebook.of(entries, epsilon_init=0.25)
    assert both.radii.dtype == torch.float32
    assert both.lookup(keys).tolist() == [0, 1]
