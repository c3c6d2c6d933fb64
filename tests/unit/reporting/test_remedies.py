"""What closes the gap, and its price, on planted results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from metrics.bootstrap import Estimate
from reporting.naming import entries
from reporting.remedies import (
    GAIN_BY_NAME,
    JOINT,
    NAME_FIRST,
    OBJECTIVE,
    Remedied,
    Shown,
    remedied,
    remedy_table,
)
from results.folder import RunResult
from tests.transitive_results import N, make_pictures, make_text

TEXT = {"editor_options": {"name": "mend", "questions": "text"}}
TRANSITIVE = {"editor_options": {"name": "mend", "questions": "transitive"}}


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """MEND trained both ways, and one edit of both questions; the unedited model is asked too."""
    return [
        make_text(tmp_path / "text", "mend", **TEXT),
        make_pictures(tmp_path / "pictures", "mend", by_name=14, **TEXT),
        make_pictures(tmp_path / "both", "mend", 18, 4, scenario="joint", in_text=17, **TEXT),
        make_text(tmp_path / "trained-text", "mend", 19, **TRANSITIVE),
        make_pictures(tmp_path / "trained", "mend", 16, 2, kept=15, **TRANSITIVE),
        make_pictures(tmp_path / "none", "none", 2, 0, by_name=2),
        make_pictures(tmp_path / "none-both", "none", 2, 0, scenario="joint", in_text=0),
    ]


def means(changes: Mapping[Shown, Estimate]) -> dict[str, float]:
    return {shown.title: change.mean for shown, change in changes.items()}


def found(runs: list[RunResult]) -> dict[str, Remedied]:
    return {one.entry.name: one for one in remedied(entries(runs))}


def test_changes_are_paired_with_the_row_as_it_is(runs: list[RunResult]) -> None:
    mend = found(runs)["MEND (questions=text)"]
    assert means(mend.changes[NAME_FIRST]) == {
        "Reliability_S": 20, "Specificity_S": 20, "Locality_I": pytest.approx(-10),
    }  # fmt: skip
    changed = means(mend.changes[OBJECTIVE])
    assert (changed["Reliability_S"], changed["Specificity_S"]) == (30, 30)
    assert (changed["Reliability, in text"], changed["Locality_I"]) == (-5, -25)
    joint = means(mend.changes[JOINT])
    assert (joint["Reliability_S"], joint["Specificity_S"]) == (40, 30)
    assert joint["Reliability, in text"] == -15
    # The same records are right before and after, so nothing but the six others varies.
    change = next(iter(mend.changes[OBJECTIVE].values()))
    assert change.n == N
    assert 10 <= change.low < 30 < change.high <= 55


def test_the_unedited_model_is_asked_by_a_name_alone(runs: list[RunResult]) -> None:
    rows = found(runs)
    assert list(rows) == ["Unedited", "MEND (questions=text)"]
    assert list(rows["Unedited"].changes) == [NAME_FIRST]


def test_name_first_is_held_against_the_unedited_model_that_is_asked_so(tmp_path: Path) -> None:
    runs = [
        make_pictures(tmp_path / "mend", "mend", by_name=14, by_name_before=4, **TEXT),
        make_pictures(tmp_path / "none", "none", 2, 0, by_name=2, by_name_before=2),
    ]
    rows = found(runs)
    assert rows["Unedited"].by_name == {}
    assert means(rows["MEND"].by_name) == {
        "Reliability_S": 50, "Specificity_S": pytest.approx(40),
    }  # fmt: skip
    gain = next(iter(rows["MEND"].by_name.values()))
    assert gain.n == N
    assert 25 <= gain.low < 50 < gain.high <= 75
    table = remedy_table(list(rows.values()))
    assert table is not None
    lines = {row.heads[1:]: row.cells for row in table.rows}
    assert ("Unedited", GAIN_BY_NAME) not in lines
    told = [cell.text for cell in lines["MEND", GAIN_BY_NAME]]
    assert told == ["+50.0", "+40.0", *["-"] * 6], "localities compare with it already"
    assert lines["MEND", NAME_FIRST][0].text == "+20.0"
    without = found([make_pictures(tmp_path / "old", "mend", by_name=14, **TEXT)])
    assert without["MEND"].by_name == {}, "the results do not say"


def test_a_locality_that_falls_is_seen_in_the_table(runs: list[RunResult]) -> None:
    table = remedy_table(list(found(runs).values()))
    assert table is not None
    lines = {row.heads[1:]: row.cells for row in table.rows}
    assert list(lines) == [
        ("Unedited", "as it is"), ("Unedited", NAME_FIRST),
        *(("MEND (questions=text)", what) for what in ("as it is", NAME_FIRST, OBJECTIVE, JOINT)),
    ]  # fmt: skip
    place = [column.name for column in table.columns].index("Locality_I")
    as_it_is = lines["MEND (questions=text)", "as it is"]
    assert (as_it_is[0].text, as_it_is[1].text, as_it_is[place].text) == ("50.0", "+40.0", "100.0")
    price = lines["MEND (questions=text)", OBJECTIVE][place]
    assert (price.text, price.mark) == ("-25.0", "apart")


def test_what_was_judged_otherwise_is_no_remedy(tmp_path: Path) -> None:
    runs = [
        make_pictures(tmp_path / "a", "mend", **TEXT),
        make_pictures(tmp_path / "b", "mend", scenario="joint", prompt="other", **TEXT),
    ]
    assert remedied(entries(runs)) == []
    assert remedy_table([]) is None
