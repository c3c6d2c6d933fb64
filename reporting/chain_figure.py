"""Stacked bars of where the chain breaks, as PNG and PDF (`reporting.style`)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from metrics.chain import BY_CHANCE, CARRIED, CLASSES, NOT_CARRIED, NOT_RECOGNISED
from reporting.chain import Split
from reporting.labels import model_label
from reporting.style import COLUMN_INCHES, HATCHES, PALETTE, STYLE, drawn_text, save

# One colour a class in all figures: what has come by the chain, what has not, where it broke.
_LOOKS = {
    CARRIED: (PALETTE[3], HATCHES[0]),
    BY_CHANCE: (PALETTE[1], HATCHES[1]),
    NOT_CARRIED: (PALETTE[4], HATCHES[3]),
    NOT_RECOGNISED: (PALETTE[0], HATCHES[2]),
}
_LABEL_CHARACTERS = 34
_BAR_INCHES = 0.3
_WRITTEN_FROM = 6  # percent; a narrower piece has no room for its number


def chain_bars(splits: Sequence[Split], base: Path) -> list[Path]:
    """One bar per row and picture, in pieces that sum to 100 percent.

    Args:
        splits: of one model and scenario, from top to bottom.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    first = splits[0].entry
    labels = [
        textwrap.fill(drawn_text(f"{split.entry.name}, {split.picture}"), _LABEL_CHARACTERS)
        for split in splits
    ]
    with mpl.rc_context(STYLE):
        height = 1.5 + _BAR_INCHES * len(splits) + 0.15 * sum(name.count("\n") for name in labels)
        figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
        axis = figure.subplots()
        places, left = np.arange(len(splits)), np.zeros(len(splits))
        for name in CLASSES:
            shares = np.array([split.shares[name].mean for split in splits])
            colour, hatch = _LOOKS[name]
            bars = axis.barh(
                places, shares, 0.72, left, label=name, color=colour, hatch=hatch, edgecolor="white"
            )
            axis.bar_label(
                bars,
                [f"{share:.0f}" if share >= _WRITTEN_FROM else "" for share in shares],
                label_type="center",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            )
            left += shares
        axis.set_yticks(places, labels)
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel("percent of the records with a naming question")
        axis.set_title(drawn_text(f"{model_label(first.model)}, {first.scenario} scenario"))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return save(figure, base)
