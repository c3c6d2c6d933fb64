"""A few odd inputs of every kind through the real commands, quick enough for every run of tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.odd.all_cases import all_cases
from tests.odd.harness import Case, faults

pytestmark = pytest.mark.e2e

CASES = {
    "records": (
        "byte order mark", "JSON lines by name", "comma before ]", "5000 digits",
        "100,000 deep", "a key twice", "the same record twice", "entities.json: an entity twice",
    ),
    "pictures": (
        "orientation_6", "colour_key", "rubbish_behind_boxes", "unknown_pixels",
        "bomb_in_its_header", "closed",
    ),
    "paths": (
        "data.root b'a=b'", "output_dir b'2026_11_24'", "output_dir b'[/]' in quotes",
        "picture: composed, decomposed on disk", "picture: a zero",
    ),
    "places": (
        "data.root may not be entered", "output_dir is closed", "output_dir is read-only",
        "... by a link", "a run called b'~'", "a run with a summary that is too deep",
    ),
    "options": (
        "evaluate: editor.norm_constraint=inf", "python -m models check model=gpt4",
    ),
}  # fmt: skip
"""Kinds, and names of their cases; most of these inputs were traceback or silence once."""


def _chosen() -> list[Case]:
    return [by_name[name] for kind, by_name in all_cases().items() for name in CASES[kind]]


@pytest.mark.parametrize("case", _chosen(), ids=str)
def test_an_odd_input(case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
    assert not "\n".join(faults(case, tmp_path, clean))
