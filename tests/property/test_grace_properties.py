"""What holds of GRACE's codebook whatever edits come."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editors.grace.codebook import Codebook, Entries

SOME = settings(max_examples=60, deadline=None)
COORDINATE = st.integers(-12, 12).map(lambda n: n / 4)
EDIT = st.tuples(COORDINATE, COORDINATE, st.integers(0, 2))


def entries(edits: list[tuple[float, float, int]]) -> Entries:
    """Keys in the plane with labels; the same key is that of one of two prompts."""
    keys = torch.tensor([edit[:2] for edit in edits], dtype=torch.float64).reshape(-1, 2)
    values = torch.arange(len(edits), dtype=torch.float64)[:, None]
    labels = tuple((label,) for _, _, label in edits)
    prompts = tuple(f"{edit[:2]} {number % 2}".encode() for number, edit in enumerate(edits))
    return Entries(keys, values, labels, prompts)


def plain(edits: list[tuple[float, float, int]], epsilon: float) -> list[list[float]]:
    """Algorithm 1 with lists: [x, y, radius, label, number of the value's edit]."""
    book: list[list[float]] = []
    for number, (x, y, label) in enumerate(edits):
        apart = [((x - one[0]) ** 2 + (y - one[1]) ** 2) ** 0.5 for one in book]
        near = min(range(len(book)), key=apart.__getitem__, default=None)
        if near is None or apart[near] > book[near][2] + epsilon:
            book.append([x, y, epsilon, label, number])
        elif book[near][3] == label:
            book[near][2] = max(book[near][2], apart[near] * 1.001)
        elif apart[near] == 0:
            book[near][2:] = [min(book[near][2], epsilon), label, number]
        else:
            book[near][2] = min(book[near][2], apart[near] / 2)
            book.append([x, y, apart[near] / 2, label, number])
    return book


@SOME
@given(edits=st.lists(EDIT, min_size=1, max_size=12), epsilon=st.sampled_from([0.3, 1.0, 2.6]))
def test_the_codebook_is_that_of_the_plain_algorithm(
    edits: list[tuple[float, float, int]], epsilon: float
) -> None:
    found = Codebook.of(entries(edits), epsilon_init=epsilon)
    expected = plain(edits, epsilon)
    assert found.entries.keys.tolist() == [one[:2] for one in expected]
    assert found.entries.values[:, 0].tolist() == [one[4] for one in expected]
    assert [label for (label,) in found.entries.labels] == [one[3] for one in expected]
    torch.testing.assert_close(
        found.radii, torch.tensor([one[2] for one in expected], dtype=torch.float64)
    )


@SOME
@given(
    edits=st.lists(EDIT, min_size=2, max_size=12), cut=st.integers(1, 11),
    epsilon=st.sampled_from([0.3, 1.0, 2.6]),
)  # fmt: skip
def test_edits_are_added_in_their_order_however_they_come(
    edits: list[tuple[float, float, int]], cut: int, epsilon: float
) -> None:
    at_once = Codebook.of(entries(edits), epsilon_init=epsilon)
    cut = min(cut, len(edits) - 1)
    every = entries(edits)
    first, then = every.select(range(cut)), every.select(range(cut, len(edits)))
    earlier = Codebook.of(first, epsilon_init=epsilon)
    kept = earlier.radii.clone(), earlier.entries.values.clone()
    in_two = Codebook.of(then, epsilon_init=epsilon, earlier=earlier)
    assert torch.equal(in_two.radii, at_once.radii)
    assert torch.equal(in_two.entries.values, at_once.entries.values)
    assert in_two.entries.labels == at_once.entries.labels
    assert torch.equal(earlier.radii, kept[0]), "an earlier codebook stays as it was"
    assert torch.equal(earlier.entries.values, kept[1])


@SOME
@given(edits=st.lists(EDIT, min_size=1, max_size=12), epsilon=st.sampled_from([0.3, 1.0, 2.6]))
def test_radii_are_positive_and_a_split_leaves_no_overlap(
    edits: list[tuple[float, float, int]], epsilon: float
) -> None:
    book: Codebook | None = None
    every = entries(edits)
    for number in range(len(edits)):
        before = book
        book = Codebook.of(every.select([number]), epsilon_init=epsilon, earlier=before)
        assert bool((book.radii > 0).all())
        if before is None or len(book) == len(before):
            continue
        apart = (before.entries.keys - every.keys[number]).norm(dim=1)
        near = int(apart.argmin())
        if before.entries.labels[near] != every.labels[number]:
            assert float(book.radii[near] + book.radii[-1]) <= float(apart[near]) + 1e-12
            assert float(book.radii[near]) <= float(before.radii[near])


@SOME
@given(edits=st.lists(EDIT, min_size=1, max_size=12), epsilon=st.sampled_from([0.3, 1.0, 2.6]))
def test_the_newest_edit_is_answered_with_its_own_label(
    edits: list[tuple[float, float, int]], epsilon: float
) -> None:
    every = entries(edits)
    book = Codebook.of(every, epsilon_init=epsilon)
    (entry,) = book.lookup(every.keys[-1:]).tolist()
    assert entry >= 0
    assert book.entries.labels[entry] == every.labels[-1]
