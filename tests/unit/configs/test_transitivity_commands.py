"""The commands of `make transitivity`."""

from __future__ import annotations

from pathlib import Path

from configs.check import load_config
from tests.make_commands import commands_of, jobs, some_jobs

TEXT, PICTURES = {"unimodal", "reverse"}, {"transitive", "multimodal", "joint"}
MODELS = ("blip2_opt_tiny", "minigpt4_tiny", "llava_tiny")


def commands(tmp_path: Path, *variables: str) -> list[list[str]]:
    told = [f"TRANSITIVITY={tmp_path}/t", f"REAL={tmp_path}/real", f"PAGE={tmp_path}/page.md"]
    return commands_of("transitivity", *told, "ACCELERATOR=cpu", *variables)


def judged(found: list[list[str]]) -> set[tuple[str, str, str]]:
    """(model, editor, scenario) of every evaluation; a trained editor with its objective."""
    return {
        (
            Path(job["output_dir"]).parent.name,
            job.get("editor") or Path(job["ckpt"]).parent.parent.name.removeprefix("train-"),
            job["scenario"],
        )
        for command in found
        if command[0] == "evaluate.py"
        for job in jobs(command)
    }


def expected(model: str) -> set[tuple[str, str, str]]:
    editors = ["none", "ft", "ike"]
    editors += [f"{name}-{objective}" for name in ("mend", "serac")
                for objective in ("text", "transitive")]  # fmt: skip
    everywhere = {(model, editor, scenario) for editor in editors for scenario in TEXT | PICTURES}
    return everywhere | {(model, "rome", scenario) for scenario in ("unimodal", "transitive")}


def test_all_models_are_judged_in_every_scenario(tmp_path: Path) -> None:
    found = commands(tmp_path)
    real = ("smollm_llava", "smollm_llava_embedding")
    assert judged(found) == set().union(*map(expected, (*MODELS, *real)))
    built = [command[-1] for command in found if command[:2] == ["-m", "models"]]
    assert built == [f"{tmp_path}/real/{alignment}/model" for alignment in ("naming", "embedding")]
    limits = {w: Path(c[-1]).parent.name for c in found for w in c if w.startswith("data.limit")}
    assert limits == {"data.limit=50": MODELS[-1], "data.limit=30": real[-1]}


def test_models_and_edits_can_be_chosen(tmp_path: Path) -> None:
    found = commands(tmp_path, "MODELS=llava_tiny", "ALIGNMENTS=", "EDITS=7")
    assert judged(found) == expected("llava_tiny")
    limits = {word for command in found for word in command if word.startswith("data.limit")}
    assert limits == {"data.limit=7"}


def test_every_command_is_a_right_one_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "real" / "naming" / "model").mkdir(parents=True)
    (tmp_path / "real" / "naming" / "model" / "manifest.json").touch()
    found = commands(tmp_path, "MODELS=llava_tiny", "ALIGNMENTS=naming")
    assert [command[0] for command in found if command[0] == "-m"] == []  # it is there already
    assert found[-1][0] == "report.py"
    assert found[-1][-3:] == ["--transitivity", f"{tmp_path}/page.md", "--overwrite"]
    trained = set()
    for command in found[:-1]:
        for job in some_jobs(command)[:1]:  # the scenarios of a sweep are all there are
            assert job["resume"] == "true"
            by_name = command[0] == "evaluate.py" and job["scenario"] in PICTURES
            assert job.get("evaluate.name_first") == ("true" if by_name else None)
            if command[0] == "train.py":
                trained.add(job["output_dir"])
            if "ckpt" in job:  # made by an earlier command
                assert Path(job["ckpt"]).parents[1].as_posix() in trained
                job["editor"] = Path(job["ckpt"]).parents[1].name.split("-")[1]
                job["ckpt"] = "editor.ckpt"
                job["model"] = "llava_tiny"
            if "model.path" in job:
                job["model.path"] = "data"
            assert load_config(
                command[0].removesuffix(".py"), [f"{key}={value}" for key, value in job.items()]
            )
    assert len(trained) == 8
