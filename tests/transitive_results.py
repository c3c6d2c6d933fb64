"""Planted results of edits made in text and asked about pictures, for the tests of their page."""

from collections.abc import Sequence
from pathlib import Path

from results.folder import RunResult
from tests.result_folders import make_scored

N = 20
ACCURACY, EXACT = "token_accuracy", "exact_match"


def right(number: int) -> Sequence[float | None]:
    """Scores of so many right answers, the first ones."""
    return [1.0] * number + [0.0] * (N - number)


def asked(probe: str, after: int, before: int = 0) -> dict[str, Sequence[float | None]]:
    """A probe that is answered right so often after the edit, and before it."""
    shares = {"": right(after), "_before": right(before)}
    return {
        f"{probe}/{measure}{when}": of_probe
        for measure in (ACCURACY, EXACT)
        for when, of_probe in shares.items()
    }


def make_text(
    folder: Path,
    editor: str,
    given: int = 20,
    leaked: int = 4,
    before: int = 0,
    leaked_before: int = 0,
    **changes: object,
) -> RunResult:
    """An edit asked in text."""
    scores = asked("reliability", given, before) | asked("leak_same", leaked, leaked_before)
    return make_scored(folder, editor, "unimodal", scores, **changes)


def make_pictures(
    folder: Path,
    editor: str,
    given: int = 10,
    leaked: int = 2,
    *,
    before: int = 2,
    leaked_before: int = 0,
    kept: int = N,
    scenario: str = "transitive",
    in_text: int | None = None,
    by_name: int | None = None,
    by_name_before: int | None = None,
    named: int = 15,
    **changes: object,
) -> RunResult:
    """An edit asked about both pictures of its subject.

    Args:
        folder: of the run.
        editor: label of the editor.
        given: right answers about each picture.
        leaked: how often the new answer is given about another subject of the type.
        before: right answers of the unedited model.
        leaked_before: how often that gives the new answer about another subject of the type.
        kept: answers about locality that stay.
        scenario: of the run.
        in_text: right answers in text, of a scenario that asks both ways.
        by_name: right answers where the unedited model has named the picture.
        by_name_before: those of the unedited model then; None: it was not asked.
        named: pictures that the unedited model names.
        changes: other fields of the summary.
    """
    scores = asked("leak_same", leaked, leaked_before)
    for probe in ("reliability_s", "reliability_u"):
        scores |= asked(probe, given, before)
        scores[f"{probe}/named_before"] = right(named)
    scores["locality_i_far/token_agreement"] = right(kept)
    scores |= asked("stability_same", N)
    if in_text is not None:
        scores |= asked("reliability_t", in_text) | asked("leak_same_t", leaked)
    if by_name is not None:
        scores |= {f"reliability_s_chain/{ACCURACY}": right(by_name)}
        scores |= {f"leak_same_chain/{ACCURACY}": right(leaked)}
        if by_name_before is not None:
            scores |= {f"reliability_s_chain/{ACCURACY}_before": right(by_name_before)}
            scores |= {f"leak_same_chain/{ACCURACY}_before": right(0)}
        scores |= {"locality_i_far_chain/token_agreement": right(kept - 2)}
    return make_scored(folder, editor, scenario, scores, **changes)
