"""What W&B is shown of an evaluation: which edits, which columns, which numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loggers.wandb_results import choose_edits, curve_points, edit_table, send_result
from reporting.gallery import sample_edits
from tests.result_folders import edit_row


def rows_of(scores: dict[int, float]) -> list[dict[str, Any]]:
    """Edits with these scores in Reliability, and the opposite in Portability, which is ignored."""
    return [
        edit_row(edit_id=edit, probe=probe, value=value)
        for edit, score in scores.items()
        for probe, value in (("reliability_s", score), ("portability", 1 - score))
    ]


def test_all_editors_show_the_same_edits_and_the_report_too() -> None:
    good, bad = (
        rows_of(dict.fromkeys(range(100), 1.0)),
        rows_of({e: e / 99 for e in range(100)}),
    )
    chosen = choose_edits(good, 10, seed=3)
    assert sorted(chosen) == sorted(choose_edits(bad, 10, seed=3))
    assert sorted(chosen) == sorted(sample_edits(range(100), 3, 10))
    assert sorted(chosen) != sorted(choose_edits(good, 10, seed=4))


def test_the_worst_edit_comes_first() -> None:
    rows = rows_of({0: 1.0, 1: 0.25, 2: 0.5, 3: 0.25, 4: float("nan")})
    assert choose_edits(rows, 50, seed=0) == [1, 3, 2, 0, 4]
    rows += [edit_row(edit_id=0, probe="generality_s", value=0.0, metric="token_accuracy")]
    rows += [edit_row(edit_id=2, probe="generality_s", value=0.0, metric="exact_match")]
    assert choose_edits(rows, 50, seed=0) == [1, 3, 0, 2, 4]


def test_a_line_per_edit_and_probe_with_all_its_scores() -> None:
    rows = [
        edit_row(edit_id=7, probe="locality_i", metric="token_agreement", value=1.0),
        edit_row(edit_id=7, value=0.5),
        edit_row(edit_id=7, metric="exact_match", value=float("nan")),
        edit_row(edit_id=2, value=0.25),
        edit_row(edit_id=5, value=0.0),
    ]
    probes = [
        {"edit_id": 7, "probe": "locality_i", "question": "what?", "image": "a.png", "hops": None},
        {"edit_id": 7, "probe": "reliability", "question": "who?", "image": None, "hops": None},
    ]
    columns, lines = edit_table([7, 2], rows, probes, picture=lambda name: f"<{name}>")
    shown = [dict(zip(columns, line, strict=True)) for line in lines]
    assert columns == [
        "edit_id", "subject", "probe", "question", "picture", "target", "before", "after",
        "token_agreement", "token_accuracy", "exact_match",
    ]  # fmt: skip
    assert [(one["edit_id"], one["probe"]) for one in shown] == [
        (7, "locality_i"), (7, "reliability"), (2, "reliability"),
    ]  # fmt: skip
    assert [one["picture"] for one in shown] == ["<a.png>", None, None]
    assert [one["question"] for one in shown] == ["what?", "who?", None]
    assert [one["token_agreement"] for one in shown] == [1.0, None, None]
    assert [one["token_accuracy"] for one in shown] == [None, 0.5, 0.25]
    assert [one["exact_match"] for one in shown] == [None, None, None]
    assert (shown[1]["target"], shown[1]["before"], shown[1]["after"]) == (" b", " a", " b")


def test_generated_answers_stand_beside_the_likeliest_tokens() -> None:
    free = edit_row(metric="generation_match", value=1.0, pre_text=None, post_text="Łódź, I think")
    columns, (line,) = edit_table([3], [free, edit_row()], [], picture=str)
    shown = dict(zip(columns, line, strict=True))
    assert (shown["generated"], shown["generation_match"]) == ("Łódź, I think", 1.0)
    assert (shown["before"], shown["after"], shown["token_accuracy"]) == (" a", " b", 0.5)


def test_nothing_is_drawn_where_wandb_is_off() -> None:
    def draw(base: Path) -> list[Path]:
        pytest.fail(f"drew {base}")

    send_result([], {}, [edit_row()], [], table_edits=5, draw=draw)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [({"name": "batch", "n": [1]}, "batch"), ({"name": "sequential"}, "sequential"),
     (None, "sequential")],
)  # fmt: skip
def test_points_of_a_curve_are_named_by_their_protocol(protocol: object, name: str) -> None:
    mean, none = ({"mean": value, "ci95": [value, value], "n": 3} for value in (40.0, None))
    summary = {"protocol": protocol, "curve": {"10": {"Reliability": mean, "Portability": none}}}
    assert curve_points(summary) == [{f"{name}/Reliability": 40.0, "edits_in_place": 10}]
    assert curve_points({"protocol": {"name": "single"}}) == []
