"""The figures, as PNG and PDF: heat map of a causal trace, knowledge neurons in three panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.knowledge_neurons import QUESTIONS
from analysis.neuron_report import MOVED
from analysis.neuron_report import PAIRS as QUESTION_PAIRS
from metrics.bootstrap import Estimate
from reporting.figures import draw_bars
from reporting.labels import editor_label, model_label
from reporting.style import COLUMN_INCHES, PALETTE, STYLE, drawn_text, save

TITLES = {"state": "state after the layer", "mlp": "output of the MLP"}
PAIRS = tuple(f"{a}-{b}" for a, b in QUESTION_PAIRS)
COLOURS = {"before": PALETTE[2], "after": PALETTE[5], MOVED: PALETTE[3]}
QUESTION_COLOURS = dict(zip(QUESTIONS, (PALETTE[4], PALETTE[1], PALETTE[0]), strict=True))
MARKS = dict(zip(QUESTIONS, "osv", strict=True))
MATRICES = {"mlp_gate": "gate", "mlp_in": "first", "mlp_out": "second"}
LEVELS = {"unrelated": "level: other subjects", "chance": "level: random sets"}
LEVEL_MARKS = {"unrelated": {"marker": "_", "markersize": 7}, "chance": {"marker": ".", "ms": 4}}


def trace_figure(
    effects: Mapping[str, np.ndarray], tokens: Sequence[str], base: Path, *, model: str
) -> list[Path]:
    """One panel per kind of state: rows are kinds of token, columns layers.

    Args:
        effects: kind -> (tokens, layers) indirect effect on the answer's probability; NaN is blank.
        tokens: names of the rows.
        base: path of the figure without suffix.
        model: name of the model, for the title.
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
        figure.suptitle(drawn_text(f"Causal trace of {model}"))
        return save(figure, base)


def neuron_figure(numbers: Mapping[str, Any], base: Path) -> list[Path]:
    """Three panels from the numbers of neurons.json; what was not measured stays blank.

    Left: Jaccard overlap of the questions' neurons before and after the edit, and of each question
    with itself. Middle: the part of the update on each question's neurons. Right: layers of the
    neurons, edited layers shaded. Bars carry 95 % intervals and the two levels of chance.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_INCHES, 3.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(2.4, 1.5, 1.5))
        _draw_overlaps(left, numbers["overlaps"])
        _draw_landing(middle, numbers["landing"])
        _draw_layers(right, numbers)
        entries = _handles(left) | _handles(right) | _handles(middle)
        ordered = sorted(entries, key=lambda text: text in LEVELS.values())
        figure.legend(
            [entries[text] for text in ordered], ordered, loc="outside lower center", ncols=4,
            frameon=False,
        )  # fmt: skip
        figure.suptitle(
            drawn_text(
                f"Knowledge neurons: {editor_label(numbers['editor'])} on "
                f"{model_label(numbers['model'])}, {numbers['scenario']} scenario, "
                f"{numbers['n_edits']} edits"
            )
        )
        return save(figure, base)


def _draw_overlaps(axis: Any, overlaps: Mapping[str, Any]) -> None:
    names = [pair.replace("_", " ").replace("-", " - ") for pair in PAIRS]
    names += [question.replace("_", " ") for question in QUESTIONS]
    for shift, when in ((-0.2, "before"), (0.2, "after")):
        bars = [overlaps[when][pair]["jaccard"] for pair in PAIRS]
        _draw_bars(axis, np.arange(len(PAIRS)) + shift, bars, 0.36, COLOURS[when], when)
    bars = [overlaps[MOVED][question]["jaccard"] for question in QUESTIONS]
    places = len(PAIRS) + np.arange(len(QUESTIONS))
    _draw_bars(axis, places, bars, 0.5, COLOURS[MOVED], "before with after")
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
        bars = [by_time["before"][question] for by_time in landing.values()]
        places = np.arange(len(bars)) + (number - 1) * width
        _draw_bars(axis, places, bars, width * 0.9, QUESTION_COLOURS[question], _label(question))
    axis.set_xticks(range(len(landing)), [MATRICES[role] for role in landing])
    axis.set_xlabel("edited MLP matrix")
    axis.set_ylim(0, None)


def _draw_layers(axis: Any, numbers: Mapping[str, Any]) -> None:
    edited = {layer for layers in numbers["edited"].values() for layer in layers}
    for layer in edited:
        axis.axvspan(layer - 0.5, layer + 0.5, color=PALETTE[7], alpha=0.25, lw=0)
    for question in QUESTIONS:
        for when, dash in (("before", "-"), ("after", "--")):
            shares = numbers["by_layer"][when][question]
            if shares is not None:
                axis.plot(
                    shares, dash, color=QUESTION_COLOURS[question], marker=MARKS[question],
                    markersize=3, label=_label(question) if when == "before" else None,
                )  # fmt: skip
    axis.set_xticks(_ticks(numbers["layers"]))
    axis.set_xlim(-0.5, numbers["layers"] - 0.5)
    axis.set_xlabel("decoder layer" + (" (shaded: edited)" if edited else ""))
    axis.set_ylabel("percent of a set")
    axis.set_ylim(0, None)
    axis.set_title("layers of the neurons\n(dashed: after)", fontsize=9)


def _draw_bars(
    axis: Any,
    places: np.ndarray,
    bars: list[Mapping[str, Any]],
    width: float,
    colour: str,
    label: str,
) -> None:
    """Bars with intervals, and the levels of chance as marks on them."""
    estimates = [_estimate(bar["value"]) for bar in bars]
    if not any(estimates):
        return
    draw_bars(axis, places, estimates, width, color=colour, label=label)
    for level, text in LEVELS.items():
        values, mark = _column(bars, level), LEVEL_MARKS[level]
        axis.plot(places, values, ls="", color="black", label=text, **mark)


def _label(question: str) -> str:
    return f"{question.replace('_', ' ')} question"


def _column(bars: list[Mapping[str, Any]], name: str) -> np.ndarray:
    means = [bar[name]["mean"] for bar in bars]
    return np.array([np.nan if mean is None else mean for mean in means])


def _estimate(value: Mapping[str, Any]) -> Estimate | None:
    if not value["n"]:
        return None
    low, high = (math.nan if end is None else end for end in value["ci95"])
    return Estimate(value["mean"], low, high, value["n"])


def _handles(axis: Any) -> dict[str, Any]:
    handles, texts = axis.get_legend_handles_labels()
    return dict(zip(texts, handles, strict=True))


def _ticks(layers: int) -> list[int]:
    """A tick per layer where there are few, else about eight."""
    return list(range(0, layers, max(1, layers // 8)))
