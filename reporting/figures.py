"""Figures of result folders and training runs, each as PNG and PDF (`reporting.style`).

`base` is always the path of the figure without suffix, and the files written are returned. Bars and
bands are 95 % intervals over records; of a row with several seeds they reach one standard deviation
to each side of the mean over the seeds.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from errors import DataError
from metrics.seeds import Measured
from reporting.comparable import in_order
from reporting.curves import curve_marks, curve_over_seeds
from reporting.entries import Entry
from reporting.formats import BEST, SECOND, ResultTable, plain_text
from reporting.labels import arrow, editor_rank, model_label, scenario_rank
from reporting.paper import paper_columns
from reporting.style import (
    COLUMN_INCHES,
    HATCHES,
    PALETTE,
    STYLE,
    drawn_text,
    legend_columns,
    look,
    save,
)
from reporting.transitivity import GAPS, Gap
from results.files import CURVES
from results.folder import read_run

LOSS_WORDS = ("loss", "nll", "kl")  # columns of metrics.csv that are losses
SCOPE = ("scope/precision", "scope/recall", "scope/margin")  # show a router that never fires
MAX_PANELS = 8
NOTE_CHARACTERS = 15  # per inch, below a table
LABEL_CHARACTERS = 72  # of all names below an axis
LINE_INCHES = 0.19  # of a name in a legend or below an axis
AT_A_FLOOR = "open: not told from a floor"
_OPEN: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": "white"}
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
        base: `curves` in the folder itself if None.

    Raises:
        DataError: the file is missing or unreadable, or has no curve in it.
    """
    curves = read_curves(folder / CURVES)
    with mpl.rc_context(STYLE):
        across = min(3, len(curves))
        down = -(-len(curves) // across)
        figure = Figure(figsize=(COLUMN_INCHES, 2.3 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis, (name, splits) in zip(axes, curves.items(), strict=False):
            for split, series in splits.items():
                _draw_curve(axis, split, series)
            axis.set_title(name)
            axis.set_xlabel("step")
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        lines = {
            text: line
            for axis in axes
            for line, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=3, frameon=False)
        return save(figure, base or folder / "curves")


def grouped_bars(entries: Sequence[Entry], base: Path) -> list[Path]:
    """One group of bars per metric, one bar per row, of one scenario and one model."""
    ordered = in_order(entries)
    names = paper_columns(ordered[0].scenario)
    with mpl.rc_context(STYLE):
        columns = legend_columns([entry.name for entry in ordered])
        height = 3.0 + LINE_INCHES * ((len(ordered) - 1) // columns)
        figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
        axis = figure.subplots()
        for number, entry in enumerate(ordered):
            draw_bars(
                axis,
                np.arange(len(names)) + (number - (len(ordered) - 1) / 2) * 0.8 / len(ordered),
                [entry.metrics.get(name) for name in names],
                0.8 / len(ordered),
                label=drawn_text(entry.name),
                color=look(number).colour,
                hatch=look(number).hatch,
            )
        axis.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
        axis.set_ylim(0, 105)
        axis.set_ylabel("percent")
        axis.set_title(drawn_text(_title(ordered)))
        figure.legend(loc="outside lower center", ncols=columns, frameon=False)
        return save(figure, base)


def scenario_heat_map(entries: Sequence[Entry], base: Path) -> list[Path]:
    """Editors of one model by scenarios, a panel per property: what transfers to pictures."""
    editor_of = {entry.name: entry.editor for entry in entries}
    rows = sorted(editor_of, key=lambda name: editor_rank(editor_of[name]))
    scenarios = sorted({entry.scenario for entry in entries}, key=scenario_rank)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 1.6 + 0.28 * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(HEAT_MAP_METRICS), sharey=True)
        for axis, names in zip(axes, HEAT_MAP_METRICS, strict=True):
            means = np.full((len(rows), len(scenarios)), np.nan)
            for entry in entries:
                measured = [entry.metrics[name] for name in names if name in entry.metrics]
                if measured:
                    cell = rows.index(entry.name), scenarios.index(entry.scenario)
                    means[cell] = measured[0].mean
            axis.imshow(means, cmap="cividis", vmin=0, vmax=100, aspect="auto")
            _write_values(axis, means)
            axis.set_title("\n".join(names) if len(names) > 1 else f"{names[0]}\n", fontsize=8)
            axis.set_xticks(range(len(scenarios)), scenarios, rotation=60, ha="right")
        axes[0].set_yticks(range(len(rows)), map(drawn_text, rows))
        figure.suptitle(drawn_text(f"{model_label(entries[0].model)} (percent)"))
        return save(figure, base)


def gap_bars(gaps: Sequence[Gap], base: Path) -> list[Path]:
    """Per row of one model, how much lower properties are about pictures than in text.

    `reporting.transitivity.gap_caption` says of which kind the 95 % intervals are.
    """
    rows = list(dict.fromkeys(gap.name for gap in gaps))
    width = 0.8 / len(GAPS)
    with mpl.rc_context(STYLE):
        characters = max(8, LABEL_CHARACTERS // len(rows))
        labels = [textwrap.fill(drawn_text(name), characters) for name in rows]
        height = 2.8 + LINE_INCHES * max(label.count("\n") for label in labels)
        figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
        axis = figure.subplots()
        for number, metric in enumerate(GAPS):
            of_metric = [gap for gap in gaps if gap.metric == metric]
            draw_bars(
                axis,
                np.array([rows.index(gap.name) for gap in of_metric]) + (number - 0.5) * width,
                [gap.value for gap in of_metric],
                width,
                label=metric,
                color=PALETTE[4 + number],
                hatch=HATCHES[number],
            )
        axis.axhline(0, color="black", lw=0.8)
        axis.set_xticks(range(len(rows)), labels)
        axis.set_ylabel("text minus seen picture\n(points)")
        axis.set_title(drawn_text(f"{model_label(gaps[0].model)}: transitivity gap"))
        figure.legend(loc="outside lower center", ncols=len(GAPS), frameon=False)
        return save(figure, base)


def edit_curves(entries: Sequence[Entry], base: Path) -> list[Path]:
    """Each metric over the number of edits in place, one panel per metric, with bands.

    A point that is not told from a floor (`reporting.curves.curve_marks`) is drawn open.

    Args:
        entries: of one scenario, model and protocol with many edits in place.
        base: see above.

    Raises:
        DataError: a run has no curve.
    """
    ordered = in_order(entries)
    names = paper_columns(ordered[0].scenario)
    curves = [(drawn_text(entry.name), curve_over_seeds(entry)) for entry in ordered]
    marks = [curve_marks(entry, curve) for entry, (_, curve) in zip(ordered, curves, strict=True)]
    ticks = sorted({edits_in_place for _, curve in curves for edits_in_place in curve})
    across = min(4, len(names))
    down = -(-len(names) // across)
    with mpl.rc_context(STYLE):
        in_legend = [label for label, _ in curves]
        in_legend += [AT_A_FLOOR] if any(any(of_row.values()) for of_row in marks) else []
        columns = legend_columns(in_legend)
        height = 1.9 * down + 0.6 + LINE_INCHES * ((len(in_legend) - 1) // columns)
        figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            for number, (label, curve) in enumerate(curves, start=1):  # grey: the unedited model
                points = {n: point.get(name) for n, point in curve.items()}
                at_a_floor = {n for n, marked in marks[number - 1].items() if name in marked}
                _draw_points(axis, number, label, points, at_a_floor)
            axis.set_title(arrow(name), fontsize=9)
            axis.set_xscale("log")
            axis.set_xticks(ticks, [f"{edits_in_place:,}" for edits_in_place in ticks])
            axis.minorticks_off()
            axis.set_ylim(0, 105)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(names) - across) : len(names)]:
            axis.set_xlabel("edits in place")
            axis.tick_params(labelbottom=True)  # a shared axis labels the lowest line alone
        figure.supylabel("percent", fontsize=9)
        figure.suptitle(drawn_text(_title(ordered)))
        handles, labels = axes[0].get_legend_handles_labels()
        if AT_A_FLOOR in in_legend:
            handles.append(Line2D([], [], linestyle="", **_OPEN, color=PALETTE[0]))
            labels.append(AT_A_FLOOR)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        return save(figure, base)


def _title(entries: Sequence[Entry]) -> str:
    """What stands above a figure of one model in one scenario."""
    return f"{model_label(entries[0].model)}, {entries[0].scenario} scenario"


def result_figure(folder: Path, base: Path) -> list[Path]:
    """The figure of one result: its bars, or its curves where many edits are in place.

    Args:
        folder: of the result.
        base: path of the figure without suffix.
    """
    run = read_run(folder)
    row = [Entry.of(run)]
    return edit_curves(row, base) if run.curve else grouped_bars(row, base)


def table_picture(table: ResultTable, base: Path) -> list[Path]:
    """A result table as a picture, for a README or a slide."""
    titles = [column.title.replace("_", " ") for column in table.columns]
    header = [*table.heads, *table.counts, *titles]
    body = [
        [*map(drawn_text, row.heads), *table.counts_of(row), *map(plain_text, row.cells)]
        for row in table.rows
    ]
    long = max((len(head) for row in table.rows for head in row.heads), default=0)
    width = 1.15 * len(header) + 0.8 + 0.07 * max(0, long - 14)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 0.26 * (len(body) + 1)))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        axis.set_title(drawn_text(table.title), fontsize=10)
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
            for column, cell in enumerate(row.cells, start=len(table.heads) + len(table.counts)):
                if cell.mark == BEST:
                    drawn[line, column].set_text_props(weight="bold")
                elif cell.mark == SECOND:  # matplotlib has no underline
                    drawn[line, column].set_text_props(style="italic")
        characters = int(NOTE_CHARACTERS * width)
        notes = "\n".join(textwrap.fill(drawn_text(note), characters) for note in table.notes)
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
        name: splits for name, splits in curves.items() if any(word in name for word in LOSS_WORDS)
    }
    scope = {name: curves[name] for name in SCOPE if losses and name in curves}
    panels = dict(list((losses or curves).items())[: MAX_PANELS - len(scope)]) | scope
    if not panels:
        raise DataError(
            f"{path} holds no curve; expected are a column step and columns train/<name> or "
            f"val/<name>, found are {', '.join(map(str, log.columns)) or 'none'}."
        )
    return panels


def draw_bars(
    axis: Any, centres: np.ndarray, values: Sequence[Measured | None], width: float, **style: str
) -> None:
    """Bars with what stands around their means; none where nothing was measured."""
    means = np.array([value.mean if value else np.nan for value in values])
    ends = np.array([(v.low, v.high) if v else (np.nan, np.nan) for v in values]).reshape(-1, 2).T
    # A bootstrap interval may miss the mean by rounding; an error bar cannot be < 0.
    errors = np.clip([means - ends[0], ends[1] - means], 0, None)
    axis.bar(
        centres, means, width, yerr=errors, edgecolor="white",
        error_kw={"elinewidth": 0.8, "capsize": 2}, **style,
    )  # fmt: skip


def _draw_points(
    axis: Any,
    number: int,
    label: str,
    points: Mapping[int, Measured | None],
    at_a_floor: Collection[int],
) -> None:
    """One row's line with its band; points without records are left out."""
    measured = {n: value for n, value in points.items() if value and value.n}
    style = look(number)
    axis.plot(
        list(measured),
        [value.mean for value in measured.values()],
        linestyle=style.dash,
        marker=style.marker,
        markersize=3,
        color=style.colour,
        label=label,
    )
    is_open = [n for n in measured if n in at_a_floor]
    axis.plot(
        is_open, [measured[n].mean for n in is_open],
        linestyle="", **(_OPEN | {"marker": style.marker}), color=style.colour,
    )  # fmt: skip
    axis.fill_between(
        list(measured),
        [value.low for value in measured.values()],
        [value.high for value in measured.values()],
        color=style.colour,
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
