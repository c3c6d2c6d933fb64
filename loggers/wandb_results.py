"""An evaluation as W&B shows it: its metrics, its edits with their pictures, its figures.

    result              table: metric, mean, low, high, n
    edits               table: one line per edit and probe, with picture, answers and scores
    figures/<name>      pictures of the figures
    sequential/<name>   curves over the number of edits in place (protocol=sequential)
    summary             <metric>/mean, /low, /high, /n, and what the edits cost

W&B compares runs on the summary; means and intervals are in percent, scores of edits fractions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.loggers import Logger
from PIL import Image

from datamodules.images import read_image
from errors import DataError
from loggers.wandb_run import GuardedWandb
from metrics.bootstrap import Estimate
from metrics.headlines import GENERATION_MATCH, TOKEN_ACCURACY

Row = Mapping[str, Any]
COSTS = (
    "n_edits", "seconds_per_edit", "answer_seconds_per_edit", "peak_memory_bytes",
    "trained_parameters",
)  # fmt: skip
PLACE = "edits_in_place"  # x-axis of the curves of a sequential run
SIDE = 160  # pixels of a thumbnail's longer side
_SHOWN = ("edit_id", "subject", "probe", "question", "picture", "target", "before", "after")
_OF_THE_EDIT = ("reliability", "generality")  # probes whose scores say how well an edit took


def send_result(
    loggers: Iterable[Logger],
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    probes: Sequence[Row],
    *,
    table_edits: int,
    draw: Callable[[Path], Sequence[Path]] | None = None,
) -> None:
    """Sends an evaluation to W&B where it is on; nothing of it is computed where it is off.

    Args:
        loggers: of the run.
        summary: the content of summary.json; `metrics` and the points of `curve` as `Estimate`s or
            as the file has them.
        rows: the lines of edits.parquet.
        probes: the lines of probes.parquet.
        table_edits: number of edits in the table of edits; 0 for no such table.
        draw: writes figures, given a path without suffix, and names the files; PNGs are sent.
    """
    for logger in loggers:
        if isinstance(logger, GuardedWandb):
            logger.attempt(partial(_send_numbers, logger, summary))
            if table_edits:
                logger.attempt(partial(_send_edits, logger, summary, rows, probes, table_edits))
            if draw is not None:
                logger.attempt(partial(_send_figures, logger, draw))


def choose_edits(rows: Iterable[Row], number: int, seed: int) -> list[int]:
    """The edits of the table: drawn alike for every editor, the worst ones first.

    Those with the smallest SHA-256 of "seed:edit id" are drawn, as in the report's gallery of
    cases, so W&B can set the same edits of several editors side by side. An edit is the worse, the
    lower the mean token accuracy of its Reliability and Generality probes.

    Args:
        rows: the lines of edits.parquet.
        number: how many edits; all if there are fewer.
        seed: of the run.

    Returns:
        Their ids; edits that took equally well in the order of their ids.
    """
    scores: dict[int, list[float]] = {}
    for row in rows:
        known = scores.setdefault(row["edit_id"], [])
        if row["metric"] == TOKEN_ACCURACY and row["probe"].startswith(_OF_THE_EDIT):
            known.append(row["value"])

    def place(edit: int) -> str:
        return hashlib.sha256(f"{seed}:{edit}".encode()).hexdigest()

    def success(edit: int) -> tuple[float, int]:
        found = [value for value in scores[edit] if value is not None and math.isfinite(value)]
        return (sum(found) / len(found) if found else math.inf), edit

    return sorted(sorted(scores, key=place)[:number], key=success)


def edit_table(
    chosen: Sequence[int],
    rows: Iterable[Row],
    probes: Iterable[Row],
    picture: Callable[[str], Any],
) -> tuple[list[str], list[list[Any]]]:
    """The table of edits.

    Args:
        chosen: ids of its edits, in its order.
        rows: the lines of edits.parquet.
        probes: the lines of probes.parquet; a probe without a line has no question.
        picture: from the path of a picture, as `probes` has it, to what stands in the table.

    Returns:
        Column names, and one line per edit and probe; a score that a probe has not is None.
        `before` and `after` are the likeliest tokens at the answer's positions; where answers were
        generated too, `generated` is what the edited model said freely.
    """
    wanted, asked = set(chosen), {(one["edit_id"], one["probe"]): one for one in probes}
    scored: dict[int, dict[str, dict[str, Row]]] = {edit: {} for edit in chosen}
    for row in rows:
        if row["edit_id"] in wanted:
            scored[row["edit_id"]].setdefault(row["probe"], {})[row["metric"]] = row
    of_probes = [one for edit in chosen for one in scored[edit].items()]
    measures = list(dict.fromkeys(name for _, by_measure in of_probes for name in by_measure))
    free = [GENERATION_MATCH] if GENERATION_MATCH in measures else []
    lines: list[list[Any]] = []
    for probe, by_measure in of_probes:
        first = by_measure[min(by_measure, key=lambda name: name == GENERATION_MATCH)]
        edit, question = first["edit_id"], asked.get((first["edit_id"], probe), {})
        image = question.get("image")
        line = [edit, first["subject"], probe, question.get("question")]
        line += [picture(image) if image else None, first["target"]]
        line += [first["pre_text"], first["post_text"]]
        line += [by_measure[name]["post_text"] if name in by_measure else None for name in free]
        line += [
            _finite(by_measure[name]["value"]) if name in by_measure else None for name in measures
        ]
        lines.append(line)
    return [*_SHOWN, *(["generated"] if free else []), *measures], lines


def _send_numbers(logger: GuardedWandb, summary: Mapping[str, Any]) -> None:
    metrics = _numbers(summary["metrics"])
    logger.log_table(
        "result",
        columns=["metric", "mean", "low", "high", "n"],
        data=[[name, *value.values()] for name, value in metrics.items()],
    )
    facts = {key: summary[key] for key in COSTS if summary.get(key) is not None}
    facts |= {
        f"{name}/{part}": number
        for name, value in metrics.items()
        for part, number in value.items()
        if number is not None
    }
    facts |= {f"editor/{key}": one for key, one in (summary.get("editor_report") or {}).items()}
    run = logger.experiment
    run.summary.update(facts)
    if summary.get("curve"):
        run.define_metric(PLACE)
        run.define_metric("sequential/*", step_metric=PLACE)
    for place, point in (summary.get("curve") or {}).items():
        means = {f"sequential/{name}": one["mean"] for name, one in _numbers(point).items()}
        logger.log_metrics({k: v for k, v in means.items() if v is not None} | {PLACE: int(place)})


def _send_edits(
    logger: GuardedWandb,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    probes: Sequence[Row],
    number: int,
) -> None:
    root, seen = Path(summary["settings"]["image_root"]), dict[str, Any]()

    def picture(name: str) -> Any:
        if name not in seen:
            seen[name] = thumbnail(root / name)
        return seen[name]

    chosen = choose_edits(rows, number, summary["seed"])
    columns, lines = edit_table(chosen, rows, probes, picture)
    wandb = import_module("wandb")
    logger.log_metrics({"edits": wandb.Table(columns=columns, data=lines, allow_mixed_types=True)})


def thumbnail(path: Path) -> Any:
    """A small copy of a picture as a `wandb.Image`; None where the file cannot be read any more."""
    try:
        image = read_image(path)
    except DataError:
        return None
    is_small = max(image.size) <= SIDE  # a drawing of few pixels suffers from JPEG
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return import_module("wandb").Image(image, file_type="png" if is_small else "jpg")


def _send_figures(logger: GuardedWandb, draw: Callable[[Path], Sequence[Path]]) -> None:
    with TemporaryDirectory() as folder:
        for file in draw(Path(folder) / "metrics"):
            if file.suffix == ".png":
                logger.log_image(f"figures/{file.stem}", [str(file)])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Name -> mean, low, high, n; None in place of numbers that no record gave."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name, value in metrics.items():
        plain: Mapping[str, Any] = value.as_dict() if isinstance(value, Estimate) else value
        low, high = plain["ci95"]
        found[name] = {"mean": plain["mean"], "low": low, "high": high, "n": plain["n"]}
    return found


def _finite(value: float | None) -> float | None:
    """The value; None for nan, which a table cannot sort."""
    return None if value is None or math.isnan(value) else value
