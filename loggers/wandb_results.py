"""An evaluation as W&B shows it: its metrics, its edits with their pictures, its figures.

    result              table: metric, mean, low, high, n
    edits               table: one line per edit and probe, with picture, answers and scores
    figures/<name>      pictures of the figures
    sequential/<name>   curves over the number of edits in place (protocol=sequential)
    batch/<name>        the same of edits that are one update (protocol=batch)
    summary             <metric>/mean, /low, /high, /n, and <metric>_gain/... of its gain over the
                        unedited model; what the edits cost

W&B compares runs on the summary; means and intervals are in percent, scores of edits fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.loggers import Logger

from datamodules.pictures import PictureFile, open_pictures
from errors import DataError
from loggers.wandb_run import GuardedWandb
from metrics.bootstrap import Estimate
from metrics.headlines import GAIN, GENERATION_MATCH, TOKEN_ACCURACY
from metrics.name_first import CHAIN, is_beside
from reporting.gallery import sample_edits
from reporting.thumbnails import SIDE, shrink
from results.files import EDITS, PROBES
from results.folder import (
    EDIT_SCHEMA,
    EDITS_IN_PLACE,
    PROBE_SCHEMA,
    SEQUENTIAL,
    read_lines,
    read_summary,
)

Row = Mapping[str, Any]
COSTS = (
    "n_edits", "seconds_per_edit", "answer_seconds_per_edit", "peak_memory_bytes",
    "trained_parameters",
)  # fmt: skip
_COLUMNS = ("edit_id", "subject", "probe", "question", "picture", "target", "before", "after")
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
        summary: the content of summary.json; `metrics`, `variants` and the points of `curve` as
            `Estimate`s or as the file has them.
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


def send_folder(
    loggers: Sequence[Logger],
    folder: Path,
    *,
    table_edits: int,
    draw: Callable[[Path], Sequence[Path]] | None = None,
) -> None:
    """Sends the result in a folder to W&B where it is on, from its files alone.

    Args:
        loggers: of the run.
        folder: of a result that is written.
        table_edits: as for `send_result`.
        draw: as for `send_result`.
    """
    if any(isinstance(logger, GuardedWandb) for logger in loggers):
        send_result(
            loggers,
            read_summary(folder),
            read_lines(folder / EDITS, EDIT_SCHEMA),
            read_lines(folder / PROBES, PROBE_SCHEMA),
            table_edits=table_edits,
            draw=draw,
        )


def choose_edits(rows: Iterable[Row], number: int, seed: int) -> list[int]:
    """The edits of the table: those of the report's gallery, so the same for every editor.

    The worst come first: those with the lowest mean token accuracy of their Reliability and
    Generality probes.

    Args:
        rows: the lines of edits.parquet.
        number: how many edits; all if there are fewer.
        seed: of the run.

    Returns:
        Their ids; edits that took equally well in the order of their ids.
    """
    scores: dict[int, list[float]] = {}
    for row in rows:
        of_edit = scores.setdefault(row["edit_id"], [])
        is_own = row["probe"].startswith(_OF_THE_EDIT) and not is_beside(row["probe"])
        if row["metric"] == TOKEN_ACCURACY and is_own:
            of_edit += [] if _finite(row["value"]) is None else [row["value"]]

    def success(edit: int) -> tuple[float, int]:
        return (sum(scores[edit]) / len(scores[edit]) if scores[edit] else math.inf), edit

    return sorted(sample_edits(scores, seed, number), key=success)


def edit_table(
    edit_ids: Sequence[int],
    rows: Iterable[Row],
    probes: Iterable[Row],
    picture: Callable[[str], Any],
) -> tuple[list[str], list[list[Any]]]:
    """The table of edits.

    Args:
        edit_ids: its edits, in its order.
        rows: the lines of edits.parquet.
        probes: the lines of probes.parquet; a probe without a line has no question.
        picture: from the path of a picture, as `probes` has it, to what stands in the table.

    Returns:
        Column names, and one line per edit and probe; a score that a probe has not is None.
        `before` and `after` are the likeliest tokens at the answer's positions; where answers were
        generated too, `generated` is what the edited model said freely.
    """
    questions = {(row["edit_id"], row["probe"]): row for row in probes}
    scored: dict[int, dict[str, dict[str, Row]]] = {edit: {} for edit in edit_ids}
    for row in rows:
        if row["edit_id"] in scored:
            scored[row["edit_id"]].setdefault(row["probe"], {})[row["metric"]] = row
    by_probe = [probe_rows for edit in edit_ids for probe_rows in scored[edit].values()]
    measures = list(dict.fromkeys(name for by_measure in by_probe for name in by_measure))
    free = [GENERATION_MATCH] if GENERATION_MATCH in measures else []
    lines: list[list[Any]] = []
    for by_measure in by_probe:
        first = by_measure[min(by_measure, key=lambda name: name == GENERATION_MATCH)]
        question = questions.get((first["edit_id"], first["probe"]), {})
        image = question.get("image")
        line = [first["edit_id"], first["subject"], first["probe"], question.get("question")]
        line += [picture(image) if image else None, first["target"]]
        line += [first["pre_text"], first["post_text"]]
        line += [by_measure[name]["post_text"] if name in by_measure else None for name in free]
        line += [
            _finite(by_measure[name]["value"]) if name in by_measure else None for name in measures
        ]
        lines.append(line)
    return [*_COLUMNS, *(["generated"] if free else []), *measures], lines


def _send_numbers(logger: GuardedWandb, summary: Mapping[str, Any]) -> None:
    metrics = _numbers(summary["metrics"])
    logger.log_table(
        "result",
        columns=["metric", "mean", "low", "high", "n"],
        data=[[name, *value.values()] for name, value in metrics.items()],
    )
    variants = _numbers(summary.get("variants") or {})
    beside = (f"_{GAIN}", CHAIN)
    gains = {name: value for name, value in variants.items() if name.endswith(beside)}
    facts = {key: summary[key] for key in COSTS if summary.get(key) is not None}
    facts |= {
        f"{name}/{part}": number
        for name, value in (metrics | gains).items()
        for part, number in value.items()
        if number is not None
    }
    facts |= {f"editor/{key}": mean for key, mean in (summary.get("editor_report") or {}).items()}
    run, points = logger.experiment, curve_points(summary)
    run.summary.update(facts)
    if points:
        run.define_metric(EDITS_IN_PLACE)
        run.define_metric(f"{_protocol(summary)}/*", step_metric=EDITS_IN_PLACE)
    for point in points:
        logger.log_metrics(point)


def curve_points(summary: Mapping[str, Any]) -> list[dict[str, float]]:
    """The points of a run's curve by what W&B calls their numbers; none of single edits.

    Args:
        summary: as for `send_result`.

    Returns:
        For each number of edits in place that number and the means, named by the protocol.
    """
    points = []
    for edits_in_place, point in (summary.get("curve") or {}).items():
        means = {name: value["mean"] for name, value in _numbers(point).items()}
        measured = {
            f"{_protocol(summary)}/{name}": mean for name, mean in means.items() if mean is not None
        }
        points.append(measured | {EDITS_IN_PLACE: int(edits_in_place)})
    return points


def _protocol(summary: Mapping[str, Any]) -> str:
    return str((summary.get("protocol") or {}).get("name", SEQUENTIAL))


def _send_edits(
    logger: GuardedWandb,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    probes: Sequence[Row],
    number: int,
) -> None:
    pictures = open_pictures(Path(summary["settings"]["image_root"]))
    picture = cache(lambda name: thumbnail(pictures.path(name)))
    edit_ids = choose_edits(rows, number, summary["seed"])
    columns, lines = edit_table(edit_ids, rows, probes, picture)
    wandb = import_module("wandb")
    logger.log_metrics({"edits": wandb.Table(columns=columns, data=lines, allow_mixed_types=True)})


def thumbnail(path: PictureFile) -> Any:
    """A small copy of a picture as a `wandb.Image`; None where the file cannot be read any more."""
    try:
        image = shrink(path)
    except DataError:
        return None
    is_small = max(image.size) < SIDE  # a drawing of few pixels suffers from JPEG
    return import_module("wandb").Image(image, file_type="png" if is_small else "jpg")


def _send_figures(logger: GuardedWandb, draw: Callable[[Path], Sequence[Path]]) -> None:
    with TemporaryDirectory(dir=logger.folder) as folder:  # the machine's own may be full
        for file in draw(Path(folder) / "metrics"):
            if file.suffix == ".png":
                logger.log_image(f"figures/{file.stem}", [str(file)])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Name -> mean, low, high, n; None in place of numbers that no record gave."""
    numbers: dict[str, dict[str, float | int | None]] = {}
    for name, value in metrics.items():
        plain: Mapping[str, Any] = value.as_dict() if isinstance(value, Estimate) else value
        low, high = plain["ci95"]
        numbers[name] = {"mean": plain["mean"], "low": low, "high": high, "n": plain["n"]}
    return numbers


def _finite(value: float | None) -> float | None:
    """The value; None for nan and infinity, which a table cannot sort."""
    return None if value is None or not math.isfinite(value) else value
