"""A small training killed at each of its moments, one after the other, in this very process.

A seventh of them is part of `make test` (tests/unit/lightning_modules/test_checkpoints.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broken_trainings import CASES, killed_and_continued

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_moment(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    killed_and_continued(case, tmp_path, slice(None))
