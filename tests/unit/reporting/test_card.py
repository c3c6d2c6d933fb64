"""The results of a model card: a table per scenario and protocol, and the numbers in it."""

from pathlib import Path

import pytest

from errors import DataError
from reporting.card import card_tables, headline_numbers
from tests.result_folders import make_run

CURVE = {"1": {"Reliability_S": {"mean": 9.0, "ci95": [8.0, 10.0], "n": 10}}}


def test_each_scenario_has_its_table(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, scenario=name, means={"Reliability_S": 71.25})
        for name in ("transitive", "unimodal")
    ]
    protocol = {"name": "sequential", "n": [1]}
    runs.append(make_run(tmp_path / "s", scenario="transitive", protocol=protocol, curve=CURVE))
    protocol = {"name": "batch", "n": [1]}
    runs.append(make_run(tmp_path / "b", scenario="transitive", protocol=protocol, curve=CURVE))
    tables = card_tables(runs).split("### ")[1:]
    assert [table.split(",")[0] for table in tables] == [
        "Unimodal scenario", "Transitive scenario", "Edits in sequence: Transitive scenario",
        "Edits in one batch: Transitive scenario",
    ]  # fmt: skip
    assert "| llava_tiny | MEND | 10 | 71.2" in tables[1]
    numbers = dict(headline_numbers(runs[0]))
    assert numbers["Reliability_S"] == 71.25
    assert "Leak" not in numbers, "the paper's table has it not"


def test_one_run_twice_is_no_table(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(DataError):
        card_tables(runs)
