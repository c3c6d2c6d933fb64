"""Small multiples of results by relation or target, as PNG and PDF (`reporting.style`)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from reporting.figures import LINE_INCHES
from reporting.groups import Group
from reporting.labels import model_label
from reporting.paper import paper_columns
from reporting.style import COLUMN_INCHES, STYLE, Look, drawn_text, legend_columns, look, save

ACROSS = 3  # panels side by side
_PANEL_INCHES = 1.75
_TITLE_CHARACTERS = 30
_NOT_DRAWN = ("Reliability_U", "Generality_U", "Locality_I")  # as their neighbours, in a panel


def group_points(groups: Sequence[Group], base: Path) -> list[Path]:
    """A panel per group, with a point per metric and row and the interval around it.

    Args:
        groups: of one model and scenario, in order.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    names = list(dict.fromkeys(group.name for group in groups))
    rows = list(dict.fromkeys(group.entry.name for group in groups))
    metrics = [n for n in paper_columns(groups[0].entry.scenario) if n not in _NOT_DRAWN]
    down = -(-len(names) // ACROSS)
    columns = legend_columns(rows)
    with mpl.rc_context(STYLE):
        height = _PANEL_INCHES * down + 0.8 + LINE_INCHES * ((len(rows) - 1) // columns)
        figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
        axes = figure.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            of_name = [group for group in groups if group.name == name]
            for group in of_name:
                number = rows.index(group.entry.name)
                shift = (number - (len(rows) - 1) / 2) * 0.8 / len(rows)
                _draw_points(axis, group, metrics, shift, look(number))
            title = f"{name} (n = {max(group.n for group in of_name)})"
            axis.set_title(textwrap.fill(drawn_text(title), _TITLE_CHARACTERS), fontsize=8)
            axis.set_ylim(-5, 105)
            axis.set_xticks(
                range(len(metrics)),
                [metric.replace("_", " ") for metric in metrics],
                rotation=40, ha="right", fontsize=7,
            )  # fmt: skip
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for place in range(len(names)):  # the lowest panel of each column names its bars
            axes[place].tick_params(labelbottom=place + ACROSS >= len(names))
        drawn = {
            text: bars
            for axis in axes
            for bars, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.supylabel("percent", fontsize=9)
        first = groups[0].entry
        figure.suptitle(drawn_text(f"{model_label(first.model)}, {first.scenario} scenario"))
        figure.legend(
            drawn.values(), drawn, loc="outside lower center", ncols=columns, frameon=False
        )
        return save(figure, base)


def _draw_points(
    axis: Any, group: Group, metrics: Sequence[str], shift: float, style: Look
) -> None:
    """A row's means in one panel with what stands around them; none where nothing was measured."""
    values = [group.values.get(metric) for metric in metrics]
    told = [value if value is not None and value.n else None for value in values]
    means = np.array([value.mean if value else np.nan for value in told])
    ends = np.array([(v.low, v.high) if v else (np.nan, np.nan) for v in told]).T
    axis.errorbar(
        np.arange(len(metrics)) + shift,
        means,
        # A bootstrap interval may miss the mean by rounding; an error bar cannot be < 0.
        yerr=np.clip([means - ends[0], ends[1] - means], 0, None),
        fmt=style.marker,
        color=style.colour,
        markersize=3.5,
        elinewidth=1,
        label=drawn_text(group.entry.name),
    )
