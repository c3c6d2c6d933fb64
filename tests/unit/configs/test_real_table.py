"""The commands of `make real`: what it would run is shown by echo in the place of Python."""

from __future__ import annotations

from pathlib import Path

from configs.check import load_config
from tests.make_commands import commands_of, jobs, some_jobs

ALL_EDITORS = {"none", "ft", "ike", "mend", "serac", "rome", "lora"}
TEXTS = ("tmke", "zsre", "counterfact")


def commands(tmp_path: Path, *variables: str) -> list[list[str]]:
    told = [f"REAL={tmp_path}/real", f"SHARED={tmp_path}/shared", "ACCELERATOR=cpu"]
    return commands_of("real", *told, *variables)


def with_texts(tmp_path: Path) -> Path:
    for name in TEXTS:
        (tmp_path / "shared" / "data" / name).mkdir(parents=True)
    return tmp_path


def judged(found: list[list[str]]) -> set[tuple[str, str, str, str]]:
    """(alignment, editor, data, scenario) of every evaluation."""
    return {
        (
            Path(job["output_dir"]).parent.name,
            job.get("editor") or Path(job["ckpt"]).parent.parent.name.removeprefix("train-"),
            job.get("data", "countries"),
            job["scenario"],
        )
        for command in found
        if command[0] == "evaluate.py"
        for job in jobs(command)
    }


def expected(alignment: str, editors: set[str]) -> set[tuple[str, str, str, str]]:
    pictures = {
        (alignment, editor, "countries", scenario)
        for editor in editors
        for scenario in ("unimodal", "transitive", "multimodal")
    }
    return pictures - {(alignment, "rome", "countries", "multimodal")}


def test_the_short_form(tmp_path: Path) -> None:
    found = commands(with_texts(tmp_path))
    assert judged(found) == expected("naming", {"none", "ft", "mend", "rome"})
    assert [word for command in found for word in command if "data.limit" in word] == [
        "data.limit=30"
    ] * 3


def test_the_full_form(tmp_path: Path) -> None:
    found = judged(commands(with_texts(tmp_path), "EDITS=100"))
    wanted = expected("naming", ALL_EDITORS) | expected("embedding", ALL_EDITORS)
    wanted |= expected("naming_and_facts", {"none", "ft", "mend", "rome"})
    untrained = {"none", "ft", "lora", "rome"}
    wanted |= {("naming", editor, "tmke", "unimodal") for editor in untrained}
    wanted |= {
        ("naming", editor, data, "unimodal")
        for data in ("zsre", "counterfact")
        for editor in untrained | {"mend", "serac"}
    }
    assert found == wanted


def test_texts_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    assert {data for _, _, data, _ in judged(commands(tmp_path, "EDITS=100"))} == {"countries"}


def test_every_command_is_a_right_one_and_goes_on(tmp_path: Path) -> None:
    found = commands(with_texts(tmp_path), "EDITS=100")
    assert [command[0] for command in found][-1] == "report.py"
    seen = 0
    for command in found:
        if command[0] not in ("train.py", "evaluate.py"):
            continue
        # What an alignment adds to a command is its model.
        made = some_jobs(command) if "naming/" in " ".join(command) else some_jobs(command)[:1]
        for job in made:
            assert job["resume"] == "true"
            if "ckpt" in job:  # what it names is made by an earlier command
                job["editor"] = Path(job["ckpt"]).parent.parent.name.removeprefix("train-")
                job["ckpt"] = "editor.ckpt"
            job |= {"model": job.get("model", "smollm_llava"), "model.path": "data"}  # so is it
            words = [f"{key}={value}" for key, value in job.items()]
            assert load_config(command[0].removesuffix(".py"), words)
            seen += 1
    assert seen > 30
