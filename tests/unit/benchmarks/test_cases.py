"""What the benchmarks time is of equal work: the reference has the engine's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import floor, measure, mid_size, outcome, run, where
from benchmarks.cases import CASES, LONG, Setting, mend
from benchmarks.cases.rome import RomeEvaluation
from benchmarks.memory import peak_beyond_model, peak_bytes
from benchmarks.reference.losses import mend_loss
from errors import DataError

SHORT = [name for name in CASES if name not in (*LONG, "ft_2000")]
# The miniature's own pass of each; one of every kind of reference in the quick tests.
QUICK = ["mend_text", "ft_evaluation", "serac_training", "serac_evaluation", "second_editor"]


@pytest.fixture(scope="module")
def shared() -> Path:
    try:
        return mid_size.shared_folder()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def miniature(shared: Path, pictures: Path) -> Setting:
    return Setting.open(shared, pictures, batch_size=2, size=mid_size.MINIATURE)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.odd) for name in SHORT],
)
def test_engine_and_reference_agree(miniature: Setting, name: str) -> None:
    case = CASES[name](miniature)
    case.check()
    least = case.floor()
    assert set(least.operations) <= set(floor.PARTS)
    assert min(least.operations.values()) >= 0
    assert least.total > 0


@pytest.mark.odd
@pytest.mark.parametrize("name", SHORT)
def test_they_agree_on_the_model_that_is_timed(shared: Path, pictures: Path, name: str) -> None:
    CASES[name](Setting.open(shared, pictures, batch_size=2)).check()


@pytest.mark.odd
@pytest.mark.parametrize("family", ["llava", "minigpt4", "blip2"])
def test_they_agree_on_a_narrow_copy_of_a_released_model(
    shared: Path, pictures: Path, family: str
) -> None:
    setting = Setting.open_full_size(
        family, shared, pictures, 1, torch.device("cpu"), torch.float32, tiny=True
    )
    for name in ("mend_text", "serac_evaluation", "rome"):
        CASES[name](setting).check()


@pytest.mark.odd
def test_a_whole_search_of_rome_differs_by_rounding_alone(shared: Path, pictures: Path) -> None:
    """In float32 OPT's ReLU makes of rounding a tenth of the edit; the benchmark checks less."""
    opened = Setting.open_full_size(
        "blip2", shared, pictures, 1, torch.device("cpu"), torch.float64, tiny=True
    )
    words = (*opened.options["rome"], "editor.contexts=[[5,2]]")
    case = RomeEvaluation(replace(opened, options={"rome": words}))
    case.compare(case.editor, share=1e-9)


def test_a_number_that_differs_is_told(miniature: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend, "mend_loss", lambda *inputs: (1 + 1e-5) * mend_loss(*inputs))
    with pytest.raises(AssertionError, match="not close"):
        CASES["mend_text"](miniature).check()


def test_the_floor_is_below_what_is_counted_in_the_engine(miniature: Setting) -> None:
    """Torch's own count of what ran, padding and all; what is missed below would stay unnoticed."""
    case = CASES["ft_evaluation"](miniature)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        case.engine()
    counted, least = counter.get_total_flops(), case.floor().total
    assert 0.5 * counted < least < counted


def test_twice_the_edits_have_twice_the_floor(miniature: Setting) -> None:
    one, two = (CASES["mend_text"](replace(miniature, batch_size=n)).floor() for n in (1, 4))
    assert two.edits == 4 * one.edits
    assert 2 < two.total / one.total < 8


def test_a_picture_s_layers_behind_its_features_do_not_count(miniature: Setting) -> None:
    model = miniature.model
    shown = floor.Shape.of(model).picture
    side, width = mid_size.MINIATURE.image, mid_size.MINIATURE.tower[1]
    tokens, d = (side // mid_size.PATCH) ** 2 + 1, mid_size.MINIATURE.width
    layer = tokens * (2 * 12 * width * width + 4 * tokens * width)
    patches = (tokens - 1) * 2 * width * 3 * mid_size.PATCH**2
    projector = (tokens - 1) * 2 * (width * d + d * d)
    assert shown == layer + patches + projector  # one of two layers: features before the last


def test_steps_of_adam_are_bound_by_memory() -> None:
    least = floor.Floor({"edited": 1e9}, steps=1000, parameters=4_000_000, edits=2)
    assert (least.moved, least.state) == (24 * 4_000_000_000, 12 * 2_000_000)
    assert least.seconds(floor.Rates(1e11, 1e10)) == (0.01, pytest.approx(9.6))


def test_a_line_is_shown_and_kept(
    miniature: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = run.run("ft_evaluation", miniature, 1, measure.matmul_rate(torch.device("cpu")))
    assert line.ratio > 0
    assert line.engine_peak is None
    outcome.show([line])
    assert "ft_evaluation" in capsys.readouterr().out
    for _ in range(2):
        outcome.keep([line], outcome.about(miniature, 1e9), tmp_path)
    assert len((tmp_path / "ft_evaluation.jsonl").read_text().splitlines()) == 2
    assert outcome.kept(tmp_path) == [line]


def test_parts_of_the_time_add_up_and_are_drawn(miniature: Setting, tmp_path: Path) -> None:
    case = CASES["mend_evaluation"](miniature)
    parts = where.parts_of(case)
    assert set(parts) <= {*where.PARTS, where.OTHER}
    for part in ("data", "vision", "prefix", "suffix", "capture", "editor"):
        assert parts[part] > 0, part
    line = outcome.Line("mend_evaluation", "", 1.0, 1.0, 2.0, 0.1, 0.0, {}, True, parts=parts)
    where.draw([line], tmp_path / "where.png")
    assert (tmp_path / "where.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_rehearsal_is_the_first_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"short": iter([3.0, 1.0, 2.0]), "long": iter([30.0, 20.0])}

    def one_turn(work: Callable[[], str], device: torch.device) -> float:
        return next(taken[work()])

    monkeypatch.setattr(measure, "one_turn", one_turn)
    works = [lambda: "short", lambda: "long"]
    assert measure.in_turns(works, 2, torch.device("cpu")) == [1.0, 20.0]


def test_time_inside_a_part_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr(where.time, "perf_counter", lambda: next(ticks))
    clock = where.Clock(torch.device("cpu"))
    clock.timed("prefix", clock.timed("vision", lambda: None))()
    assert clock.seconds == {"prefix": 1.0 + 4.0, "vision": 2.0}


def test_memory_is_what_a_side_adds(miniature: Setting) -> None:
    """Of a training step at least what both sides hold; the reference has dense weights besides."""
    engine, reference = (
        peak_beyond_model(miniature, "mend_text", side, 1) for side in ("engine", "published")
    )
    editor = CASES["mend_text"](replace(miniature, batch_size=1))._module.editor  # type: ignore[attr-defined]
    n_weights = sum(p.numel() for p in editor.parameters())
    least = CASES["mend_text"](replace(miniature, batch_size=1)).floor().held / 1e9
    assert least == 16 * n_weights / 1e9
    assert least < engine < reference < 1


def test_a_peak_is_told_from_what_is_left() -> None:
    with peak_bytes() as peak:
        left = torch.ones(1000)
        del left
        left = torch.ones(250)
    assert (peak.bytes, peak.left) == (4000, 1000)
    assert len(left) == 250


def test_a_benchmark_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["mend_txt"])
    assert "unknown: mend_txt; there are mend_text" in capsys.readouterr().err


def test_the_cut_tokenizer_splits_as_the_whole_one_does_into_smaller_pieces(shared: Path) -> None:
    folder = shared / "tokenizers/llama"
    whole, cut = AutoTokenizer.from_pretrained(folder), mid_size.read_tokenizer(folder)
    text = "Question: Who is the author of Middlemarch? Short answer: George Eliot, 1871"
    ids = cut(text).input_ids
    assert len(cut) == mid_size.VOCABULARY
    assert max(ids) < mid_size.VOCABULARY
    assert cut.decode(ids, skip_special_tokens=True).strip() == text
    assert len(whole(text).input_ids) <= len(ids) <= 1.5 * len(whole(text).input_ids)
