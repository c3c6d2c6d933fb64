"""The failure gallery: which edits it shows, and what it shows of them."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errors import DataError
from reporting.gallery import RANDOM, WORST, Case, read_gallery, sample_edits
from reporting.naming import entries
from reporting.thumbnails import SIDE, Thumbnails
from results.files import EDITS, PROBES
from results.folder import PROBE_SCHEMA, RunResult
from results.writing import write_rows
from tests.result_folders import (
    draw_pictures,
    edit_row,
    make_answered,
    make_run,
    probe_row,
    write_edits,
)

GOOD = {"reliability": 1.0, "generality": 1.0, "locality_far": 1.0, "stability_same": 1.0}


def cases(run: RunResult, number: int = 6) -> tuple[Case, ...]:
    (group,) = read_gallery(entries([run]), number).groups
    return group.cases


def worst(run: RunResult, number: int = 6) -> list[int]:
    return [case.edit_id for case in cases(run, number) if WORST in case.picked]


def test_worst_is_a_failed_edit_then_what_it_broke_then_its_number(tmp_path: Path) -> None:
    scores = {
        1: GOOD,
        2: GOOD | {"locality_far": 0.0},
        3: GOOD | {"reliability": 0.5, "locality_far": 0.0},
        4: GOOD | {"reliability": 0.5, "locality_far": 0.5},
        6: GOOD | {"reliability": 0.0},
        5: GOOD | {"reliability": 0.0},
    }
    run = make_answered(tmp_path, scores)
    assert worst(run) == [5, 6, 3, 4, 2]  # 1 went well
    assert worst(run, 2) == [5, 6]
    by_id = {case.edit_id: case for case in cases(run)}
    assert (by_id[3].edited, by_id[3].kept) == (0.75, 0.5)
    telling = {edit: case.worst_answer.probe for edit, case in by_id.items() if case.worst_answer}
    assert telling == {
        1: "reliability", 2: "locality_far", 3: "reliability", 4: "reliability",
        5: "reliability", 6: "reliability",
    }  # fmt: skip


def test_other_probes_decide_nothing(tmp_path: Path) -> None:
    """Portability, leaks and the subject's other facts are shown, whatever their score."""
    beside = {"portability": 0.0, "locality_subject": 0.0, "leak_same": 1.0}
    run = make_answered(tmp_path, {1: GOOD | beside, 2: GOOD | {"generality": 0.9}})
    assert worst(run) == [2]
    shown = next(case for case in cases(run) if case.edit_id == 1)
    assert (shown.picked, shown.edited, shown.kept) == ((RANDOM,), 1.0, 1.0)
    assert [answer.probe for answer in shown.answers] == [
        "reliability", "generality", "portability", "locality_far", "locality_subject",
        "stability_same", "leak_same",
    ]  # fmt: skip
    assert [answer.probe for answer in shown.answers if answer.lower_is_better] == ["leak_same"]


def test_an_edit_that_cannot_fail_comes_last(tmp_path: Path) -> None:
    run = make_answered(tmp_path, {1: {"locality_far": 0.0}, 2: GOOD | {"reliability": 0.9}})
    assert worst(run) == [2, 1]
    nothing = next(case for case in cases(run) if case.edit_id == 1)
    assert (nothing.edited, nothing.kept, nothing.target) == (None, 0.0, None)


def test_scores_that_are_nan_are_left_out(tmp_path: Path) -> None:
    run = make_answered(tmp_path, {1: GOOD | {"generality": np.nan}, 2: GOOD | {"generality": 0}})
    assert worst(run) == [2]
    answers = {a.probe: a.score for case in cases(run) for a in case.answers if case.edit_id == 1}
    assert answers["generality"] is None


def test_the_random_cases_are_the_same_for_every_editor(tmp_path: Path) -> None:
    scores = dict.fromkeys(range(100), GOOD)
    first = make_answered(tmp_path / "a", scores, "ft")
    shuffled = list(scores.items())
    random.Random(0).shuffle(shuffled)
    second = make_answered(tmp_path / "b", dict(shuffled), "mend", "transitive")
    chosen = [case.edit_id for case in cases(first)]
    assert chosen == [case.edit_id for case in cases(second)]
    assert len(set(chosen)) == 6
    assert all(case.picked == (RANDOM,) for case in cases(first))
    other_seed = make_answered(tmp_path / "c", scores, "ft", seed=1)
    assert [case.edit_id for case in cases(other_seed)] != chosen


def test_the_sample_is_fixed_for_ever() -> None:
    """By SHA-256 of "seed:id" and not by a generator whose stream may change with its version."""
    assert sample_edits(range(20), 0, 5) == sample_edits(range(19, -1, -1), 0, 5)
    assert sample_edits(range(20), 0, 5) == [15, 18, 7, 4, 9]  # sha256sum
    assert sample_edits([7], 0, 5) == [7]


def test_a_case_that_is_picked_twice_is_shown_once(tmp_path: Path) -> None:
    run = make_answered(tmp_path, {1: GOOD | {"reliability": 0.0}, 2: GOOD})
    assert [(case.edit_id, case.picked) for case in cases(run)] == [
        (1, (WORST, RANDOM)),
        (2, (RANDOM,)),
    ]


def test_a_case_shows_what_was_asked_and_answered(tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path / "images", [3])
    scores = {3: {"reliability_s": 0.5, "portability": 0.25}}
    run = make_answered(tmp_path / "run", scores, "ft", "multimodal", image_root=pictures)
    gallery = read_gallery(entries([run]))
    (case,) = gallery.groups[0].cases
    assert (case.subject, case.question) == ("subject 3", "What of 3 by reliability_s?")
    assert case.target == "target 3"
    first, second = case.answers
    assert (first.question, first.before, first.after, first.target, first.score, first.hops) == (
        "What of 3 by reliability_s?", "before 3", "after 3", "target 3", 0.5, None,
    )  # fmt: skip
    assert (second.probe, second.hops) == ("portability", 1)
    # The picture is shown three times, as that of the edit and of both probes, and kept once.
    assert case.picture == first.picture == second.picture
    assert case.picture
    assert list(gallery.thumbnails) == [case.picture.key]


def test_the_score_is_the_one_that_the_summary_reports(tmp_path: Path) -> None:
    run = make_answered(
        tmp_path, {1: {"reliability_s": 1.0}}, scenario="transitive", locality_i="top10_rank"
    )
    both = {"token_agreement": 1.0, "token_agreement_positional": 0.3}
    rows = [
        edit_row(edit_id=1, probe=probe, metric=measure, value=value)
        for probe in ("locality_t_far", "locality_i_far")
        for measure, value in both.items()
    ]
    write_edits(tmp_path, rows)
    (case,) = cases(run)
    assert {answer.probe: answer.score for answer in case.answers} == {
        "locality_t_far": 1.0,
        "locality_i_far": 0.3,
    }
    assert case.kept == pytest.approx(0.65)


def test_the_edit_of_the_transitive_scenario_is_no_probe(tmp_path: Path) -> None:
    """Its text question is known where the results hold it as the probe "edit"."""
    run = make_answered(tmp_path, {1: {"reliability_s": 0.0}}, scenario="transitive")
    assert cases(run)[0].question is None
    asked = probe_row(edit_id=1, probe="edit", question="Who?")
    picture = asked | {"probe": "reliability_s", "question": "Who is it?", "image": "1.png"}
    write_rows(tmp_path / PROBES, PROBE_SCHEMA, [picture, asked])
    (case,) = cases(run)
    assert (case.question, case.picture) == ("Who?", None)
    assert [answer.probe for answer in case.answers] == ["reliability_s"]


def test_pictures_that_are_not_there_say_so(tmp_path: Path) -> None:
    scores = {1: {"reliability_s": 0.0}}
    unknown = make_answered(tmp_path / "a", scores, scenario="multimodal")
    moved = make_answered(tmp_path / "b", scores, scenario="multimodal", image_root=Path("/gone"))
    broken_root = tmp_path / "broken"
    broken_root.mkdir()
    (broken_root / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    broken = make_answered(tmp_path / "c", scores, scenario="multimodal", image_root=broken_root)
    problems = []
    for run in (unknown, moved, broken):
        gallery = read_gallery(entries([run]))
        picture = gallery.groups[0].cases[0].picture
        assert picture
        assert (picture.name, picture.key, gallery.thumbnails) == ("1.png", None, {})
        problems.append(picture.problem)
    assert "do not say where pictures lie" in problems[0]
    assert problems[1] == "not found under image_root /gone"
    assert f"the picture {broken_root / '1.png'} cannot be read" in problems[2]


def test_thumbnails_are_small_and_kept_once(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "b.jpg")
    clear = Image.new("RGBA", (10, 20), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    thumbnails = Thumbnails()
    found = [thumbnails.of(name, str(tmp_path)) for name in ("a.jpg", "b.jpg", "clear.png")]
    assert found[0].key == found[1].key != found[2].key
    large, small = thumbnails.by_key.values()
    assert (large.width, large.height, large.is_tiny) == (SIDE, 120, False)
    assert len(large.data) < 15_000  # noise compresses worst
    assert (small.width, small.height, small.is_tiny) == (10, 20, True)
    with Image.open(BytesIO(small.data)) as image:
        assert image.format == "JPEG"
        assert image.convert("L").getextrema() == (128, 128), "as the model has seen it"


def test_results_of_before_questions_were_kept(tmp_path: Path) -> None:
    run = make_answered(tmp_path, {1: GOOD | {"reliability": 0.0}})
    (tmp_path / PROBES).unlink()
    (group,) = read_gallery(entries([run])).groups
    (case,) = group.cases
    assert "holds no probes.parquet" in group.notes[0]
    assert str(tmp_path) in group.notes[0]
    assert (case.question, case.target, case.answers[0].after) == (None, "target 1", "after 1")
    assert all(a.question is None and a.picture is None for a in case.answers)


def test_a_run_without_edits_says_so(tmp_path: Path) -> None:
    (group,) = read_gallery(entries([make_run(tmp_path)])).groups
    assert group.cases == ()
    assert f"{tmp_path / EDITS} does not exist" in group.notes[0]


@pytest.mark.parametrize("name", [EDITS, PROBES])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    run = make_answered(tmp_path, {1: GOOD})
    (tmp_path / name).write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match=f"{name} cannot be read as parquet"):
        read_gallery(entries([run]))


def test_the_unedited_model_has_no_cases(tmp_path: Path) -> None:
    assert read_gallery(entries([make_answered(tmp_path, {1: GOOD}, "none")])).groups == ()


def test_titles_tell_protocols_apart(tmp_path: Path) -> None:
    protocol = {"name": "sequential", "n": [1]}
    runs = [
        make_answered(tmp_path / "a", {1: GOOD}),
        make_answered(tmp_path / "b", {1: GOOD}, protocol=protocol),
    ]
    assert [group.title for group in read_gallery(entries(runs)).groups] == [
        "MEND on llava_tiny, unimodal",
        "MEND on llava_tiny, unimodal, in sequence",
    ]
