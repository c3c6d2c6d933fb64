"""Result folders of made-up evaluations, for the tests of the report."""

from pathlib import Path

from metrics.bootstrap import Estimate
from reporting.results import RunResult, write_edits, write_summary
from reporting.tables import paper_tables

SETTINGS = {
    "data_digest": "d0",
    "model_digest": "m0",
    "prompt": "default",
    "positions": "answer",
    "locality_i": "top1",
}


def summary(
    editor: str = "mend",
    scenario: str = "unimodal",
    means: dict[str, float | None] | None = None,
    **changes: object,
) -> dict[str, object]:
    """A valid summary; metrics not in `means` are 50, None stands for no records."""
    names = [*paper_tables()[scenario]["columns"], "Stability_same", "Leak", "Reliability_EM"]
    shown: dict[str, float | None] = {**dict.fromkeys(names, 50.0), **(means or {})}
    metrics = {
        name: Estimate(mean, mean - 2, mean + 4, 10) if mean is not None else Estimate(0, 0, 0, 0)
        for name, mean in shown.items()
    }
    fields: dict[str, object] = {
        "editor": editor,
        "model": "llava_tiny",
        "scenario": scenario,
        "data": "world",
        "n_edits": 10,
        "seed": 0,
        "settings": dict(SETTINGS),
        "versions": {"torch": "2.13.0"},
        "metrics": metrics,
        "seconds_per_edit": 0.25,
        "answer_seconds_per_edit": 0.5,
        "peak_memory_bytes": 2**30,
    }
    settings = {key: changes.pop(key) for key in list(changes) if key in SETTINGS}
    return fields | changes | {"settings": SETTINGS | settings}


def make_run(
    folder: Path,
    editor: str = "mend",
    scenario: str = "unimodal",
    means: dict[str, float | None] | None = None,
    **changes: object,
) -> RunResult:
    """Write such a run into a folder and read it."""
    return write_summary(folder, summary(editor, scenario, means, **changes))


def edit_row(**changes: object) -> dict[str, object]:
    """One line of edits.parquet."""
    return {
        "edit_id": 3,
        "subject": "Łódź",
        "probe": "reliability",
        "metric": "token_accuracy",
        "value": 0.5,
        "pre_text": " a",
        "post_text": " b",
        "target": " b",
        "seconds": 0.1,
    } | changes


def make_folder(folder: Path, editor: str = "mend", scenario: str = "unimodal") -> Path:
    """A whole result folder, without table.md."""
    make_run(folder, editor, scenario)
    write_edits(folder, [edit_row()])
    return folder


def make_training(folder: Path) -> Path:
    """A training folder with three losses, logged at different steps, and a learning rate."""
    lines = ["epoch,step,lr,train/loss_step,train/loss_epoch,train/nll,val/loss,val/nll,val/kl"]
    lines += [f"0,{step},0.1,{1 / (step + 1)},,{2 / (step + 1)},,," for step in range(80)]
    lines += [f"0,{step},,,0.5,,{1 / (step + 1)},{1 / (step + 1)},0.1" for step in (39, 79)]
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
