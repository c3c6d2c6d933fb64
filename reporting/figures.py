"""Figures of result folders and training runs, each as PNG and PDF (`reporting.style`)."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from errors import DataError
from metrics.bootstrap import Estimate
from reporting.formats import BEST, SECOND, ResultTable, plain_text
from reporting.labels import arrow, editor_label, editor_rank, model_label, scenario_rank
from reporting.paper import paper_columns
from reporting.sequential import curve_of
from reporting.style import (
    COLUMN_INCHES,
    DASHES,
    HATCHES,
    MARKERS,
    PALETTE,
    STYLE,
    save,
)
from reporting.transitivity import GAPS, transitivity_gaps
from results.files import CURVES
from results.folder import RunResult

LOSS_WORDS = ("loss", "nll", "kl")  # columns of metrics.csv that are losses
SCOPE = (
    "scope/precision",
    "scope/recall",
    "scope/margin",
)  # a router that never fires
MAX_PANELS = 8
NOTE_CHARACTERS = 15  # per inch, below a table
SMOOTH_FROM = 60  # curves with more points than this get a running mean over them

# One number per scenario and property, for the heat map: the name in the unimodal scenario, then
# the one with pictures that the edit itself saw.
HEAT_MAP_METRICS = (
    ("Reliability", "Reliability_S"),
    ("Generality", "Generality_S"),
    ("Portability",),
    ("Locality", "Locality_T"),
    ("Stability",),
)


def training_curves(folder: Path, base: Path | None = None) -> list[Path]:
    """Loss curves of a training run, one panel per loss, training and validation together.

    Args:
        folder: of a training run. Its metrics.csv is Lightning's CSV log with columns
            `train/<name>` and `val/<name>`; losses are those whose name holds loss, nll or kl, or
            all of them if none does. Beside the losses stands the quality of a scope classifier.
        base: path of the figure without suffix; `curves` in the folder itself if None.

    Returns:
        The files written.

    Raises:
        DataError: the file is missing or unreadable, or has no curve in it.
    """
    curves = read_curves(folder / CURVES)
    with mpl.rc_context(STYLE):
        columns = min(3, len(curves))
        lines = -(-len(curves) // columns)
        figure = Figure(figsize=(COLUMN_INCHES, 2.3 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis, (name, splits) in zip(axes, curves.items(), strict=False):
            for split, series in splits.items():
                _draw_curve(axis, split, series)
            axis.set_title(name)
            axis.set_xlabel("step")
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        drawn = {
            text: line
            for axis in axes
            for line, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=3, frameon=False)
        return save(figure, base or folder / "curves")


def grouped_bars(runs: Sequence[RunResult], base: Path) -> list[Path]:
    """One group of bars per metric, one bar per editor, with 95 % intervals.

    Args:
        runs: of one scenario and one model.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    ordered = sorted(runs, key=lambda run: editor_rank(run.editor))
    names = paper_columns(ordered[0].scenario)
    width = 0.8 / len(ordered)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 3.0), layout="constrained")
        axis = figure.subplots()
        for number, run in enumerate(ordered):
            found = [run.metrics.get(name) for name in names]
            means = np.array([value.mean if value else np.nan for value in found])
            ends = np.array([(v.low, v.high) if v else (np.nan, np.nan) for v in found]).T
            axis.bar(
                np.arange(len(names)) + (number - (len(ordered) - 1) / 2) * width,
                means,
                width,
                # A bootstrap interval may miss the mean by rounding; an error bar cannot be < 0.
                yerr=np.clip([means - ends[0], ends[1] - means], 0, None),
                label=editor_label(run.editor),
                color=PALETTE[number % len(PALETTE)],
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor="white",
                error_kw={"elinewidth": 0.8, "capsize": 2},
            )
        axis.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
        axis.set_ylim(0, 105)
        axis.set_ylabel("percent")
        axis.set_title(f"{model_label(ordered[0].model)}, {ordered[0].scenario} scenario")
        figure.legend(loc="outside lower center", ncols=min(6, len(ordered)), frameon=False)
        return save(figure, base)


def scenario_heat_map(runs: Sequence[RunResult], base: Path) -> list[Path]:
    """Editors by scenarios, one panel per property: what transfers from text to pictures.

    Args:
        runs: of one model, over the scenarios.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    editors = sorted({run.editor for run in runs}, key=editor_rank)
    scenarios = sorted({run.scenario for run in runs}, key=scenario_rank)
    by_place = {(run.editor, run.scenario): run for run in runs}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 1.6 + 0.28 * len(editors)), layout="constrained")
        axes = figure.subplots(1, len(HEAT_MAP_METRICS), sharey=True)
        for axis, names in zip(axes, HEAT_MAP_METRICS, strict=True):
            values = np.full((len(editors), len(scenarios)), np.nan)
            for (editor, scenario), run in by_place.items():
                found = [run.metrics[name] for name in names if name in run.metrics]
                if found:
                    values[editors.index(editor), scenarios.index(scenario)] = found[0].mean
            axis.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
            _write_values(axis, values)
            axis.set_title("\n".join(names) if len(names) > 1 else f"{names[0]}\n", fontsize=8)
            axis.set_xticks(range(len(scenarios)), scenarios, rotation=60, ha="right")
        axes[0].set_yticks(range(len(editors)), [editor_label(name) for name in editors])
        figure.suptitle(f"{model_label(runs[0].model)} (percent)")
        return save(figure, base)


def transitivity_gap(runs: Sequence[RunResult], base: Path) -> list[Path]:
    """Per editor, how much lower Reliability and Generality are about pictures than in text.

    `reporting.transitivity.gap_caption` says of which kind the 95 % intervals are.

    Args:
        runs: of one model, in the unimodal and the transitive scenario.
        base: path of the figure without suffix.

    Returns:
        The files written.

    Raises:
        DataError: no editor has both runs with an `edits.parquet`, or a table cannot be read.
    """
    gaps = transitivity_gaps(runs)
    if not gaps:
        raise DataError(
            f"No transitivity gap of {model_label(runs[0].model)}: an editor has to be judged in "
            "the unimodal and the transitive scenario, on the same data and with the same scoring."
        )
    editors = list(dict.fromkeys(gap.editor for gap in gaps))
    width = 0.8 / len(GAPS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 2.8), layout="constrained")
        axis = figure.subplots()
        for number, metric in enumerate(GAPS):
            own = [gap for gap in gaps if gap.metric == metric]
            means = np.array([gap.value.mean for gap in own])
            ends = np.array([(gap.value.low, gap.value.high) for gap in own]).T
            axis.bar(
                np.array([editors.index(gap.editor) for gap in own]) + (number - 0.5) * width,
                means,
                width,
                yerr=np.clip([means - ends[0], ends[1] - means], 0, None) if own else None,
                label=metric,
                color=PALETTE[4 + number],
                hatch=HATCHES[number],
                edgecolor="white",
                error_kw={"elinewidth": 0.8, "capsize": 2},
            )
        axis.axhline(0, color="black", lw=0.8)
        axis.set_xticks(range(len(editors)), [editor_label(name) for name in editors])
        axis.set_ylabel("text minus seen picture\n(points)")
        axis.set_title(f"{model_label(gaps[0].model)}: transitivity gap")
        figure.legend(loc="outside lower center", ncols=len(GAPS), frameon=False)
        return save(figure, base)


def sequential_curves(
    runs: Sequence[RunResult], base: Path, columns: Sequence[str] | None = None
) -> list[Path]:
    """Each metric over the number of edits in place, one panel per metric, with 95 % bands.

    Args:
        runs: of one scenario and model, with protocol "sequential".
        base: path of the figure without suffix.
        columns: metrics to show; the paper's columns of the scenario if None.

    Returns:
        The files written.

    Raises:
        DataError: a run has no curve.
    """
    ordered = sorted(runs, key=lambda run: editor_rank(run.editor))
    names = paper_columns(ordered[0].scenario) if columns is None else tuple(columns)
    curves = [(editor_label(run.editor), curve_of(run)) for run in ordered]
    places = sorted({place for _, curve in curves for place in curve})
    across = min(4, len(names))
    down = -(-len(names) // across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 1.9 * down + 0.6), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            for number, (label, curve) in enumerate(curves, start=1):  # grey: the unedited model
                _draw_points(
                    axis, number, label, {n: point.get(name) for n, point in curve.items()}
                )
            axis.set_title(arrow(name), fontsize=9)
            axis.set_xscale("log")
            axis.set_xticks(places, [f"{place:,}" for place in places])
            axis.minorticks_off()
            axis.set_ylim(0, 105)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(names) - across) : len(names)]:
            axis.set_xlabel("edits in place")
            axis.tick_params(labelbottom=True)  # a shared axis labels the lowest line alone
        figure.supylabel("percent", fontsize=9)
        figure.suptitle(f"{model_label(ordered[0].model)}, {ordered[0].scenario} scenario")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(6, len(curves)), frameon=False
        )
        return save(figure, base)


def table_picture(table: ResultTable, base: Path) -> list[Path]:
    """A result table as a picture, for a README or a slide.

    Args:
        table: what to draw.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    titles = [column.title.replace("_", " ") for column in table.columns]
    header = [*table.heads, "n", *titles]
    body = [[*row.heads, row.n, *(plain_text(cell) for cell in row.cells)] for row in table.rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.15 * len(header) + 0.8, 0.26 * (len(body) + 1)))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        axis.set_title(table.title, fontsize=10)
        drawn = axis.table(
            body, colLabels=header, cellLoc="center", edges="horizontal", bbox=Bbox.unit()
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(9)
        drawn.auto_set_column_width(range(len(header)))
        for frame in drawn.get_celld().values():
            frame.set_linewidth(0.4)
        for column in range(len(header)):
            drawn[0, column].set_text_props(weight="bold")
        for line, row in enumerate(table.rows, start=1):
            for column, cell in enumerate(row.cells, start=len(table.heads) + 1):
                if cell.mark == BEST:
                    drawn[line, column].set_text_props(weight="bold")
                elif cell.mark == SECOND:  # matplotlib has no underline
                    drawn[line, column].set_text_props(style="italic")
        width = int(NOTE_CHARACTERS * figure.get_figwidth())
        notes = "\n".join(textwrap.fill(note, width) for note in table.notes)
        axis.text(0, -0.01, notes, va="top", fontsize=8, transform=axis.transAxes)
        return save(figure, base)


def read_curves(path: Path) -> dict[str, dict[str, pd.Series]]:
    """{loss: {split: values by step}} of a metrics.csv, and of a scope classifier's quality."""
    try:
        log = pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; train.py writes it: give its folder.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); train again.") from error
    curves: dict[str, dict[str, pd.Series]] = {}
    for column in log.columns:
        split, _, rest = column.partition("/")
        name = rest.removesuffix("_step")
        per_epoch_twin = name.endswith("_epoch") and f"{column.removesuffix('_epoch')}_step" in log
        if split in ("train", "val") and "step" in log and not per_epoch_twin:
            series = log[["step", column]].dropna().groupby("step")[column].last()
            if len(series):
                curves.setdefault(name.removesuffix("_epoch"), {})[split] = series
    losses = {
        name: found for name, found in curves.items() if any(word in name for word in LOSS_WORDS)
    }
    scope = {name: curves[name] for name in SCOPE if losses and name in curves}
    chosen = dict(list((losses or curves).items())[: MAX_PANELS - len(scope)]) | scope
    if not chosen:
        raise DataError(
            f"{path} holds no curve; expected are a column step and columns train/<name> or "
            f"val/<name>, found are {', '.join(map(str, log.columns)) or 'none'}."
        )
    return chosen


def _draw_points(axis: Any, number: int, label: str, points: Mapping[int, Estimate | None]) -> None:
    """One editor's line with its band; points without records are left out."""
    measured = {n: value for n, value in points.items() if value and value.n}
    style = number % len(PALETTE)
    places = list(measured)
    axis.plot(
        places,
        [value.mean for value in measured.values()],
        linestyle=DASHES[style],
        marker=MARKERS[style],
        markersize=3,
        color=PALETTE[style],
        label=label,
    )
    axis.fill_between(
        places,
        [value.low for value in measured.values()],
        [value.high for value in measured.values()],
        color=PALETTE[style],
        alpha=0.2,
        linewidth=0,
    )


def _draw_curve(axis: Any, split: str, series: pd.Series) -> None:
    """Training in the background colour, validation as a marked line on top."""
    steps, values = series.index.to_numpy(), series.to_numpy()
    if split == "val":
        axis.plot(steps, values, "o-", color=PALETTE[5], markersize=3, label="validation")
        return
    is_long = len(values) > SMOOTH_FROM
    axis.plot(
        steps, values, color=PALETTE[4], alpha=0.3 if is_long else 1, lw=1,
        label=None if is_long else "training",
    )  # fmt: skip
    if is_long:
        mean = series.rolling(len(values) // 20, center=True, min_periods=1).mean()
        axis.plot(steps, mean.to_numpy(), color=PALETTE[4], label="training (running mean)")


def _write_values(axis: Any, values: np.ndarray) -> None:
    """The numbers of a heat map, readable on dark and light cells."""
    for (line, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.0f}"
        colour = "black" if np.isnan(value) or value > 55 else "white"
        axis.text(column, line, text, ha="center", va="center", color=colour, fontsize=8)
