"""Whether few targets stand behind an evaluation."""

import pytest

from metrics.concentration import Concentration


def of(*counts: int) -> Concentration:
    found = Concentration.of({f"t{number}": count for number, count in enumerate(counts)})
    assert found is not None
    return found


def test_the_effective_number_counts_equally_frequent_targets() -> None:
    assert of(5, 5, 5, 5).effective == 4
    assert of(20).effective == 1
    assert of(3, 1).effective == pytest.approx(1.6)
    assert Concentration.of({}) is None


@pytest.mark.parametrize(
    ("counts", "is_high"),
    [
        ([1] * 60, False),
        ([4] + [1] * 36, False),  # 10 % is not more than 10 %
        ([4] + [1] * 35, True),
        ([3, 1, 1], False),  # a share of three edits means nothing
        ([4] * 15, False),  # a quarter
        ([5] * 12, True),  # fewer, though none of them is above 10 %
        ([173, 62] + [2] * 350, True),
    ],
)
def test_few_targets_are_one_that_dominates_or_few_in_effect(
    counts: list[int], is_high: bool
) -> None:
    found = of(*counts)
    assert found.is_high is is_high
    assert bool(found.warning("record")) is is_high


def test_the_warning_says_what_to_do_unless_it_is_done() -> None:
    found = of(10, *[1] * 50)
    assert found.warning("subject") == (
        "Few targets: 60 edits teach 51 targets, as if 24.0 were equally frequent; the largest, "
        "'t0', 10 (17 %). Intervals over subjects are too narrow then: metrics.cluster=target "
        "draws all edits of one target together."
    )
    assert found.warning("target").endswith("'t0', 10 (17 %).")


def test_it_is_read_as_it_was_written() -> None:
    found = of(3, 1)
    assert Concentration.read(found.as_dict()) == found
    for broken in (None, 3, {}, found.as_dict() | {"largest": 4}):
        assert Concentration.read(broken) is None
