"""MEND: a training step, and an edit with the answers of a record."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.cached import caching_in, opened_cache
from benchmarks.cases.case import Case, Evaluation, agree
from benchmarks.floor import Floor, pictures
from benchmarks.reference.losses import mend_loss, mend_weights
from benchmarks.reference.passes import Row
from benchmarks.setting import Setting
from caching.store import Cache
from datamodules.scenarios import Scenario
from editors.base import EditorInputs
from editors.mend.editor import Mend
from editors.objective import Objective
from models.deltas import linear_shape
from models.rows import EditBatch
from runner import training

RATE = 1e-6
TRAINED = 4  # a weight, its gradient and Adam's two moments


def make_module(setting: Setting, editor: str, scenario: str) -> Any:
    """An editor's training module, the same at every call."""
    torch.manual_seed(0)
    cfg = setting.training(editor, scenario)
    module: Any = training.make_module(cfg, setting.model, EditorInputs(setting.encoder))
    return module.to(setting.device).train()


class MendTraining(Case):
    """A step of MEND's training: edit, outer loss, backward, Adam.

    Args:
        setting: what it runs on.
        scenario: of the edits.
        is_cached: the engine takes what is frozen in it from the cache, as in a second epoch.
    """

    def __init__(self, setting: Setting, scenario: str, *, is_cached: bool = False) -> None:
        super().__init__(setting)
        in_text = scenario == "unimodal"
        self.name = ("mend_text" if in_text else "mend_pictures") + "_cached" * is_cached
        self.brief = f"MEND, a training step {'in text' if in_text else 'with pictures'}"
        self.brief += ", from the cache" * is_cached
        self._scenario, self._is_cached = scenario, is_cached

    @property
    def scenario(self) -> Scenario:
        return training.scenario_of(self.setting.training("mend", self._scenario))

    @cached_property
    def _module(self) -> Any:
        return make_module(self.setting, "mend", self._scenario)

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self._module.editor.parameters(), lr=RATE, fused=True)

    @cached_property
    def _theirs(self) -> tuple[Mend, Objective, torch.optim.Optimizer]:
        module = make_module(self.setting, "mend", self._scenario)
        editor: Mend = module.editor
        return editor, module.objective, torch.optim.Adam(editor.parameters(), lr=RATE)

    @cached_property
    def _cache(self) -> Cache:
        return opened_cache(self.setting) if self._is_cached else Cache()

    def _judged(self, batch: EditBatch) -> Tensor:
        with caching_in(self.model, self._cache):
            loss: Tensor = self._module.edit_and_judge(batch)[2].total
        return loss

    def engine(self) -> None:
        _step(self._judged(self.batch), self._optimizer)

    def published(self) -> None:
        editor, objective, optimizer = self._theirs
        _step(mend_loss(self.reference, editor, self.single, objective), optimizer)

    def check(self) -> None:
        editor, objective, _ = self._theirs
        for _ in range(1 + self._is_cached):  # what the first one stores the second one reads
            ours = self._judged(self.single)
            agree(ours, mend_loss(self.reference, editor, self.single, objective))

    def floor(self) -> Floor:
        editor, objective = self._module.editor, self._module.objective
        least = mend_floor(self, editor, objective)
        least = replace(least, held=TRAINED * least.held)
        if not self._is_cached:
            return least
        at = self.batch.rows.answers()
        compared = rows_of_terms(self.batch, objective, kl=True)
        kept = {  # of the unedited answers the last MLP is left, and the head
            "vision": 0.0,
            "prefix": 0.0,
            "unedited": 2.0 * self.shape.mlp * int(torch.isin(at.row, compared).sum()),
        }
        return replace(least, operations={**least.operations, **kept})


class MendEvaluation(Evaluation):
    """A record of the multimodal scenario under MEND."""

    name = "mend_evaluation"
    brief = "MEND, edit and answers of a multimodal record"

    @cached_property
    def editor(self) -> Mend:
        return ready_mend(self.setting)

    def edited(self, rows: list[Row]) -> Tensor:
        own = rows[int(self.single.edit_rows)]
        with torch.no_grad():
            weights = mend_weights(self.reference, self.editor, own)
        return self.reference.answers(rows, weights)

    def floor(self) -> Floor:
        return mend_floor(self, self.editor)


def ready_mend(setting: Setting) -> Mend:
    """MEND as a few records of training leave it: its input statistics are there."""
    module = make_module(setting, "mend", "multimodal")
    scenario = training.scenario_of(setting.training("mend", "multimodal"))
    with torch.no_grad():
        module.edit_and_judge(setting.batch(scenario, min(4, setting.batch_size)))
    editor: Mend = copy.deepcopy(module.editor).eval()
    return editor


def mend_floor(case: Case, editor: Mend, objective: Objective | None = None) -> Floor:
    """Of MEND's edits and answers; with an outer loss, of a training step."""
    batch, shape, model = case.batch, case.shape, case.model
    at, every = batch.rows.answers(), case.every
    layers = shape.layers - editor.first_layer(model)
    outer = compared = every
    if objective is not None:
        outer, compared = rows_of_terms(batch, objective), rows_of_terms(batch, objective, kl=True)
    n_taught = len(batch.rows.select(batch.edit_rows).answers().row)
    teaching, read, asked = (case.tokens(rows) for rows in (batch.edit_rows, outer, compared))
    n_outer, n_compared = (int(torch.isin(at.row, rows).sum()) for rows in (outer, compared))
    passes = 1 if objective is None else 2  # forward, and backward
    networks = 0.0
    for site in editor.sites:
        d_in, d_out = linear_shape(model.linear(site))
        last = site.layer == shape.layers - 1
        n_pairs, n_read = (n_taught, n_outer) if last else (teaching.count, read.count)
        rank = min(_rank(editor), d_in + d_out)
        transformed = 2 * 2 * 2 * (d_in + d_out) * rank * n_pairs
        applied = 2 * n_read * n_pairs / len(batch) * (d_in + d_out)
        networks += (1 if objective is None else 3) * (transformed + applied)
    answers = 2 * n_taught + n_compared + passes * n_outer
    return Floor(
        {
            "vision": pictures(batch.rows) * shape.picture,
            "prefix": shape.passes(case.tokens(every), shape.layers - layers),
            "unedited": shape.upper(asked, n_compared, layers),
            "capture": 2 * shape.upper(teaching, n_taught, layers),
            "edited": passes * shape.upper(read, n_outer, layers),
            "editor": networks,
            "head": shape.head(answers),
        },
        edits=len(batch),
        held=sum(p.nbytes for p in editor.parameters()),
    )


def rows_of_terms(batch: EditBatch, objective: Objective, *, kl: bool | None = None) -> Tensor:
    """The rows that an outer loss looks at; with `kl` those of its divergences alone."""
    probes = [
        batch.probes[probe]
        for term in objective.terms
        if kl is None or term.kl == kl
        for probe in term.probes
        if probe in batch.probes
    ]
    return torch.cat(probes).unique()


def _rank(editor: Mend) -> int:
    """Width of the bottleneck of MEND's networks."""
    return min(p.shape[0] for name, p in editor.named_parameters() if name.endswith(".v"))


def _step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
