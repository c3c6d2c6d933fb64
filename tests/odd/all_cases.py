"""Every case by kind and name."""

from __future__ import annotations

from tests.odd.cases import picture_cases, record_cases
from tests.odd.harness import Case
from tests.odd.options import option_cases
from tests.odd.paths import path_cases
from tests.odd.places import place_cases
from tests.odd.reports import report_cases
from tests.odd.worlds import world_cases


def all_cases() -> dict[str, dict[str, Case]]:
    """Kind -> name -> case."""
    kinds = {
        "records": [*record_cases(), *world_cases()],
        "pictures": picture_cases(),
        "paths": path_cases(),
        "places": [*place_cases(), *report_cases()],
        "options": option_cases(),
    }
    by_name = {kind: {case.name: case for case in cases} for kind, cases in kinds.items()}
    assert {k: len(cases) for k, cases in kinds.items()} == {k: len(d) for k, d in by_name.items()}
    return by_name
