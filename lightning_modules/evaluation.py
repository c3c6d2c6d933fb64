"""The one evaluation: any editor, any scenario, B single edits at a time.

Per batch the shared part of the network runs once (`prefix`), the unedited model's answers and the
edited models' answers are two suffixes over the same state, and every probe of every edit is scored
from them. "Before" always means the unedited base model. Answers come from the same padded batch
before and after, so an editor that changes nothing scores a Locality of exactly 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from datamodules.scenarios import Scenario
from editors.base import Edit, Editor, Reporting, Scoped
from lightning_modules.processes import of_all_processes
from metrics.collection import (
    EXACT_MATCH,
    TOKEN_ACCURACY,
    TOKEN_AGREEMENT,
    TOKEN_AGREEMENT_POSITIONAL,
    PerEditLeak,
    PerEditScores,
)
from metrics.functional import (
    exact_match,
    token_accuracy,
    token_agreement,
    token_agreement_positional,
)
from metrics.scope import ScopeQuality
from models.editable import EditableModel
from models.rows import Answers, EditBatch, Rows

ABOUT_THE_EDIT, LEFT_ALONE = ("reliability", "generality"), ("locality", "stability")
_POSITIONAL_K = 10  # ranks that the published picture locality compares


@dataclass(frozen=True)
class Predictions:
    """Top tokens of one pass at all answer positions: (N, K) ids, likeliest first."""

    top: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Predictions:
        """The ten likeliest tokens (fewer in a smaller vocabulary)."""
        return cls(logits.topk(min(_POSITIONAL_K, logits.shape[-1])).indices)

    @property
    def best(self) -> Tensor:
        """(N,)."""
        return self.top[:, 0]


class EvaluationModule(L.LightningModule):
    """Scores an editor on the test split.

    Args:
        model: the base model.
        editor: the editor, on the model's device when it has weights.
        scenario: gives the probes' names.
        decode: ids -> text.
    """

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        scenario: Scenario,
        decode: Callable[[Tensor], str],
    ) -> None:
        super().__init__()
        self.model, self.editor, self.decode = model, editor, decode
        self.scores = MetricCollection(
            {
                f"{probe}/{measure}": PerEditLeak() if probe.startswith("leak") else PerEditScores()
                for probe in scenario.probes
                for measure in measures(probe)
            },
            compute_groups=False,
        )
        self.scope = ScopeQuality(getattr(editor, "threshold", 0.5))
        self.rows: list[dict[str, object]] = []
        self.answer_seconds: dict[int, float] = {}  # by edit: answering all its probes

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Edits, answers and scores one batch."""
        del batch_idx
        with torch.no_grad():
            batch = replace(batch, rows=self.model.look(batch.rows))
            rows, at = batch.rows, batch.rows.answers()
            state = self.model.prefix(rows, self.editor.first_layer(self.model))
            pre = Predictions.of(self.model.suffix(state, at=at))
        started = self._now()
        edit = self.editor.edit(self.model, batch, state)
        seconds = (self._now() - started) / len(batch)
        started = self._now()
        with torch.no_grad():
            post = Predictions.of(edit.answer(self.model, rows, state, at))
        answered = (self._now() - started) / len(batch)
        self.answer_seconds |= dict.fromkeys(batch.edit_ids, answered)
        with torch.no_grad():
            self._watch_scope(batch, edit)
        for probe, chosen in batch.probes.items():
            self._score(batch, probe, chosen, at, pre, post, seconds)

    def report(self) -> dict[str, float]:
        """What the editor says of itself, and the quality of its scope if it has one.

        Both are of the edits of all processes; every process has to call this.
        """
        found: dict[str, float] = {}
        if isinstance(self.editor, Reporting):
            edits = len({row["edit_id"] for row in self.rows})
            found |= _mean_report(of_all_processes((edits, self.editor.report())))
        if self.scope.update_called:
            quality = {f"scope_{name}": float(v) for name, v in self.scope.compute().items()}
            found |= {name: value for name, value in quality.items() if math.isfinite(value)}
        return found

    def _watch_scope(self, batch: EditBatch, edit: Edit) -> None:
        """Whether a scope tells the edit's own questions from those that it must leave alone."""
        if not isinstance(edit, Scoped):
            return
        probabilities = edit.scope_probabilities(batch.rows)
        for probe, chosen in batch.probes.items():
            about = probe.startswith(ABOUT_THE_EDIT)
            if about or probe.startswith(LEFT_ALONE):
                inside = torch.full_like(chosen, about, dtype=torch.bool)
                self.scope.update(probabilities[chosen], inside)

    def _score(
        self,
        batch: EditBatch,
        probe: str,
        chosen: Tensor,
        at: Answers,
        pre: Predictions,
        post: Predictions,
        seconds: float,
    ) -> None:
        edits = batch.rows.edit_index[chosen]
        ids = torch.tensor(batch.edit_ids, device=chosen.device)[edits]
        for measure, score in measures(probe).items():
            values = score(pre, post, at)[chosen]
            cast(PerEditScores, self.scores[f"{probe}/{measure}"]).update(ids, values)
            for edit, row, value in zip(
                edits.tolist(), chosen.tolist(), values.tolist(), strict=True
            ):
                here = at.row == row
                self.rows.append(
                    {
                        "edit_id": batch.edit_ids[edit],
                        "subject": batch.subjects[edit],
                        "probe": probe,
                        "metric": measure,
                        "value": value,
                        "pre_text": self.decode(pre.best[here]),
                        "post_text": self.decode(post.best[here]),
                        "target": self.decode(at.target[here]),
                        "seconds": seconds,
                    }
                )

    def per_edit_scores(self) -> dict[tuple[str, str], dict[int, float]]:
        """(probe, measure) -> edit id -> score as a fraction; gathered over processes."""
        found = {}
        for name, metric in self.scores.items(keep_base=True):
            probe, measure = name.split("/")
            found[probe, measure] = cast(PerEditScores, metric).per_edit()
        return found

    def gathered_rows(self) -> list[dict[str, object]]:
        """The rows of all processes, each (edit, probe, measure) once."""
        distinct = {
            (row["edit_id"], row["probe"], row["metric"]): row
            for rows in of_all_processes(self.rows)
            for row in rows
        }
        return [distinct[key] for key in sorted(distinct)]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _mean_report(reports: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Means over edits of means over the edits of each process: (number of edits, means)."""
    total = max(1, sum(edits for edits, _ in reports))
    names = {name: None for _, report in reports for name in report}
    return {
        name: sum(edits * report.get(name, 0.0) for edits, report in reports) / total
        for name in names
    }


Score = Callable[[Predictions, Predictions, Answers], Tensor]


def _accuracy(_pre: Predictions, post: Predictions, at: Answers) -> Tensor:
    return token_accuracy(post.best, at.target, at.row, at.n_rows)


def _match(_pre: Predictions, post: Predictions, at: Answers) -> Tensor:
    return exact_match(post.best, at.target, at.row, at.n_rows)


def _agreement(pre: Predictions, post: Predictions, at: Answers) -> Tensor:
    return token_agreement(pre.top, post.top, at.row, at.n_rows)


def _positional(pre: Predictions, post: Predictions, at: Answers) -> Tensor:
    return token_agreement_positional(pre.top, post.top, at.row, at.n_rows, k=pre.top.shape[1])


def measures(probe: str) -> Mapping[str, Score]:
    """How a probe is scored: locality against the unedited model, all else against a target."""
    if probe.startswith("locality"):
        return {TOKEN_AGREEMENT: _agreement, TOKEN_AGREEMENT_POSITIONAL: _positional}
    return {TOKEN_ACCURACY: _accuracy, EXACT_MATCH: _match}


def knows(model: EditableModel) -> Callable[[Rows], Tensor]:
    """Whether the unedited model gives every answer token right: rows -> (R,) bool."""

    @torch.no_grad()
    def right(rows: Rows) -> Tensor:
        rows = rows.to(model.device)
        at = rows.answers()
        hits = (model(rows, at=at).argmax(-1) == at.target).float()
        return at.row_mean(hits) == 1

    return right
