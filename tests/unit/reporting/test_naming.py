"""Which runs are one row of a report, and how rows are called."""

from pathlib import Path

import pytest

from errors import DataError
from reporting.comparable import by_measure, check_comparable, in_order
from reporting.entries import settings_of
from reporting.naming import entries
from reporting.pairs import paired_table
from reporting.tables import scenario_table
from results.folder import RunResult
from results.writing import write_summary
from tests.result_folders import make_run, make_scored, summary


def trained(folder: Path, ckpt: str, seed: int = 0, **training: object) -> RunResult:
    """A run of MEND whose result says how its checkpoint was trained."""
    plain = summary("mend")
    settings = {
        **plain["settings"],  # type: ignore[dict-item]
        "ckpt": ckpt,
        "ckpt_digest": f"{ckpt}{seed}",
        "training": {"seed": seed, "trainer": {"max_steps": None}, **training},
    }
    return write_summary(folder, plain | {"settings": settings})


def with_options(folder: Path, scenario: str = "unimodal", **options: object) -> RunResult:
    return make_run(folder, "ft", scenario, editor_options={"name": "ft", **options})


def names(runs: list[RunResult]) -> list[tuple[str, int]]:
    return [(entry.name, len(entry.runs)) for entry in entries(runs)]


def test_runs_that_differ_in_the_seed_alone_are_one_row(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), "lora", seed=seed) for seed in (2, 0, 1)]
    (entry,) = entries([*runs, make_run(tmp_path / "ft", "ft")])[:1]
    assert (entry.name, entry.key, entry.seeds) == ("LoRA", "lora", "seed 0, 1, 2")
    assert [run.seed for run in entry.runs] == [0, 1, 2]


def test_seeds_of_methods_and_of_trainings_count_as_seeds(tmp_path: Path) -> None:
    methods = [with_options(tmp_path / f"m{seed}", lr=0.1, seed=seed) for seed in (0, 1)]
    (entry,) = entries(methods)
    assert (entry.name, entry.seeds) == ("FT", "editor.seed 0, 1")
    trainings = [
        trained(tmp_path / f"t{s}", f"runs/{s}/checkpoints/best.ckpt", s) for s in (0, 1, 2)
    ]
    (entry,) = entries(trainings)
    assert (entry.name, entry.seeds) == ("MEND", "training.seed 0, 1, 2")


def test_a_run_that_was_taught_the_end_token_says_so_and_an_older_one_was_not(
    tmp_path: Path,
) -> None:
    older = with_options(tmp_path / "older", lr=0.1)
    now = with_options(tmp_path / "now", lr=0.1, teach_end=False, seed=1)
    assert names([older, now]) == [("FT", 2)]
    ended = with_options(tmp_path / "ended", lr=0.1, teach_end=True)
    assert names([older, ended]) == [("FT (teach_end=false)", 1), ("FT (teach_end=true)", 1)]


def test_what_is_edited_and_how_had_one_answer_in_older_results(tmp_path: Path) -> None:
    older = with_options(tmp_path / "older", lr=0.1)
    usual: dict[str, object] = {
        "matrices": ["mlp_in", "mlp_out"], "layer": None, "breadth_first": False, "minibatch": 100
    }  # fmt: skip
    now = with_options(tmp_path / "now", lr=0.1, seed=1, **usual)
    assert names([older, now]) == [("FT", 2)]
    gate = with_options(tmp_path / "gate", lr=0.1, **usual | {"matrices": ["mlp_gate"]})
    assert names([older, gate]) == [
        ("FT (matrices=[mlp_in,mlp_out])", 1), ("FT (matrices=[mlp_gate])", 1)
    ]  # fmt: skip


def test_trainings_that_differ_in_more_are_rows_that_say_so(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path / f"{steps}-{seed}", f"{steps}{seed}/checkpoints/best.ckpt", seed,
                trainer={"max_steps": steps})
        for steps in (10, 20) for seed in (0, 1)
    ]  # fmt: skip
    assert names(runs) == [
        *(("MEND (training max_steps=10)", 2), ("MEND (training max_steps=20)", 2)),
    ]


def test_two_checkpoints_of_one_training_are_told_apart_by_their_files(tmp_path: Path) -> None:
    runs = [trained(tmp_path / name, f"a/checkpoints/{name}.ckpt") for name in ("best", "last")]
    assert names(runs) == [("MEND (ckpt=best.ckpt)", 1), ("MEND (ckpt=last.ckpt)", 1)]


def test_checkpoints_of_unknown_trainings_are_rows_of_their_own(tmp_path: Path) -> None:
    """Older results do not say how a checkpoint was trained: they are not taken as seeds."""
    runs = []
    for number, name in enumerate(("a", "b")):
        plain = summary("mend", seed=number)
        ckpt = {"ckpt": f"runs/{name}/checkpoints/best.ckpt", "ckpt_digest": name}
        settings = {**plain["settings"], **ckpt}  # type: ignore[dict-item]
        runs.append(write_summary(tmp_path / name, plain | {"settings": settings}))
    assert names(runs) == [
        ("MEND (ckpt=a/checkpoints/best.ckpt)", 1),
        ("MEND (ckpt=b/checkpoints/best.ckpt)", 1),
    ]


def test_rows_of_one_editor_are_called_by_what_differs(tmp_path: Path) -> None:
    runs = [
        with_options(tmp_path / "a", lr=1e-4, steps=5, layers=[1]),
        with_options(tmp_path / "b", lr=1e-6, steps=5, layers=[1, 2]),
        make_run(tmp_path / "none", "none"),
    ]
    assert [name for name, _ in names(runs)] == [
        *("FT (lr=0.0001, layers=[1])", "FT (lr=1e-06, layers=[1,2])", "Unedited"),
    ]
    assert dict(entries(runs)[0].differing) == {"editor.lr": 1e-4, "editor.layers": [1]}


def test_a_name_is_the_same_in_every_scenario_and_absent_where_none_is_needed(
    tmp_path: Path,
) -> None:
    runs = [
        with_options(tmp_path / "a", lr=1),
        with_options(tmp_path / "b", lr=2),
        with_options(tmp_path / "c", "transitive", lr=1),
        make_run(tmp_path / "d", "ft", model="llava", editor_options={"name": "ft", "lr": 3}),
    ]
    assert [name for name, _ in names(runs)] == ["FT (lr=1)", "FT (lr=2)", "FT (lr=1)", "FT"]


def test_long_names_are_cut_where_they_stay_different(tmp_path: Path) -> None:
    text = "a long option that goes on and on"
    runs = [
        with_options(tmp_path / str(n), a=n, b=n, c=f"{n} {text}", d={"lr": n}, lr=n)
        for n in (1, 2)
    ]
    assert [name for name, _ in names(runs)] == [
        f"FT (a={n}, b={n}, c={n} a long option that goe…, …)" for n in (1, 2)
    ]
    alike = [with_options(tmp_path / f"x{n}", a=n // 2, b=0, c=n // 3, d={"lr": 0}, lr=n % 2, e=n)
             for n in (1, 2, 3)]  # fmt: skip
    found = [name for name, _ in names(alike)]
    assert len(set(found)) == 3
    assert found[0] == "FT (a=0, c=0, lr=1, …)"
    keys = [with_options(tmp_path / f"y{n}", d={"lr": n}, lr=n) for n in (1, 2)]
    assert names(keys)[0][0] == "FT (editor.d.lr=1, editor.lr=1)"


def test_a_seed_counts_once(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, "ft", seed=seed) for name, seed in (("a", 0), ("b", 0))]
    with pytest.raises(
        DataError, match=r"ft on llava_tiny is both in .*a and in .*b, with"
    ) as told:
        entries(runs)
    assert "seed=0: a seed counts once" in str(told.value)
    apart = entries(runs, {runs[0].folder: "old code", runs[1].folder: "new code"})
    assert [entry.name for entry in apart] == ["old code", "new code"]


def test_seeds_that_were_asked_other_edits_are_no_one_row(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", "ft", seed=0)
    other = make_run(tmp_path / "b", "ft", "unimodal", None, seed=1, probe_digest="p1")
    rows = entries([first, other])
    assert [entry.name for entry in rows] == ["FT (probe_digest=p0)", "FT (probe_digest=p1)"]
    with pytest.raises(DataError, match="probe_digest is 'p0' in"):
        scenario_table(rows)
    labels = dict.fromkeys((first.folder, other.folder), "both")
    with pytest.raises(DataError, match=r"'both' is given .* probe_digest is p0 in .* but p1 in"):
        entries([first, other], labels)


def test_a_label_stands_for_the_editor_or_behind_several(tmp_path: Path) -> None:
    runs = [
        with_options(tmp_path / "a", lr=1),
        with_options(tmp_path / "b", "transitive", lr=1),
        with_options(tmp_path / "c", lr=2),
        make_run(tmp_path / "d", "ft_as_run"),
    ]
    one = entries(runs, dict.fromkeys((runs[0].folder, runs[1].folder), "slow"))
    assert [entry.name for entry in one] == ["slow", "slow", "FT", "FT (as run)"]
    assert [entry.key for entry in one] == ["ft/slow", "ft/slow", "ft", "ft_as_run"]
    two = entries(runs, {runs[0].folder: "slow", runs[3].folder: "slow"})
    assert [entry.name for entry in two] == ["FT (slow)", "FT", "FT", "FT (as run, slow)"]


def test_one_label_for_two_settings_is_refused(tmp_path: Path) -> None:
    runs = [with_options(tmp_path / name, lr=lr) for name, lr in (("a", 1), ("b", 2))]
    with pytest.raises(DataError) as told:
        entries(runs, dict.fromkeys((run.folder for run in runs), "x"))
    assert f"editor.lr is 1 in {tmp_path / 'a'} but 2 in {tmp_path / 'b'}" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_label_that_is_another_row_s_name_is_refused(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "ft", "ft"), make_run(tmp_path / "mend", "mend")]
    with pytest.raises(DataError, match="'FT' would be the name of two rows of the unimodal"):
        entries(runs, {runs[1].folder: "FT"})


def test_labelled_rows_that_were_measured_otherwise_are_ranked_apart(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "ft", "ft", means={"Locality": 60}),
        make_run(tmp_path / "mend", "mend", means={"Locality": 50}),
        make_run(tmp_path / "ft-all", "ft", means={"Locality": 90}, positions="all"),
        make_run(tmp_path / "mend-all", "mend", means={"Locality": 95}, positions="all"),
    ]
    with pytest.raises(DataError, match="positions is 'answer' in"):
        check_comparable(entries(runs))
    labels = {runs[2].folder: "FT, all tokens", runs[3].folder: "MEND, all tokens"}
    rows = entries(runs, labels)
    assert [len(alike) for alike in by_measure(in_order(rows))] == [2, 2]
    table = scenario_table(rows)
    marks = {row.heads[1]: row.cells[3].mark for row in table.rows}
    assert marks == {
        "FT": "best", "MEND": "second", "FT, all tokens": "second", "MEND, all tokens": "best",
    }  # fmt: skip
    note = "positions is answer (FT, MEND) and all (FT, all tokens; MEND, all tokens)"
    assert any(note in line for line in table.notes)


def test_rows_that_were_measured_otherwise_are_not_paired(tmp_path: Path) -> None:
    scores = {"reliability/token_accuracy": [1.0, 0.0]}
    runs = [
        make_scored(tmp_path / name, editor, "unimodal", scores, **changes)
        for name, editor, changes in (
            ("ft", "ft", {}), ("mend", "mend", {}), ("all", "ft", {"positions": "all"}),
        )
    ]  # fmt: skip
    table = paired_table(entries(runs, {runs[2].folder: "all"}))
    assert table is not None
    assert [row.heads[1] for row in table.rows] == ["FT − MEND"]


def test_where_a_run_took_place_makes_no_row(tmp_path: Path) -> None:
    places = [
        make_run(tmp_path / str(seed), "ft", seed=seed)
        for seed in (0, 1)
    ]  # fmt: skip
    for run, device in zip(places, ("cuda:0", "cuda:1"), strict=True):
        run.settings["device"] = device  # type: ignore[index]
        run.settings["image_root"] = f"/data/{device}"  # type: ignore[index]
    assert settings_of(places[0]) == settings_of(places[1])
    assert names(places) == [("FT", 2)]
