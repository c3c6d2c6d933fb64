"""The commands of `make table` and `make editors`."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.check import load_config
from tests.make_commands import commands_of, jobs

PAPER = {"none", "ft", "ike", "mend", "serac"}
LATER = {"ft_bf", "lora", "ultraedit", "grace", "malmen", "rledit"}
BY_SUBJECT = {"rome", "memit"}


def checked_jobs(commands: list[list[str]]) -> list[dict[str, str]]:
    """The settings of every evaluation, a trained editor's name and its model among them.

    Every command is one that its entry point accepts, and a checkpoint that of an earlier one.
    """
    trained, asked, evaluations = set(), set(), []
    for command in commands:
        for job in jobs(command):
            words = dict(job)
            if command[0] == "train.py":
                trained.add(job["output_dir"])
            elif "ckpt" in job:
                run = Path(job["ckpt"]).parents[1]
                assert str(run) in trained
                job |= {"editor": run.name.removeprefix("train-"), "model": run.parent.name}
                words |= {"ckpt": "editor.ckpt"} | {key: job[key] for key in ("editor", "model")}
            if command[0] == "evaluate.py":
                evaluations.append(job)
            if "model.path" in words:
                words["model.path"] = "data"
            words.pop("editor.second_moments", None)  # files of an earlier command
            entry_point = command[0].removesuffix(".py")
            if job["output_dir"] not in asked:  # the first job of a sweep stands for all of it
                asked.add(job["output_dir"])
                assert load_config(entry_point, [f"{key}={value}" for key, value in words.items()])
    return evaluations


@pytest.mark.parametrize(("editors", "later"), [("paper", set()), ("all", LATER)])
def test_the_table_has_each_editor_in_its_scenarios(
    tmp_path: Path, editors: str, later: set[str]
) -> None:
    variables = [f"TABLE={tmp_path}", "MODELS=llava_tiny blip2_opt_tiny", f"EDITORS={editors}"]
    *commands, report = commands_of("table", *variables)
    judged = {(job["model"], job["editor"], job["scenario"]) for job in checked_jobs(commands)}
    named = {name for name in BY_SUBJECT if name == "rome" or later}
    assert judged == {
        (model, editor, scenario)
        for model in ("llava_tiny", "blip2_opt_tiny")
        for editor in PAPER | later | named
        for scenario in ("unimodal", "transitive", "multimodal")
        if editor not in named or scenario != "multimodal"
    }
    folders = {f"{job['output_dir']}/[0-9]*" for job in checked_jobs(commands)}
    trained = {f"{tmp_path}/{model}/train-{editor}" for model, editor, _ in judged
               if editor in {"mend", "serac", "malmen", "rledit"}}  # fmt: skip
    assert set(report[1:-3]) == folders | trained
    assert report[-3:] == ["--output", f"{tmp_path}/report", "--overwrite"]


def test_the_guide_has_alone_together_and_in_sequence(tmp_path: Path) -> None:
    """On another world too, in its numbers of edits."""
    variables = [f"MANY={tmp_path}", "REAL=", "POINTS=10,900", "EDITS=7"]
    moments = (
        tmp_path / "llava_tiny" / "moments" / "of_layer-0_seed-0.pt"
    )  # of a command that echo stands for
    for path in (moments, tmp_path / "llava_tiny" / "fitted" / "0"):
        path.mkdir(parents=True)
    world = "WORLD=data=folder data.root=data model.path=data"
    found = commands_of("editors", *variables, world, f"GUIDE={tmp_path}/page.md")
    (of_moments,) = [command for command in found if command[0] == "-m"]
    assert of_moments[1:3] == ["analysis", "second_moment"]
    evaluations = checked_jobs(
        [command for command in found if command[0] in ("train.py", "evaluate.py")]
    )
    assert all(job["data"] == "folder" for job in evaluations)  # of trained editors too
    made = {"single": set(), "batch": set(), "sequential": set()}  # type: dict[str, set[str]]
    for job in evaluations:
        protocol = job.get("protocol", "single")
        made[protocol].add(job["editor"])
        if protocol == "single":
            assert job["data.limit"] == "7"
        else:
            assert job["protocol.n"] == "[10,900]"
            rome = job["editor"] == "rome"
            assert job.get("protocol.turn") == (
                "10" if protocol == "sequential" and not rome else None
            )
    everyone = PAPER | LATER | BY_SUBJECT | {"alphaedit"}
    assert made == {
        "single": everyone, "sequential": everyone, "batch": everyone - {"rome"}
    }  # fmt: skip
