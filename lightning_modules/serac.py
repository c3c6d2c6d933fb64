"""Training of SERAC: the scope classifier and the counterfactual model together.

    mixture      0.1 NLL(rephrase) + 0.1 NLL(one-hop or other picture) + KL(base || mixture)
    supervised   0.1 NLL(counterfactual model with the gold entry) + balanced BCE of the scope

Which questions are about the edit, and which are not, is `editor.questions`' to say: those that its
NLL terms ask, and those of its KL terms.

The first is the outer loss of the benchmark on the soft mixture of both models, the KL of pictures
included (published code computes it and then forgets it); the second, with hard negatives, is that
of Mitchell et al. 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from editors.base import Edit, EditorInputs
from editors.objective import TERMS, Objective, OuterLoss
from editors.processes import per_process
from editors.serac.config import SeracOptions
from editors.serac.editor import Serac, SeracEdit, build
from editors.serac.negatives import HardNegatives
from editors.serac.similarity import balanced_bce
from lightning_modules.editor_training import EditorTraining
from metrics.scope import ScopeQuality
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows, RowText

SCOPE_LOSS = "scope"  # name of the scope's loss


class SeracTraining(EditorTraining):
    """Trains a SERAC editor for a frozen base model.

    Args:
        options: the editor's options; with the objective `supervised` the weight `locality` is that
            of the scope's loss.
        inputs: the run's prompt function, and training records to draw hard negatives from.
        objective: the outer loss; `supervised` takes its terms and weights, not its mixture.

    Raises:
        ModelError: an encoder is on no disk, or does not fit.
    """

    options: SeracOptions
    editor: Serac

    def __init__(
        self,
        options: SeracOptions,
        model: EditableModel,
        inputs: EditorInputs,
        objective: Objective,
    ) -> None:
        supervised = options.objective == "supervised"
        negatives = None
        if supervised and options.negatives.share is not None and inputs.training:
            seed = torch.initial_seed() % 2**32  # the run's
            negatives = HardNegatives(options.negatives, inputs.training, seed, device=model.device)
        super().__init__(options, model, build(options, model, inputs), objective)
        self.supervised, self.negatives = supervised, negatives
        self.quality = ScopeQuality(self.editor.threshold)
        unweighed = {term.weight: 0.0 for term in TERMS[objective.name] if term.kl}
        weights = options.weights.model_dump() | unweighed
        self._gold = Objective(objective.name, weights)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a group for each network."""
        optimizer = self.adam(
            [
                {"params": _trained(self.editor.scope), "lr": self.options.lr, "name": "scope"},
                {
                    "params": _trained(self.editor.counterfactual),
                    "lr": self.options.counterfactual_lr,
                    "name": "counterfactual",
                },
            ]
        )
        return self.scheduled(optimizer)

    def judge(self, batch: EditBatch, state: PrefixState, edit: Edit) -> OuterLoss:
        """The loss of the objective; in validation also what the mixture answers.

        Raises:
            TypeError: the edit is not SERAC's.
        """
        if not isinstance(edit, SeracEdit):
            raise TypeError(f"expected a SeracEdit, got {type(edit).__name__}")
        if self.supervised and self.training:
            return self._whole(self._supervised(batch, state, edit))
        mixture = super().judge(batch, state, edit)
        if self.training:
            return self._whole(mixture)
        log_p, inside = self._scope(batch, edit)
        self.quality.update(log_p.exp(), inside)
        return (
            replace(mixture, total=self._supervised(batch, state, edit).total)
            if self.supervised
            else mixture
        )

    def on_validation_epoch_end(self) -> None:
        """Logs the scope's quality beside the other means."""
        for name, value in self.quality.compute().items():
            self.log(f"val/scope/{name}", value.float(), sync_dist=True)
        self.quality.reset()
        super().on_validation_epoch_end()

    def _supervised(self, batch: EditBatch, state: PrefixState, edit: SeracEdit) -> OuterLoss:
        gold = self._gold(self.model, _Gold(edit), batch, state, synced=self.training)
        log_p, inside = self._scope(batch, edit)
        counts = torch.stack([inside.sum(), (~inside).sum()])
        if self.training:
            counts = per_process(counts)
            self._log_scope(log_p, inside, counts, len(batch))
        bce = balanced_bce(log_p, inside, n_inside=counts[0], n_outside=counts[1])
        total = gold.total + self.options.weights.locality * bce
        return replace(gold, total=total, terms={**gold.terms, SCOPE_LOSS: bce})

    def _whole(self, loss: OuterLoss) -> OuterLoss:
        """The loss with every trained weight in its graph, as data-parallel training wants it.

        A batch without pictures leaves the image projections out, an encoder may have a pooler.
        """
        nothing = 0 * sum(p.sum() for p in _trained(self.editor))
        return replace(loss, total=loss.total + nothing)

    def _scope(self, batch: EditBatch, edit: SeracEdit) -> tuple[Tensor, Tensor]:
        """Log scope probabilities, and whether the question is about the edit: (n,), (n,)."""
        inside = [batch.edit_rows]
        outside: list[Tensor] = []
        for term in self.objective.terms:
            for probe in term.probes:
                if probe in batch.probes:
                    (outside if term.kl else inside).append(batch.probes[probe])
        rows = torch.cat([*inside, *outside])
        about = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        about[: sum(map(len, inside))] = True
        log_p, _ = edit.retrieved(batch.rows.select(rows))
        if self.negatives is None or not self.training:
            return log_p, about
        drawn = self._drawn(batch, edit, self.negatives)
        return torch.cat([log_p, drawn]), torch.cat([about, torch.zeros_like(drawn).bool()])

    def _drawn(self, batch: EditBatch, edit: SeracEdit, negatives: HardNegatives) -> Tensor:
        """Log scope probabilities of the questions drawn for each edit: (n,)."""
        step = self.trainer.global_step
        texts: list[RowText] = []
        owners: list[int] = []
        edit_of = batch.rows.edit_index[batch.edit_rows].tolist()
        rows = batch.edit_rows.tolist()
        for number, subject in enumerate(batch.subjects):
            row = rows[edit_of.index(number)]  # the first of those that teach it
            drawn = negatives.draw(step, batch.rows.texts[row].question, subject)
            texts += [RowText(question, "") for question in drawn]
            owners += [row] * len(drawn)
        if not texts:
            return torch.zeros(0, device=batch.edit_rows.device)
        asked = batch.rows.select(torch.tensor(owners, device=batch.edit_rows.device))
        questions = replace(asked, texts=tuple(texts)).without_pictures()
        return edit.retrieved(questions)[0]

    def _log_scope(self, log_p: Tensor, inside: Tensor, counts: Tensor, size: int) -> None:
        """Mean probabilities over the questions of all processes, whose means are averaged."""
        p, parallel = log_p.detach().exp(), self.trainer.world_size > 1
        sums = (("inside", p[inside].sum()), ("outside", p[~inside].sum()))
        for (name, total), count in zip(sums, counts, strict=True):
            self.log(f"train/scope/{name}", total / count, batch_size=size, sync_dist=parallel)


@dataclass(frozen=True)
class _Gold:
    """The counterfactual model's answers, every row told its own edit.

    Of several entries of an edit it is the one that shows a picture as the row does, or the first.
    """

    edit: SeracEdit

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Its logits, without the base model's and without a scope."""
        del model, state
        owner = self.edit.owner
        if owner is None:
            raise ValueError("a gold entry needs a memory with owners")
        shown = [entry.picture is not None for entry in self.edit.memory.entries]
        pictured = torch.tensor(shown, device=owner.device)
        of_edit = rows.edit_index[:, None] == owner[None]  # (R, M)
        alike = (rows.image_index >= 0)[:, None] == pictured[None]
        entry = (of_edit.int() + (of_edit & alike).int()).argmax(1)
        return self.edit.counterfactual(rows, at, entry)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
