"""Result folders of made-up evaluations, for the tests of the report."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from metrics.bootstrap import Estimate, estimate
from metrics.headlines import BEFORE, HEADLINES, READ_BEFORE, record_means, variants_of
from reporting.paper import paper_columns
from results.files import EDITS, PROBES
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA, RunResult
from results.writing import write_rows, write_summary

SETTINGS = {
    "data_digest": "d0",
    "model_digest": "m0",
    "prompt": "default",
    "positions": "answer",
    "locality_i": "top1",
    "generation": False,
    "probe_digest": "p0",
    "cluster": "record",
}


def summary(
    editor: str = "mend",
    scenario: str = "unimodal",
    means: dict[str, float | None] | None = None,
    **changes: object,
) -> dict[str, object]:
    """A valid summary; metrics not in `means` are 50, None stands for no records."""
    names = [*paper_columns(scenario), "Stability_same", "Leak", "Reliability_EM"]
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
    known = (*SETTINGS, "quantise", "training")
    settings = {key: changes.pop(key) for key in list(changes) if key in known}
    if "editor_options" in changes:
        settings["editor"] = changes.pop("editor_options")
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
        "pre_value": None,
        "named_before": None,
        "fact_before": None,
    } | changes


def probe_row(**changes: object) -> dict[str, object]:
    """One line of probes.parquet; what it does not say is None."""
    return dict.fromkeys(PROBE_SCHEMA.names) | {"question": "q", "drawn": False} | changes


def write_groups(folder: Path, edits: Sequence[int], **columns: Sequence[str | None]) -> Path:
    """Write a `probes.parquet` with the lines of some edits and what they have in common.

    Args:
        folder: of the run.
        edits: their numbers.
        columns: relation, target or cluster of each edit.
    """
    rows = [
        probe_row(edit_id=edit, probe="edit", **{name: of[place] for name, of in columns.items()})
        for place, edit in enumerate(edits)
    ]
    return write_rows(folder / PROBES, PROBE_SCHEMA, rows)


def write_edits(folder: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write `edits.parquet`; texts, `value` and `seconds` of a row may be None."""
    return write_rows(folder / EDITS, EDIT_SCHEMA, rows)


def make_folder(folder: Path, editor: str = "mend", scenario: str = "unimodal") -> Path:
    """A whole result folder, without table.md."""
    make_run(folder, editor, scenario)
    write_edits(folder, [edit_row()])
    return folder


def make_scored(
    folder: Path,
    editor: str,
    scenario: str,
    scores: Mapping[str, Sequence[float | None]],
    **changes: object,
) -> RunResult:
    """A result folder whose summary follows from its edits.parquet, as evaluate.py writes it.

    Args:
        folder: of the run.
        editor: label of the editor.
        scenario: of the run.
        scores: "probe/measure" -> one fraction per edit, None where the record lacks the probe.
            What the unedited model scored and read stands under its measures' names.
        changes: other fields of the summary, and `first_edit`, the number of the first edit.
    """
    first = int(str(changes.pop("first_edit", 0)))
    by_probe = {
        (key.split("/")[0], key.split("/")[1]): {
            first + number: value for number, value in enumerate(values) if value is not None
        }
        for key, values in scores.items()
    }
    seed = int(str(changes.get("seed", 0)))
    metrics = {
        line.name: estimate(means, scale=100, seed=seed)
        for line in HEADLINES[scenario]
        if (means := list(record_means(by_probe, line).values()))
    }
    lines = variants_of(scenario, HEADLINES[scenario])
    variants = {
        line.name: estimate(list(record_means(by_probe, line).values()), scale=100, seed=seed)
        for line in lines
        if any(measure.endswith(BEFORE) for _, measure in by_probe)
    }
    changes.setdefault("variants", {name: value.as_dict() for name, value in variants.items()})
    n_edits = max(map(len, scores.values()))
    plain = summary(editor, scenario, **{"n_edits": n_edits, **changes})
    run = write_summary(folder, plain | {"metrics": metrics})
    write_edits(
        folder,
        [
            edit_row(
                edit_id=edit,
                subject=f"s{edit}",
                probe=probe,
                metric=measure,
                value=value,
                pre_value=by_probe.get((probe, f"{measure}{BEFORE}"), {}).get(edit),
                **{
                    name: None
                    if (flag := by_probe.get((probe, name), {}).get(edit)) is None
                    else bool(flag)
                    for name in READ_BEFORE
                },
            )
            for (probe, measure), of_edits in by_probe.items()
            if not measure.endswith(BEFORE)
            for edit, value in of_edits.items()
        ],
    )
    return run


def make_answered(
    folder: Path,
    scores: Mapping[int, Mapping[str, float]],
    editor: str = "mend",
    scenario: str = "unimodal",
    *,
    texts: Mapping[str, str] | None = None,
    image_root: Path | None = None,
    **changes: object,
) -> RunResult:
    """A result folder with `probes.parquet`, as the gallery of a report reads it.

    Args:
        folder: of the run.
        scores: edit -> probe -> fraction.
        editor: label of the editor.
        scenario: of the run.
        texts: `subject`, `pre_text`, `post_text`, `target` or `question` of all rows.
        image_root: folder of the pictures; edit 3 shows `3.png`. None: the results do not say.
        changes: other fields of the summary.
    """
    given = texts or {}
    plain = summary(editor, scenario, **{"n_edits": len(scores), **changes})
    settings = dict(plain.pop("settings"))  # type: ignore[call-overload]
    root = {} if image_root is None else {"image_root": str(image_root)}
    run = write_summary(folder, plain | {"settings": settings | root})
    rows, asked = [], []
    for edit, of_edit in scores.items():
        for probe, value in of_edit.items():
            measure = "token_agreement" if probe.startswith("locality") else "token_accuracy"
            own = {name: text for name, text in given.items() if name != "question"}
            rows.append(
                edit_row(
                    edit_id=edit, subject=f"subject {edit}", probe=probe, metric=measure,
                    value=value, pre_text=f" before {edit}", post_text=f" after {edit}",
                    target=f" target {edit}",
                ) | own
            )  # fmt: skip
            asked.append(
                probe_row(
                    edit_id=edit, probe=probe,
                    question=given.get("question", f"What of {edit} by {probe}?"),
                    image=f"{edit}.png" if scenario != "unimodal" else None,
                    hops=1 if probe == "portability" else None,
                )
            )  # fmt: skip
    write_edits(folder, rows)
    write_rows(folder / PROBES, PROBE_SCHEMA, asked)
    return run


def draw_pictures(root: Path, edits: Sequence[int]) -> Path:
    """Pictures `<edit>.png` for `make_answered`, each of another colour; returns their folder."""
    root.mkdir(parents=True, exist_ok=True)
    for edit in edits:
        Image.new("RGB", (320, 200), (40 * edit % 256, 90, 200)).save(root / f"{edit}.png")
    return root


def make_training(folder: Path) -> Path:
    """A training folder with three losses, logged at different steps, and a learning rate."""
    lines = ["epoch,step,lr,train/loss_step,train/loss_epoch,train/nll,val/loss,val/nll,val/kl"]
    lines += [f"0,{step},0.1,{1 / (step + 1)},,{2 / (step + 1)},,," for step in range(80)]
    lines += [f"0,{step},,,0.5,,{1 / (step + 1)},{1 / (step + 1)},0.1" for step in (39, 79)]
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
