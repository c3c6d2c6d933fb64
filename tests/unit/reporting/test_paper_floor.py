"""Which of the paper's own figures can be told from an answer that everybody gets."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import report
from reporting.formats import NOT_SPECIFIC, to_markdown
from reporting.paper import paper_tables
from reporting.paper_floor import paper_floor_tables, paper_floors
from tests.result_folders import make_run

# What an entity is answered: its own answer, the edit's new one, or anything else.
ANSWERS = st.lists(st.sampled_from(["own", "new", "other"]), min_size=1, max_size=30)


@given(ANSWERS)
def test_whole_answers_cannot_leak_more_than_stability_leaves(answers: list[str]) -> None:
    stability, leak = (100 * answers.count(what) / len(answers) for what in ("own", "new"))
    assert leak <= 100 - stability + 1e-9


def test_token_accuracy_can() -> None:
    """'Jules Verne' of 'Jules Vallès' has half its tokens right as either."""
    answered, own, new = ["Jules", "Verne"], ["Jules", "Vallès"], ["Jules", "Verne"]
    stability, leak = (
        100 * sum(a == b for a, b in zip(answered, target, strict=True)) / 2
        for target in (own, new)
    )
    assert leak > 100 - stability


def test_so_can_another_entity_whose_own_answer_is_the_new_one() -> None:
    """Everybody is told the new answer, which is right about every second one of the others."""
    own, new = ["baker", "pilot"], "pilot"
    stability = 100 * own.count(new) / len(own)
    leak = 100.0
    assert leak > 100 - stability


def test_every_row_with_pictures_is_judged() -> None:
    for scenario, editors in (("transitive", 5), ("multimodal", 4)):
        floors = paper_floors(scenario)
        assert len(floors) == 3 * editors
        for floor in floors:
            figures = dict(
                zip(
                    paper_tables()[scenario]["columns"],
                    paper_tables()[scenario]["rows"][floor.model][floor.editor],
                    strict=True,
                )
            )
            assert floor.most_leak == pytest.approx(100 - figures["Stability"])
            for name, number in floor.figures.items():
                assert figures[name] == number
                assert floor.above(name) == pytest.approx(number + figures["Stability"] - 100)


def test_verdicts_of_known_rows() -> None:
    told = {(f.model, f.editor): f.is_told for f in paper_floors("transitive")}
    assert [editor for (model, editor), yes in told.items() if model == "LLaVA-1.5" and yes] == [
        "FT", "IKE", "MEND",
    ]  # fmt: skip
    assert not told["LLaVA-1.5", "ROME"]
    (rome,) = (f for f in paper_floors("transitive") if f.recorded is not None)
    assert (rome.model, rome.editor) == ("LLaVA-1.5", "ROME")
    assert rome.above("Reliability_S") == -11.5
    # A row whose bound were cleared is not told either where its records say otherwise.
    assert rome.recorded is not None
    assert not any(
        f.above(name, of_one_type=True) > 0
        for scenario in ("transitive", "multimodal")
        for f in paper_floors(scenario)
        for name in f.figures
    )


def test_words_do_not_overclaim() -> None:
    transitive, multimodal = map(to_markdown, paper_floor_tables())
    assert (
        f"| LLaVA-1.5 | ROME |  | 42.1 | 30.6 {NOT_SPECIFIC} | 30.7 {NOT_SPECIFIC} |" in transitive
    )
    assert "| LLaVA-1.5 | FT |  | 69.3 | 99.3 | 99.2 | 99.2 | 99.1 | +29.8 |" in transitive
    for text in (transitive, multimodal):
        assert "do not rule out that everybody gets the new answer. They do not show it" in text
        assert "no other entity's own answer is the new one" in text
        assert "the leak can exceed this bound, and these rows are not shown to be above" in text
        assert re.search(r"twice as high, and 0 of 1[25] rows are above that", text)
        assert "cannot be told of any row" in text
    assert "+0.4 \\[-0.3, +1.0\\] points above the same type" in transitive
    assert "ROME" not in multimodal


def test_the_check_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "run", "ft", "transitive")
    assert report.main(["--check", str(tmp_path / "run")]) == 1
    shown = capsys.readouterr().out
    assert "The paper's Table 2 (transitive) against the answer that everybody gets" in shown
    assert "The paper's Table 3 (multimodal)" in shown
    assert "no paper row for ft on llava_tiny" in shown
