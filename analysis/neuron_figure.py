"""The figure of knowledge neurons: what questions share, where updates land, which layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from reporting.figures import COLUMN_INCHES, PALETTE, STYLE, save
from reporting.labels import editor_label, model_label

WHEN = ("before", "after")
QUESTIONS = ("text", "image", "same_type")
PAIRS = ("text-image", "text-same_type", "image-same_type")
MOVED = "before-after"
COLOURS = {"before": PALETTE[2], "after": PALETTE[5], MOVED: PALETTE[3]}
OF_QUESTION = dict(zip(QUESTIONS, (PALETTE[4], PALETTE[1], PALETTE[0]), strict=True))
MARKS = dict(zip(QUESTIONS, "osv", strict=True))
MATRICES = {"mlp_in": "first", "mlp_out": "second"}
LEVELS = {"unrelated": "level: other subjects", "chance": "level: random sets"}
LEVEL_MARKS = {"unrelated": {"marker": "_", "markersize": 7}, "chance": {"marker": ".", "ms": 4}}


def neuron_figure(found: Mapping[str, Any], base: Path) -> list[Path]:
    """Three panels from the numbers of neurons.json; what was not measured stays blank.

    Left: Jaccard overlap of the questions' neurons before and after the edit, and of each question
    with itself. Middle: the part of the update on each question's neurons. Right: layers of the
    neurons, edited layers shaded. Bars carry 95 % intervals and the two levels of chance.

    Args:
        found: the content of neurons.json.
        base: path of the figure without suffix.

    Returns:
        The files written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 3.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(2.4, 1.5, 1.5))
        _draw_overlaps(left, found["overlaps"])
        _draw_landing(middle, found["landing"])
        _draw_layers(right, found)
        shown = _handles(left) | _handles(right) | _handles(middle)
        ordered = sorted(shown, key=lambda text: text in LEVELS.values())
        figure.legend(
            [shown[text] for text in ordered], ordered, loc="outside lower center", ncols=4,
            frameon=False,
        )  # fmt: skip
        figure.suptitle(
            f"Knowledge neurons: {editor_label(found['editor'])} on {model_label(found['model'])}, "
            f"{found['scenario']} scenario, {found['n_edits']} edits"
        )
        return save(figure, base)


def _draw_overlaps(axis: Any, overlaps: Mapping[str, Any]) -> None:
    names = [pair.replace("_", " ").replace("-", " - ") for pair in PAIRS]
    names += [question.replace("_", " ") for question in QUESTIONS]
    for shift, when in ((-0.2, "before"), (0.2, "after")):
        judged = [overlaps[when][pair]["jaccard"] for pair in PAIRS]
        _draw_bars(axis, np.arange(len(PAIRS)) + shift, judged, 0.36, COLOURS[when], when)
    judged = [overlaps[MOVED][question]["jaccard"] for question in QUESTIONS]
    places = len(PAIRS) + np.arange(len(QUESTIONS))
    _draw_bars(axis, places, judged, 0.5, COLOURS[MOVED], "before with after")
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.axvline(len(PAIRS) - 0.5, color=PALETTE[0], lw=0.6)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_ylim(0, None)
    axis.set_ylabel("percent")
    axis.set_title("overlap (Jaccard)\nof two questions | of one with itself", fontsize=9)


def _draw_landing(axis: Any, landing: Mapping[str, Any]) -> None:
    axis.set_title("update on a question's\nneurons (before)", fontsize=9)
    axis.set_ylabel("percent of squared norm")
    if not landing:
        axis.text(0.5, 0.5, "no update", transform=axis.transAxes, ha="center")
        axis.set(xticks=[], yticks=[])
        return
    width = 0.8 / len(QUESTIONS)
    for number, question in enumerate(QUESTIONS):
        judged = [of_matrix["before"][question] for of_matrix in landing.values()]
        places = np.arange(len(judged)) + (number - 1) * width
        _draw_bars(axis, places, judged, width * 0.9, OF_QUESTION[question], _label(question))
    axis.set_xticks(range(len(landing)), [MATRICES[role] for role in landing])
    axis.set_xlabel("edited MLP matrix")
    axis.set_ylim(0, None)


def _draw_layers(axis: Any, found: Mapping[str, Any]) -> None:
    edited = {layer for layers in found["edited"].values() for layer in layers}
    for layer in edited:
        axis.axvspan(layer - 0.5, layer + 0.5, color=PALETTE[7], alpha=0.25, lw=0)
    for question in QUESTIONS:
        for when, dash in (("before", "-"), ("after", "--")):
            shares = found["by_layer"][when][question]
            if shares is not None:
                axis.plot(
                    shares, dash, color=OF_QUESTION[question], marker=MARKS[question], markersize=3,
                    label=_label(question) if when == "before" else None,
                )  # fmt: skip
    step = max(1, found["layers"] // 8)
    axis.set_xticks(range(0, found["layers"], step))
    axis.set_xlim(-0.5, found["layers"] - 0.5)
    axis.set_xlabel("decoder layer" + (" (shaded: edited)" if edited else ""))
    axis.set_ylabel("percent of a set")
    axis.set_ylim(0, None)
    axis.set_title("layers of the neurons\n(dashed: after)", fontsize=9)


def _draw_bars(
    axis: Any,
    places: np.ndarray,
    judged: list[Mapping[str, Any]],
    width: float,
    colour: str,
    label: str,
) -> None:
    """Bars with intervals, and the levels of chance as marks on them."""
    means = _column(judged, "value")
    if np.isnan(means).all():
        return
    ends = np.array([_ends(one["value"]) for one in judged]).T
    axis.bar(
        places, means, width, color=colour, label=label, edgecolor="white",
        yerr=np.clip([means - ends[0], ends[1] - means], 0, None),
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )  # fmt: skip
    for level, text in LEVELS.items():
        values, mark = _column(judged, level), LEVEL_MARKS[level]
        axis.plot(places, values, ls="", color="black", label=text, **mark)


def _label(question: str) -> str:
    return f"{question.replace('_', ' ')} question"


def _column(judged: list[Mapping[str, Any]], name: str) -> np.ndarray:
    means = [one[name]["mean"] for one in judged]
    return np.array([np.nan if mean is None else mean for mean in means])


def _ends(estimate: Mapping[str, Any]) -> tuple[float, float]:
    low, high = estimate["ci95"]
    return (np.nan, np.nan) if low is None else (low, high)


def _handles(axis: Any) -> dict[str, Any]:
    handles, texts = axis.get_legend_handles_labels()
    return dict(zip(texts, handles, strict=True))
