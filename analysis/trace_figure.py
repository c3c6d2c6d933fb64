"""The heat map of a causal trace, as PNG and PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from reporting.figures import COLUMN_INCHES, STYLE, save

TITLES = {"state": "state after the layer", "mlp": "output of the MLP"}


def trace_figure(
    effects: Mapping[str, np.ndarray], tokens: Sequence[str], base: Path, *, model: str
) -> list[Path]:
    """One panel per kind of state: rows are kinds of token, columns layers.

    Args:
        effects: kind -> (tokens, layers) indirect effect on the answer's probability; NaN is blank.
        tokens: names of the rows.
        base: path of the figure without suffix.
        model: name of the model, for the title.

    Returns:
        The files written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 2.4), layout="constrained")
        axes = figure.subplots(1, len(effects), squeeze=False)[0]
        for axis, (kind, effect) in zip(axes, effects.items(), strict=True):
            top = max(float(np.nanmax(effect)), 1e-6)
            image = axis.imshow(effect, cmap="cividis", vmin=0.0, vmax=top, aspect="auto")
            axis.set_title(TITLES.get(kind, kind))
            axis.set_xlabel("decoder layer")
            axis.set_xticks(_ticks(effect.shape[1]))
            axis.set_yticks(range(len(tokens)), [name.replace("_", " ") for name in tokens])
            figure.colorbar(image, ax=axis, label="probability brought back")
        figure.suptitle(f"Causal trace of {model}")
        return save(figure, base)


def _ticks(layers: int) -> list[int]:
    """A tick per layer where there are few, else about eight."""
    return list(range(0, layers, max(1, layers // 8)))
