"""FT: an edit with the answers of a record, and an edit of many steps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.case import Case, Evaluation
from benchmarks.floor import Floor, pictures
from benchmarks.reference.passes import Row, rows_of
from benchmarks.setting import Setting
from datamodules.scenarios import SCENARIOS, Scenario
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from models.rows import EditBatch

CHECKED_STEPS = 100  # after many more both sides follow rounding alone, once an answer is learned
TIMED_ONCE = 1000  # steps from which on one measurement is long enough


class FtEvaluation(Evaluation):
    """A record of the multimodal scenario under FT with 15 steps of AdamW."""

    name = "ft_evaluation"
    brief = "FT (15 steps of AdamW), the same"

    @cached_property
    def _options(self) -> FtOptions:
        return ft_options(self.setting, 15)

    @cached_property
    def editor(self) -> FineTune:
        return FineTune(self._options)

    def edited(self, rows: list[Row]) -> Tensor:
        own = rows[int(self.single.edit_rows)]
        weights = self.reference.fit(self.model.last_sites(1), own, self._options)
        return self.reference.answers(rows, weights)

    def floor(self) -> Floor:
        return ft_floor(self, self._options.steps)


class FtSteps(Case):
    """An edit by FT alone, in text, of so many steps."""

    def __init__(self, setting: Setting, steps: int) -> None:
        super().__init__(setting)
        self.name, self.brief = f"ft_{steps}", f"FT, {steps:,} steps alone"
        self.once, self._steps = steps >= TIMED_ONCE, steps

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS["unimodal"]

    def engine(self) -> Any:
        return self._edit(self.batch, self._steps)

    def published(self) -> dict[str, Tensor]:
        return self._fit(self._steps)

    def check(self) -> None:
        steps = min(self._steps, CHECKED_STEPS)
        deltas, theirs = self._edit(self.single, steps).deltas, self._fit(steps)
        ours = self.reference.weights({site: delta.dense()[0] for site, delta in deltas.items()})
        for name, weight in theirs.items():
            torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=2e-5)

    def floor(self) -> Floor:
        return ft_floor(self, self._steps, answers=False)

    def _edit(self, batch: EditBatch, steps: int) -> Any:
        editor, rows = FineTune(ft_options(self.setting, steps)), batch.rows.select(batch.edit_rows)
        state = self.model.prefix(rows, editor.first_layer(self.model), packed=True)
        edits = torch.arange(len(batch), device=self.setting.device)
        alone = EditBatch(rows, edits, {}, batch.edit_ids, batch.subjects)
        return editor.edit(self.model, alone, state)

    def _fit(self, steps: int) -> dict[str, Tensor]:
        own = rows_of(self.single)[int(self.single.edit_rows)]
        options = ft_options(self.setting, steps)
        return self.reference.fit(self.model.last_sites(1), own, options)


def ft_options(setting: Setting, steps: int) -> FtOptions:
    """FT of the last layer as the authors ran it, of so many steps."""
    options = setting.evaluation("ft_as_run", f"editor.steps={steps}").editor
    assert isinstance(options, FtOptions)
    return options


def ft_floor(case: Case, steps: int, *, answers: bool = True) -> Floor:
    """Of FT of the last layer, and of the answers of all rows."""
    batch, shape, model = case.batch, case.shape, case.model
    read = case.every if answers else batch.edit_rows
    rows, tokens = batch.rows.select(read), case.tokens(read)
    n_answers = len(batch.rows.answers().row) if answers else 0
    n_taught = len(batch.rows.select(batch.edit_rows).answers().row)
    parameters = sum(model.weight(site).numel() for site in model.last_sites(1))
    backward = 2 * shape.head(n_taught)  # forward, and backward through activations
    return Floor(
        {
            "vision": pictures(rows) * shape.picture,
            "prefix": shape.passes(tokens, shape.layers - 1) + shape.upper(tokens, 0, 1),
            "unedited": 2 * shape.mlp * n_answers,
            "edited": 2 * shape.mlp * n_answers + steps * 3 * 2 * shape.mlp * n_taught,
            "head": 2 * shape.head(n_answers) + steps * backward,
        },
        steps=steps,
        parameters=parameters * len(batch),
        edits=len(batch),
    )
