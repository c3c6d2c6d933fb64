"""What a text edit loses on its way to the pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics.bootstrap import paired_difference, unpaired_difference
from reporting.figures import gap_bars
from reporting.formats import APART
from reporting.naming import entries
from reporting.transitivity import gap_caption, gap_table, transitivity_gaps
from results.folder import RunResult
from tests.result_folders import make_run, make_scored

N = 30


def pair(
    root: Path, editor: str, lost: int, shift: int = 0, **changes: object
) -> tuple[RunResult, RunResult]:
    """An editor that is right in text and misses the first `lost` records about pictures."""
    text: Sequence[float] = [1.0] * N
    pictures = [0.0] * lost + [1.0] * (N - lost)
    return (
        make_scored(
            root / f"{editor}_text", editor, "unimodal",
            {"reliability/token_accuracy": text, "generality/token_accuracy": text},
        ),
        make_scored(
            root / f"{editor}_pictures", editor, "transitive",
            {
                "reliability_s/token_accuracy": pictures,
                "reliability_u/token_accuracy": [0.0] * N,
                "generality_s/token_accuracy": pictures[::-1],
            },
            first_edit=shift, **changes,
        ),
    )  # fmt: skip


def test_gaps_are_paired_where_both_have_the_same_records(tmp_path: Path) -> None:
    runs = [*pair(tmp_path, "mend", 12), *pair(tmp_path, "ft", 0)]
    gaps = transitivity_gaps(entries(runs[::-1]))
    assert [(gap.editor, gap.metric, gap.is_paired) for gap in gaps] == [
        ("ft", "Reliability", True),
        ("ft", "Generality", True),
        ("mend", "Reliability", True),
        ("mend", "Generality", True),
    ]
    scores = np.array([1.0] * N), np.array([0.0] * 12 + [1.0] * (N - 12))
    assert gaps[2].value == paired_difference(100 * scores[0], 100 * scores[1])
    assert (gaps[2].value.mean, gaps[0].value.mean) == (pytest.approx(40), 0)
    assert "paired by record." in gap_caption(gaps)


def test_gaps_over_different_records_are_not_paired(tmp_path: Path) -> None:
    gaps = transitivity_gaps(
        entries([*pair(tmp_path, "mend", 12, shift=5), *pair(tmp_path, "ft", 3)])
    )
    assert [gap.is_paired for gap in gaps] == [True, True, False, False]
    pictures = [0.0] * 12 + [100.0] * (N - 12)
    assert gaps[2].value == unpaired_difference([100.0] * N, pictures)
    assert "not those of MEND on llava_tiny" in gap_caption(gaps)
    assert "the intervals are not paired" in gap_caption(gaps[2:])


def test_editors_that_do_not_compare_have_no_gap(tmp_path: Path) -> None:
    (text, _), (_, pictures) = pair(tmp_path, "ft", 3), pair(tmp_path, "ike", 3)
    bare = make_run(tmp_path / "bare", "rome"), make_run(tmp_path / "b", "rome", "transitive")
    odd = pair(tmp_path, "mend", 3, model_digest="m1")
    assert transitivity_gaps(entries([text, pictures, *bare, *odd])) == []
    assert gap_table([]) is None


def test_the_table_and_the_figure_of_gaps(tmp_path: Path) -> None:
    runs = [*pair(tmp_path, "mend", 12), *pair(tmp_path, "ft", 0)]
    gaps = transitivity_gaps(entries(runs))
    table = gap_table(gaps)
    assert table is not None
    assert [(*row.heads, row.n) for row in table.rows] == [
        ("llava_tiny", "FT", str(N)),
        ("llava_tiny", "MEND", str(N)),
    ]
    first, second = (row.cells[0] for row in table.rows)
    assert (first.text, first.interval, first.mark) == ("+0.0", "[0.0, 0.0]", "")
    assert (second.text, second.mark) == ("+40.0", APART)
    files = gap_bars(gaps, tmp_path / "gap")
    assert [path.suffix for path in files] == [".png", ".pdf"]
    assert all(path.stat().st_size > 3000 for path in files)
