"""SERAC: a training step, and an edit with the answers of a record."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases.case import Answering, Case, agree
from benchmarks.cases.mend import make_module, rows_of_terms
from benchmarks.floor import Floor, Shape, Tokens, pictures
from benchmarks.reference.passes import alone
from benchmarks.reference.serac import SeracAlone, serac_loss
from datamodules.scenarios import Scenario
from editors.serac.editor import Serac
from editors.serac.memory import Entry
from runner import training


class SeracTraining(Case):
    """A step of SERAC's training with pictures: base answers, mixture, backward, Adam."""

    name = "serac_training"
    brief = "SERAC, a training step with pictures"

    @property
    def scenario(self) -> Scenario:
        return training.scenario_of(self.setting.training("serac", "multimodal"))

    @cached_property
    def _ours(self) -> tuple[Any, torch.optim.Optimizer]:
        return self._side()

    @cached_property
    def _theirs(self) -> tuple[Any, torch.optim.Optimizer]:
        return self._side()

    def _side(self) -> tuple[Any, torch.optim.Optimizer]:
        module = make_module(self.setting, "serac", "multimodal")
        trained = [p for p in module.editor.parameters() if p.requires_grad]
        return module, torch.optim.Adam(trained, lr=1e-5)

    def engine(self) -> None:
        module, optimizer = self._ours
        _step(module.edit_and_judge(self.batch)[2].total, optimizer)

    def published(self) -> None:
        module, optimizer = self._theirs
        loss = serac_loss(self.model, module.editor, self.single, module.objective)
        _step(loss, optimizer)

    def check(self) -> None:
        module, theirs = self._ours[0], self._theirs[0]
        ours = module.edit_and_judge(self.single)[2].total
        agree(ours, serac_loss(self.model, theirs.editor, self.single, theirs.objective))

    def floor(self) -> Floor:
        module, _ = self._ours
        return serac_floor(self, module.editor, rows_of_terms(self.batch, module.objective), 3)


class SeracEvaluation(Answering):
    """A record of the multimodal scenario under SERAC, whose networks are as they were drawn.

    The projection of pictures is not at its start, zero, where pictures are not shown at all.
    """

    name = "serac_evaluation"
    brief = "SERAC, edit and answers of a multimodal record"

    @cached_property
    def editor(self) -> Serac:
        editor: Serac = make_module(self.setting, "serac", "multimodal").editor
        nn.init.normal_(editor.counterfactual.pictures.weight, std=0.02)
        return editor.eval().requires_grad_(False)

    @torch.no_grad()
    def published(self) -> tuple[Tensor, Tensor]:
        """Both answers come of the same passes."""
        batch = self.single
        memory = SeracAlone.of(self.model, self.editor, batch, 0)
        answers = [memory.answer(alone(batch.rows, row)) for row in range(len(batch.rows))]
        before, after = zip(*answers, strict=True)
        return torch.cat(before).argmax(-1), torch.cat(after).argmax(-1)

    def floor(self) -> Floor:
        return serac_floor(self, self.editor, self.every, 1)


def serac_floor(case: Case, editor: Serac, asked: Tensor, passes: int) -> Floor:
    """Of the answers of both models to some rows.

    Args:
        case: its batch.
        editor: its networks.
        asked: numbers of the rows.
        passes: through the networks: 1 forward, 3 with the gradients of their weights.
    """
    batch, shape = case.batch, case.shape
    rows, tokens = batch.rows.select(asked), case.tokens(asked)
    n_answers = len(rows.answers().row)
    taught = [batch.rows.texts[row] for row in batch.edit_rows.tolist()]
    entries = [Entry(text.question, text.answer).text for text in taught]
    edits = rows.edit_index.tolist()
    encoded = [
        editor.counterfactual.encode(editor.encoder, entries[edit], text)
        for text, edit in zip(rows.texts, edits, strict=True)
    ]
    longer = editor.encoder.rows(
        encoded, rows.texts, edit_index=edits, image_index=rows.image_index.tolist()
    )
    small = Shape.of_lm(editor.counterfactual.lm)
    networks = small.passes(Tokens.of_rows(longer), small.layers) + small.head(n_answers)
    words = [text.question for text in rows.texts] + entries
    read = editor.scope.tokenizer(list(dict.fromkeys(words)))["input_ids"]
    networks += 2 * _layer_weights(editor.scope.encoder) * sum(map(len, read))
    return Floor(
        {
            "vision": pictures(rows) * shape.picture,
            "prefix": shape.passes(tokens, shape.layers - 1),
            "unedited": shape.upper(tokens, n_answers, 1),
            "editor": passes * networks,
            "head": shape.head(n_answers),
        },
        edits=len(batch),
    )


def _layer_weights(encoder: nn.Module) -> int:
    """Weights that every token of an encoder meets."""
    tables = {id(m.weight) for m in encoder.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in encoder.parameters() if p.ndim > 1 and id(p) not in tables)


def _step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
