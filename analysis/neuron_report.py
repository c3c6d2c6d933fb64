"""What knowledge neurons say of edits: overlaps of questions, and where the updates land.

Tables with a line per edit and comparison, and the means over edits:

* `overlaps`: two questions at the same time, and each question with itself before and after.
* `landing`: the part of an update's squared norm that falls on a question's neurons in the edited
  layers. Chance is their part of all neurons there, `unrelated` the same update on the neurons of
  edits of other subjects.
* `neurons`: the coarse sets themselves.
* `shortcuts`: the authors' share, where it is asked for (`analysis.shortcut`).

In the tables values are fractions, and null where there is none; means are percent, with 95 %
bootstrap intervals over edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from analysis.judging import Judge
from analysis.knowledge_neurons import (
    QUESTIONS,
    WHEN,
    Neurons,
    NeuronSet,
    Question,
    Update,
    When,
    find_neurons,
    neuron_scenario,
)
from analysis.overlap import Floats, Ids, overlaps, unrelated_mean
from analysis.shortcut import shortcut_lines, shortcut_numbers, shortcut_settings
from configs.schema import EvaluateConfig
from datamodules.relations import cluster_of
from results import provenance
from results.partial import Line
from runner import assembly
from runner.start import Placement

PAIRS: tuple[tuple[Question, Question], ...] = (
    ("text", "image"), ("text", "same_type"), ("image", "same_type"),
)  # fmt: skip
MOVED = "before-after"  # a question with itself
_TRANSFER = "text-image"

QuestionAt = tuple[When, Question]


def analyse(
    placement: Placement[EvaluateConfig], *, steps: int, threshold: float, shortcut: bool = False
) -> tuple[dict[str, Any], dict[str, list[Line]]]:
    """Everything that `python -m analysis knowledge_neurons` writes.

    Args:
        placement: of the configuration of `evaluate.py`.
        steps: of the integrated gradients.
        threshold: of the coarse sets.
        shortcut: whether the authors' shortcut share is told too.

    Returns:
        The content of neurons.json, and the lines of the tables by name.

    Raises:
        ConfigError: the editor's edits are not weight deltas.
        DataError: records or pictures are missing or broken.
        ModelError: the base model or the checkpoint cannot be used.
    """
    cfg, device = placement.cfg, placement.device
    scenario = neuron_scenario(cfg.scenario.name, shortcut=shortcut)
    scenario = assembly.taught_scenario(scenario, cfg.editor)
    parts = assembly.open_parts(cfg, {"test": scenario}, device)
    editor = assembly.open_editor(cfg, parts)
    if isinstance(editor, nn.Module):
        editor.to(device)
    batches = parts.data.test_dataloader()
    neurons = find_neurons(
        parts.model, editor, batches, steps=steps, threshold=threshold, shortcut=shortcut
    )
    overlapping, landing = overlap_lines(neurons), landing_lines(neurons)
    shortcuts = shortcut_lines(
        neurons.chains, neurons.edit_ids, neurons.subjects, n=neurons.layers * neurons.per_layer
    )
    of_edits = enumerate(parts.data.records("test"))
    clusters = {edit: cluster_of(record, cfg.metrics.cluster) for edit, record in of_edits}
    settings = {
        "steps": steps,
        "threshold": threshold,
        "shortcut": shortcut_settings() if shortcut else None,
        "cluster": cfg.metrics.cluster,
        "editor": cfg.editor.model_dump(),
        "ckpt": cfg.ckpt,
        "data": cfg.data.model_dump(),
        "data_digest": parts.data.source.digest(),
        "model_digest": parts.model.fingerprint(),
        "model_revision": cfg.model.revision,
        "prompt": cfg.data.prompt,
        "dtype": cfg.model.dtype,
        "quantise": cfg.model.quantise,
        "device": str(parts.model.device),
        "git": provenance.git_state(),
    }
    header = {
        "editor": cfg.editor.label,
        "model": cfg.model.name,
        "scenario": cfg.scenario.name,
        "data": cfg.data.name,
        "n_edits": len(neurons.edit_ids),
        "seed": cfg.seed,
        "settings": settings,
        "versions": provenance.versions(),
    }
    tables = {"neurons": neuron_lines(neurons), "overlaps": overlapping, "landing": landing}
    told = {edit: cluster for edit, cluster in clusters.items() if cluster is not None} or None
    means = numbers(neurons, overlapping, landing, shortcuts, seed=cfg.seed, clusters=told)
    return header | means, tables | {"shortcuts": shortcuts}


def comparisons() -> Iterator[tuple[str, str, QuestionAt, QuestionAt]]:
    """When, name, and the two sets of each comparison."""
    for when in WHEN:
        for a, b in PAIRS:
            yield when, f"{a}-{b}", (when, a), (when, b)
    for question in QUESTIONS:
        yield MOVED, question, ("before", question), ("after", question)


def neuron_lines(neurons: Neurons) -> list[Line]:
    """The coarse sets, a line per neuron."""
    lines: list[Line] = []
    for (when, question), sets in neurons.sets.items():
        for edit_id, subject, coarse in zip(neurons.edit_ids, neurons.subjects, sets, strict=True):
            if coarse is None:
                continue
            for neuron, value in zip(coarse.ids.tolist(), coarse.attribution.tolist(), strict=True):
                layer, number = divmod(neuron, neurons.per_layer)
                lines.append(
                    {
                        "edit_id": edit_id,
                        "subject": subject,
                        "when": when,
                        "question": question,
                        "layer": layer,
                        "neuron": number,
                        "attribution": value,
                    }
                )
    return lines


def overlap_lines(neurons: Neurons) -> list[Line]:
    """The comparisons, a line per edit; null where a set is missing or both are empty."""
    lines: list[Line] = []
    n = neurons.layers * neurons.per_layer
    for when, pair, a, b in comparisons():
        first, second = _ids(neurons.sets[a]), _ids(neurons.sets[b])
        overlap = overlaps(first, second, subjects=neurons.subjects, n=n)
        for edit, edit_id in enumerate(neurons.edit_ids):
            sizes = {"size_a": _size(first[edit]), "size_b": _size(second[edit])}
            about = {"edit_id": edit_id, "subject": neurons.subjects[edit]}
            lines.append(about | {"when": when, "pair": pair} | sizes | overlap.of(edit))
    return lines


def landing_lines(neurons: Neurons) -> list[Line]:
    """How much of each update falls on each question's neurons, a line per edit."""
    lines: list[Line] = []
    for role, update in neurons.updates.items():
        for (when, question), sets in neurons.sets.items():
            inside = [_inside(coarse, update, neurons.per_layer) for coarse in sets]
            share, chance, unrelated = _landing(inside, update, neurons.subjects)
            for edit, edit_id in enumerate(neurons.edit_ids):
                about = {"edit_id": edit_id, "subject": neurons.subjects[edit], "matrix": role}
                values = {"share": share, "chance": chance, "unrelated": unrelated}
                fractions = {name: _number(value[edit]) for name, value in values.items()}
                lines.append(about | {"when": when, "question": question} | fractions)
    return lines


def numbers(
    neurons: Neurons,
    overlapping: Sequence[Line],
    landing: Sequence[Line],
    shortcuts: Sequence[Line] = (),
    *,
    seed: int,
    clusters: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Means over edits, for neurons.json: percent with interval and number of edits.

    Args:
        neurons: the neurons.
        overlapping: from `overlap_lines`.
        landing: from `landing_lines`.
        shortcuts: from `shortcut_lines`.
        seed: of the bootstrap.
        clusters: edit -> what it is drawn together by; None: each alone.
    """
    judge = Judge(seed, clusters)
    sizes = {
        key: [
            {"edit_id": edit_id, "size": len(coarse.ids)}
            for edit_id, coarse in zip(neurons.edit_ids, sets, strict=True)
            if coarse is not None
        ]
        for key, sets in neurons.sets.items()
    }
    spread = {key: _by_layer(neurons, sets) for key, sets in neurons.sets.items()}
    return {
        "layers": neurons.layers,
        "neurons_per_layer": neurons.per_layer,
        "edited": {role: list(update.layers) for role, update in neurons.updates.items()},
        "answered": _nested({key: len(values) for key, values in sizes.items()}),
        "neurons": _nested({k: judge.mean(v, "size") for k, v in sizes.items()}),
        "by_layer": _nested(spread),
        "overlaps": _nested(
            {
                (when, pair): {
                    measure: judge(lines, measure, f"chance_{measure}")
                    for measure in ("jaccard", "share")
                }
                for (when, pair), lines in _grouped(overlapping, "when", "pair").items()
            }
        ),
        "transfer": {
            name: judge(lines, "jaccard", "chance_jaccard")
            for name, lines in _by_transfer(neurons, overlapping).items()
        },
        "landing": {
            role: _nested(
                {
                    key: judge(lines, "share", "chance")
                    for key, lines in _grouped(of_role, "when", "question").items()
                }
            )
            for (role,), of_role in _grouped(landing, "matrix").items()
        },
        "shortcut": shortcut_numbers(shortcuts, judge),
    }


def _by_transfer(neurons: Neurons, overlapping: Sequence[Line]) -> dict[str, list[Line]]:
    """What text and image question shared before edits that then reach the picture, or do not.

    Counted are edits that are answered in text: those whose new answer the image question gives
    too, and those where it does not.
    """
    parts: dict[str, list[Line]] = {"reached": [], "not_reached": []}
    shared = [line for line in overlapping if (line["when"], line["pair"]) == ("before", _TRANSFER)]
    text, image = neurons.sets["after", "text"], neurons.sets["after", "image"]
    for line, in_text, on_picture in zip(shared, text, image, strict=True):
        if in_text is not None:
            parts["not_reached" if on_picture is None else "reached"].append(line)
    return parts


def _landing(
    inside: Sequence[Ids | None], update: Update, subjects: Sequence[str]
) -> tuple[Floats, Floats, Floats]:
    """Share, chance and share on other subjects' neurons, each (n,); nan without set or update."""
    width = update.share.shape[1]
    table = np.zeros(update.share.shape)
    for row, ids in enumerate(inside):
        table[row, [] if ids is None else ids] = 1.0
    values = update.share @ table.T  # (n, n): an edit's update on the neurons of each
    missing = np.array([coarse is None for coarse in inside])
    without = update.share.sum(1) == 0
    values[np.broadcast_to(missing[None, :] | without[:, None], values.shape)] = np.nan
    share = values.diagonal().copy()
    chance = np.where(np.isnan(share), np.nan, table.sum(1) / width)
    return share, chance, unrelated_mean(values, subjects)


def _inside(coarse: NeuronSet | None, update: Update, per_layer: int) -> Ids | None:
    """A set's neurons in the edited layers, numbered as the update's columns."""
    if coarse is None:
        return None
    layer, number = np.divmod(coarse.ids, per_layer)
    row = np.searchsorted(update.layers, layer)
    edited = np.isin(layer, update.layers)
    return np.asarray(row[edited] * per_layer + number[edited], dtype=np.int64)


def _by_layer(neurons: Neurons, sets: Sequence[NeuronSet | None]) -> list[float] | None:
    """Mean percent of a set in each layer; None where no edit has a set."""
    shares = [
        np.bincount(coarse.ids // neurons.per_layer, minlength=neurons.layers) / len(coarse.ids)
        for coarse in sets
        if coarse is not None and len(coarse.ids)
    ]
    return (100 * np.mean(shares, 0)).tolist() if shares else None


def _ids(sets: Sequence[NeuronSet | None]) -> list[Ids | None]:
    return [None if coarse is None else coarse.ids for coarse in sets]


def _size(ids: Ids | None) -> int | None:
    return None if ids is None else len(ids)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _grouped(lines: Sequence[Line], *keys: str) -> dict[tuple[str, ...], list[Line]]:
    grouped: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        grouped.setdefault(tuple(line[key] for key in keys), []).append(line)
    return grouped


def _nested(flat: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """{(a, b): value} as {a: {b: value}}."""
    nested: dict[str, dict[str, Any]] = {}
    for (a, b), value in flat.items():
        nested.setdefault(a, {})[b] = value
    return nested
