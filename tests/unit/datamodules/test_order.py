"""The order of edits: every process its share, nothing twice, and a continued epoch goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datamodules import order as module
from datamodules.order import EditLoader, EditOrder


def batches_of_processes(
    world: int,
    n: int,
    size: int,
    seed: int | None,
    done: Collection[int] = (),
    tokens: Sequence[int] | None = None,
    *,
    whole: bool = False,
) -> list[list[list[int]]]:
    """The batches of each process."""
    by_process = []
    for rank in range(world):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "rank_and_world", lambda rank=rank: (rank, world))
            order = EditOrder(n, size, seed, leave_out=done, tokens=tokens, whole=whole)
            batches = list(order)
            assert len(batches) == len(order)
            by_process.append(batches)
    return by_process


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 7))
def test_evaluation_serves_every_edit_exactly_once(world: int, n: int, size: int) -> None:
    served = batches_of_processes(world, n, size, None)
    assert all(served), "a process without batches would leave the others waiting"
    flat = sorted(edit for batches in served for batch in batches for edit in batch)
    if n < world:  # every process has them all, so that means stay what they are
        assert flat == sorted(list(range(n)) * world)
    else:
        assert flat == list(range(n))
    assert all(len(batch) <= size for batches in served for batch in batches)


@given(
    st.integers(1, 4), st.integers(1, 40), st.integers(1, 7), st.sets(st.integers(0, 39)),
)  # fmt: skip
def test_what_is_left_out_goes_as_whole_batches(
    world: int, n: int, size: int, done: set[int]
) -> None:
    unbroken = batches_of_processes(world, n, size, None)
    served = batches_of_processes(world, n, size, None, done)
    assert all(served), "a process without batches would leave the others waiting"
    every = {tuple(batch) for batches in unbroken for batch in batches}
    again = {tuple(batch) for batches in served for batch in batches}
    needed = {batch for batch in every if not done >= set(batch)}
    assert needed <= again <= every
    assert len(again - needed) <= 1, "one batch more, for processes that would have none"


@given(
    st.integers(1, 8), st.lists(st.integers(1, 4000), min_size=1, max_size=120),
    st.integers(1, 16), st.booleans(),
)  # fmt: skip
def test_processes_read_about_as_many_tokens(
    world: int, tokens: list[int], size: int, continued: bool
) -> None:
    assume(len(tokens) >= world)
    done = set(range(0, len(tokens), 2)) if continued else set()
    served = batches_of_processes(world, len(tokens), size, None, done, tokens)
    loads = [sum(tokens[edit] for batch in batches for edit in batch) for batches in served]
    batches = [sum(tokens[edit] for edit in batch) for batches in served for batch in batches]
    assert max(loads) - min(loads) <= (max(batches) if continued else max(tokens))


def test_edits_of_unlike_length_are_shared_by_their_tokens() -> None:
    """Texts in one half of a data set, pictures in the other: by rows a process had them all."""
    tokens = [100, 3000] * 8
    served = batches_of_processes(2, 16, 1, None, (), tokens)
    loads = [sum(tokens[edit] for batch in batches for edit in batch) for batches in served]
    assert loads == [12400, 12400]


@given(
    st.integers(1, 4), st.lists(st.integers(1, 4000), min_size=8, max_size=60), st.integers(1, 2),
)  # fmt: skip
def test_processes_of_a_validation_take_the_batches_of_one(
    world: int, tokens: list[int], size: int
) -> None:
    """A batch's loss is made of means over its rows, so it has to be the same batch."""
    (alone,) = batches_of_processes(1, len(tokens), size, None, (), tokens, whole=True)
    served = batches_of_processes(world, len(tokens), size, None, (), tokens, whole=True)
    assert sorted(batch for batches in served for batch in batches) == alone
    loads = [sum(tokens[edit] for batch in batches for edit in batch) for batches in served]
    assert max(loads) - min(loads) <= max(sum(tokens[edit] for edit in batch) for batch in alone)


def test_one_process_takes_full_batches_in_order() -> None:
    assert list(EditOrder(5, 2, tokens=[9, 1, 7, 1, 5])) == [[0, 1], [2, 3], [4]]


@given(st.integers(2, 4), st.integers(1, 5), st.integers(0, 50))
def test_processes_together_take_what_one_would(world: int, size: int, seed: int) -> None:
    n = 60
    (alone,) = batches_of_processes(1, n, size * world, seed)
    together = batches_of_processes(world, n, size, seed)
    joined = [[edit for batch in step for edit in batch] for step in zip(*together, strict=True)]
    assert joined == alone


def test_a_split_smaller_than_a_batch_is_taken_round() -> None:
    assert [len(batch) for batch in EditOrder(3, 8, seed=0)] == [8]


@given(st.integers(2, 5), st.integers(1, 60))
def test_an_epoch_ends_with_a_whole_optimiser_step(accumulate: int, n: int) -> None:
    batches = list(EditOrder(n, 2, seed=0, accumulate=accumulate))
    assert len(batches) % accumulate == 0
    assert len(batches) >= accumulate


def loader(seed: int) -> EditLoader:
    return EditLoader(range(10), EditOrder(10, 3, seed), list)  # type: ignore[arg-type]


def test_every_epoch_is_shuffled_anew_and_by_the_seed_alone() -> None:
    one, two = loader(1), loader(1)
    epochs = [list(one) for _ in range(3)]
    assert epochs == [list(two) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != list(loader(2))


@pytest.mark.parametrize("served", range(8))
def test_a_loader_goes_on_where_its_state_was_taken(served: int) -> None:
    def first(source: EditLoader, count: int) -> list[list[int]]:
        batches: list[list[int]] = []
        while len(batches) < count:
            for batch in source:
                batches.append(batch)  # type: ignore[arg-type]
                if len(batches) == count:
                    break
        return batches

    unbroken = first(loader(5), 9)
    stopped = loader(5)
    begun = first(stopped, served)
    going_on = loader(5)
    going_on.load_state_dict(stopped.state_dict())
    assert begun + first(going_on, 9 - served) == unbroken


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_a_few_batches_are_served_in_every_epoch(
    world: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[list[list[int]]] = []
    for rank in range(world):
        monkeypatch.setattr(module, "rank_and_world", lambda rank=rank: (rank, world))
        order = EditOrder(40, 3, 5, accumulate, overfit=2)
        epochs = []
        for order.epoch in range(3):
            epochs.append(list(order))
        assert epochs[0] == epochs[1] == epochs[2]
        assert len(epochs[0]) == len(order) == max(2, accumulate)
        served.append(epochs[0])
    trained = {edit for batches in served for batch in batches for edit in batch}
    assert trained == set(order.taken(world))
    assert len(trained) == 2 * 3 * world
    usual = EditOrder(40, 3, 5, accumulate)
    assert order.taken(world) == usual.taken(world)[: 6 * world]
