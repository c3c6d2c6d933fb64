"""What a benchmark is: two ways to the same numbers, and what neither can do without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.floor import Floor, Shape, Tokens
from benchmarks.reference.passes import Reference, Row, rows_of
from benchmarks.setting import Setting
from datamodules.scenarios import SCENARIOS, Scenario, ScenarioName
from editors.base import Edit, Editor, state_for
from lightning_modules.predictions import base_predictions
from models.editable import PrefixState
from models.packing import Packing, pack
from models.rows import Answers, EditBatch


class Case(ABC):
    """Two ways to the same numbers. What only one of them needs is made when it is run.

    Attributes:
        name: of the benchmark.
        brief: what an edit is here, for a table.
        once: measured a single time and without a rehearsal; it is long.
    """

    name: str
    brief: str
    once = False

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, setting.model
        self.reference = Reference(setting.model)

    @property
    @abstractmethod
    def scenario(self) -> Scenario:
        """What is asked of a record."""

    @abstractmethod
    def engine(self) -> object:
        """The engine's work on `batch`, all edits side by side."""

    @abstractmethod
    def published(self) -> object:
        """The reference's work on `single`, an edit alone."""

    @abstractmethod
    def check(self) -> None:
        """Compares both on an edit alone.

        Raises:
            AssertionError: their numbers differ.
        """

    @abstractmethod
    def floor(self) -> Floor:
        """What the engine's edits cannot do without."""

    @cached_property
    def batch(self) -> EditBatch:
        """The engine's edits."""
        return self.setting.batch(self.scenario, self.setting.batch_size)

    @cached_property
    def single(self) -> EditBatch:
        """The reference's edit."""
        return self.setting.batch(self.scenario, 1)

    @cached_property
    def shape(self) -> Shape:
        return Shape.of(self.model)

    @cached_property
    def packing(self) -> Packing:
        return pack(self.batch.rows)

    def tokens(self, rows: Tensor) -> Tokens:
        """Of some rows of the batch, each once where rows of an edit share it."""
        return Tokens.of(self.packing.select(rows)[0])

    @property
    def every(self) -> Tensor:
        """Numbers of all rows of the batch."""
        return torch.arange(len(self.batch.rows), device=self.setting.device)


class Edited(Case):
    """Records of a scenario's test, which are edited and asked.

    Attributes:
        asked: name of the scenario.
    """

    asked: ScenarioName = "multimodal"

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.asked]

    @property
    @abstractmethod
    def editor(self) -> Editor:
        """The engine's."""

    def prefix(self, batch: EditBatch) -> tuple[EditBatch, PrefixState, Answers]:
        """The batch with features of its pictures, and its state below the edits."""
        with torch.no_grad():
            batch = replace(batch, rows=self.model.encode_pictures(batch.rows))
        state = self.model.prefix(batch.rows, self.editor.first_layer(self.model), packed=True)
        return batch, state_for(self.editor, state), batch.rows.answers()


class Answering(Edited):
    """Unedited and edited answers to all questions of a record, and the edit between."""

    @abstractmethod
    def published(self) -> tuple[Tensor, Tensor]:
        """The reference's answers of `single` before and after its edit: (N,), (N,)."""

    def engine(self) -> tuple[Tensor, Tensor]:
        return self.run(self.batch)

    def run(self, batch: EditBatch) -> tuple[Tensor, Tensor]:
        """Answers before and after the edits: (N,), (N,)."""
        batch, state, at = self.prefix(batch)
        with torch.no_grad():
            before = base_predictions(self.model, batch.rows, state, at).best
        edit = self.editor.edit(self.model, batch, state)
        return before, self.answer(edit, batch, state, at)

    @torch.no_grad()
    def answer(self, edit: Edit, batch: EditBatch, state: PrefixState, at: Answers) -> Tensor:
        """The likeliest tokens under the edits: (N,)."""
        return edit.answer(self.model, batch.rows, state, at).argmax(-1)

    def check(self) -> None:
        for ours, theirs in zip(self.run(self.single), self.published(), strict=True):
            assert torch.equal(ours, theirs), f"{self.name}: the answers differ"


class Evaluation(Answering):
    """The same where the reference answers every question once without and once with its edit."""

    @abstractmethod
    def edited(self, rows: list[Row]) -> Tensor:
        """The reference's edit of `single`, and its answers under it: (N,)."""

    def published(self) -> tuple[Tensor, Tensor]:
        rows = rows_of(self.single)
        return self.reference.answers(rows), self.edited(rows)


def agree(ours: Tensor, theirs: Tensor) -> None:
    """Compares losses.

    Raises:
        AssertionError: they differ by more than 1e-6.
    """
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-6, atol=1e-6)


def agree_as_matrices(ours: Tensor, theirs: Tensor, share: float) -> None:
    """Compares edits, which a descent has made of rounded numbers, by the Frobenius norm.

    Args:
        ours: the engine's deltas.
        theirs: the reference's.
        share: of the norm by which they may differ.

    Raises:
        AssertionError: they differ by more.
    """
    error = float((ours - theirs).norm() / theirs.norm())
    assert error <= share, f"the edits differ by {error:.1e} of their norm, more than {share:.0e}"
