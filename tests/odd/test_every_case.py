"""Every odd input through the real commands: `make test-odd`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.odd.all_cases import all_cases
from tests.odd.harness import Case, faults

pytestmark = [pytest.mark.odd, pytest.mark.e2e]
CASES = {kind: list(by_name.values()) for kind, by_name in all_cases().items()}


def _found(case: Case, folder: Path, clean: Mapping[str, Path]) -> str:
    return "\n".join(faults(case, folder, clean))


# A class each, so that several processes share them.


class TestRecords:
    @pytest.mark.parametrize("case", CASES["records"], ids=str)
    def test_records(self, case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
        assert not _found(case, tmp_path, clean)


class TestPictures:
    @pytest.mark.parametrize("case", CASES["pictures"], ids=str)
    def test_a_picture(self, case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
        assert not _found(case, tmp_path, clean)


class TestPaths:
    @pytest.mark.parametrize("case", CASES["paths"], ids=str)
    def test_a_path(self, case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
        assert not _found(case, tmp_path, clean)


class TestPlaces:
    @pytest.mark.parametrize("case", CASES["places"], ids=str)
    def test_a_place(self, case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
        assert not _found(case, tmp_path, clean)


class TestOptions:
    @pytest.mark.parametrize("case", CASES["options"], ids=str)
    def test_an_option(self, case: Case, tmp_path: Path, clean: Mapping[str, Path]) -> None:
        assert not _found(case, tmp_path, clean)
