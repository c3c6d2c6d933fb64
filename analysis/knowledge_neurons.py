"""Knowledge neurons of an edit's questions, before and after the edit (Dai et al., ACL 2022).

Three questions are asked of every edit: its own in text, its own about a picture of the subject,
and the same about another entity of the subject's type. The neurons of a question are its coarse
set: those whose attribution (analysis/attribution.py) is above a part of the row's largest one,

    S = { (l, i) : Attr(w_i^l) > threshold * max Attr }

for the answer that the model gives: the true one before the edit, the new one after it, and the
other entity's own both times. A question that the model does not answer so, token by token, has no
set. What the sets have in common, and how much of the edit's update falls on them, says where an
edit made in text lands: `analysis.neuron_report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from analysis.attribution import attributions, n_neurons, update_by_neuron
from analysis.overlap import Ids
from analysis.shortcut import STEPS_OF_CHAIN, Chains
from analysis.shortcut import THRESHOLD as OF_CHAINS
from datamodules.prompts import Prompt, PromptMaker
from datamodules.reading import reading_questions
from datamodules.records import Record
from datamodules.scenarios import IMAGE_PROBES, SCENARIOS, TEXT_PROBES, Scenario
from editors.base import DeltaEdit, Editor
from errors import ConfigError
from lightning_modules.finite import FiniteCheck
from metrics.precision import in_float64
from models.deltas import Deltas
from models.editable import EditableModel
from models.rows import EditBatch, Rows
from models.sites import Role
from results.screen import screen

Question = Literal["text", "image", "same_type", "name"]
When = Literal["before", "after"]
QUESTIONS: tuple[Question, ...] = ("text", "image", "same_type")
NAME: Question = "name"  # who the seen picture shows, for the authors' shortcut share alone
WHEN: tuple[When, ...] = ("before", "after")


@dataclass(frozen=True)
class NeuronSet:
    """The coarse set of one question, in ascending order.

    Attributes:
        ids: (n,) layer * D + number in the layer.
        attribution: (n,) differences of probabilities.
    """

    ids: Ids
    attribution: np.ndarray


@dataclass(frozen=True)
class Update:
    """How each edit's update of one kind of matrix is spread over the neurons.

    Attributes:
        layers: the edited ones, ascending.
        share: (n, layers * D) parts of the squared norm, which sum up to 1; 0 without any update.
    """

    layers: tuple[int, ...]
    share: np.ndarray


@dataclass(frozen=True)
class Neurons:
    """What was found out about n edits.

    Attributes:
        layers: of the model.
        per_layer: neurons of a layer, D.
        edit_ids: (n,).
        subjects: (n,).
        sets: when and question -> (n,) sets; None where the model does not give the answer.
        updates: kind of matrix -> what the edits change; empty for the unedited model.
        chains: when -> the sets of the authors' shortcut share; empty where it was not asked for.
    """

    layers: int
    per_layer: int
    edit_ids: tuple[int, ...]
    subjects: tuple[str, ...]
    sets: Mapping[tuple[When, Question], Sequence[NeuronSet | None]]
    updates: Mapping[Role, Update]
    chains: Mapping[When, Chains] = field(default_factory=dict)


def neuron_scenario(name: str, *, shortcut: bool = False) -> Scenario:
    """A scenario's edit with the three questions, as they are answered before and after it.

    The same-type question is asked as the scenario has it: in text, or about a picture.

    Args:
        name: of the scenario.
        shortcut: whether the naming question of the seen picture is asked too.
    """
    after: dict[Question, PromptMaker] = {
        "text": TEXT_PROBES["reliability"],
        "image": IMAGE_PROBES["reliability_s"],
        "same_type": SCENARIOS[name].probes["stability_same"],
    }
    before = {q: ask if q == "same_type" else _true(ask) for q, ask in after.items()}
    probes = {_probe("before", q): ask for q, ask in before.items()}
    probes |= {_probe("after", q): ask for q, ask in after.items()}
    if shortcut:
        probes |= {_probe(when, NAME): _named for when in WHEN}
    return replace(SCENARIOS[name], probes=probes)


@torch.no_grad()
def find_neurons(
    model: EditableModel,
    editor: Editor,
    batches: Iterable[EditBatch],
    *,
    steps: int,
    threshold: float,
    shortcut: bool = False,
) -> Neurons:
    """The neurons of every question of every edit, and where the updates fall.

    Args:
        model: the base model.
        editor: makes the edits.
        batches: with the probes of `neuron_scenario`.
        steps: of the integrated gradients.
        threshold: of the coarse sets, a part of a row's largest attribution.
        shortcut: whether the sets of the authors' shortcut share are found too.

    Raises:
        ConfigError: the editor's edits are not weight deltas.
    """
    parts = [
        _of_batch(
            model,
            editor,
            batch.to(model.device),
            steps=steps,
            threshold=threshold,
            shortcut=shortcut,
        )
        for batch in track(batches, "Neurons", console=screen(stderr=True), transient=True)
    ]
    first = parts[0]
    return replace(
        first,
        edit_ids=tuple(edit_id for part in parts for edit_id in part.edit_ids),
        subjects=tuple(subject for part in parts for subject in part.subjects),
        sets={key: [s for part in parts for s in part.sets[key]] for key in first.sets},
        updates={
            role: replace(update, share=np.concatenate([p.updates[role].share for p in parts]))
            for role, update in first.updates.items()
        },
        chains={when: Chains.joined(part.chains[when] for part in parts) for when in first.chains},
    )


def coarse_set(attribution: Tensor, threshold: float) -> NeuronSet:
    """The neurons above a part of the largest attribution; none where no neuron adds anything.

    Args:
        attribution: (layers, D).
        threshold: in [0, 1).
    """
    flat = attribution.flatten()
    ids = (flat > threshold * flat.max()).nonzero()[:, 0]
    return NeuronSet(ids.cpu().numpy(), in_float64(flat[ids]).cpu().numpy())


def _of_batch(
    model: EditableModel,
    editor: Editor,
    batch: EditBatch,
    *,
    steps: int,
    threshold: float,
    shortcut: bool,
) -> Neurons:
    rows = model.encode_pictures(batch.rows)
    batch, at = replace(batch, rows=rows), rows.answers()
    state = model.prefix(rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    if not isinstance(edit, DeltaEdit):
        raise ConfigError(
            f"editor={editor.name} makes edits that are no weight deltas ({type(edit).__name__}), "
            "and an update that cannot be seen cannot be compared with neurons. Accepted are "
            "editors that change weights (ft, rome, memit, mend, malmen, rledit, ultraedit, "
            "lora), and none."
        )
    sets: dict[tuple[When, Question], list[NeuronSet | None]] = {}
    chains: dict[When, Chains] = {}
    check = FiniteCheck(batch, model, editor.name)
    for when in WHEN:
        deltas = edit.deltas if when == "after" else {}
        logits = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
        (check.edited if deltas else check.unedited)(logits.amax(-1), at.row)
        right = at.row_mean((logits.argmax(-1) == at.target).float()) == 1
        nobody = at.row[:0]  # an unedited model has no "after"
        is_asked = when == "before" or bool(deltas)
        chain = Chains.of(len(batch))
        for question in (*QUESTIONS, NAME) if shortcut else QUESTIONS:
            in_chain = shortcut and question in STEPS_OF_CHAIN
            probe = batch.probes.get(_probe(when, question), nobody) if is_asked else nobody
            asked = probe if in_chain else probe[right[probe]]
            of_edit: list[NeuronSet | None] = [None] * len(batch)
            for row, value in _attributed(model, rows, asked, steps, deltas):
                edit_index, is_given = int(rows.edit_index[row]), bool(right[row])
                if is_given:
                    of_edit[edit_index] = coarse_set(value, threshold)
                if in_chain:
                    ids = coarse_set(value, OF_CHAINS).ids
                    chain.add(question, edit_index, ids, is_given=is_given)
            if question != NAME:
                sets[when, question] = of_edit
        if shortcut and is_asked:
            chains[when] = chain
    return Neurons(
        layers=model.n_layers,
        per_layer=n_neurons(model),
        edit_ids=tuple(batch.edit_ids),
        subjects=tuple(batch.subjects),
        sets=sets,
        updates=_updates(edit, n_neurons(model)),
        chains=chains,
    )


def _attributed(
    model: EditableModel, rows: Rows, asked: Tensor, steps: int, deltas: Deltas
) -> Iterator[tuple[int, Tensor]]:
    """Some rows by number, each with the attributions of its answer."""
    if len(asked):
        values = attributions(model, rows.select(asked), steps=steps, deltas=deltas)
        yield from zip(asked.tolist(), values, strict=True)


def _updates(edit: DeltaEdit, per_layer: int) -> dict[Role, Update]:
    """The batch's updates, kind by kind of matrix."""
    squared = update_by_neuron(edit.deltas, per_layer)
    updates: dict[Role, Update] = {}
    for role in sorted({site.role for site in squared}):
        sites = sorted(site for site in squared if site.role == role)
        norms = torch.cat([in_float64(squared[site]) for site in sites], 1)
        total = norms.sum(1, keepdim=True)
        share = torch.where(total > 0, norms / total, 0.0)
        updates[role] = Update(tuple(site.layer for site in sites), share.cpu().numpy())
    return updates


def _true(ask: PromptMaker) -> PromptMaker:
    """The same question with the answer that was true before the edit."""

    def ask_true(record: Record) -> Prompt | None:
        prompt, true = ask(record), record.knowledge_edit.answer_true
        return None if prompt is None or true is None else prompt._replace(answer=true)

    return ask_true


def _named(record: Record) -> Prompt | None:
    """Whom the seen picture shows; None where the record has no question for it."""
    seen = IMAGE_PROBES["reliability_s"](record)
    return None if seen is None else reading_questions(record, "reliability_s", seen).naming


def _probe(when: When, question: Question) -> str:
    return f"{question}_{when}"
