r"""The projector, with tower and language model frozen, taught in one of three settings.

    embedding           image tokens regress the embeddings of the name's tokens; the language model
                        is not run
    naming              LLaVA's stage 1: -log p(name, end | picture, "Which country does the image
                        show?") through the frozen language model, all entities
    naming_and_facts    the same rows, and beside them questions for facts, asked of pictures of the
                        entities that are not for testing

Papers: LLaVA (arXiv 2304.08485), section 4.2, stage 1. The settings differ in the projector alone,
and naming_and_facts gets the very naming rows of naming, so that what differs between two models
comes from the alignment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, PreTrainedModel

from configs.around import (
    AlignmentName,
    AlignmentOptions,
    AugmentationOptions,
    EmbeddingOptions,
    NamingOptions,
    Schedule,
)
from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.descent import descent
from pretraining.losses import NameSlots, name_losses
from pretraining.pictures import PictureBank
from pretraining.sampler import Fact
from pretraining.stages import Stages
from pretraining.vision.asking import (
    Asked,
    NameValidation,
    Questioner,
    answer_ids,
    answer_scores,
)
from pretraining.vision.batches import EmbeddingBatches, NamingBatches
from pretraining.vision.projector import initialise, new_projector
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import FeaturePool, ViewBank, tower_features

RECENT = 20  # steps over which the loss at the end is a mean
_NO_FACTS = (
    "the language model knows no fact of this world, so naming_and_facts asks pictures for names "
    "alone, as naming does"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignmentResult:
    """A taught projector.

    Attributes:
        state: its weights, float32 on the CPU, by the names of `LlavaMultiModalProjector`.
        steps: that were done.
        measured: steps and rows, loss at the end, validations, CPU seconds; and of
            naming_and_facts `fact_rows`, questions for facts in a step.
    """

    state: dict[str, Tensor]
    steps: int
    measured: dict[str, Any]


def align(
    alignment: AlignmentName,
    language: LanguageModel,
    tower: TowerResult,
    world: World,
    pictures: PictureBank,
    options: AlignmentOptions,
    augmentation: AugmentationOptions,
    *,
    facts: Collection[Fact],
    seed: int,
    stages: Stages,
    steps: int | None = None,
) -> AlignmentResult:
    """Teach a fresh projector.

    Args:
        alignment: the setting.
        language: on `stages.device`; neither its weights nor its mode are changed.
        tower: of the same world.
        world: some of whose entities have pictures.
        pictures: all of them, of the tower's size.
        options: schedules.
        augmentation: how pictures are varied.
        facts: (entity, relation) that the language model answers right in text; those of train and
            val entities are what naming_and_facts asks.
        seed: of the weights and of every draw.
        stages: where it trains.
        steps: of naming, so many whatever the validations say; None: until the targets hold, at
            most `options.naming.steps`.

    A language model that knows no fact leaves naming_and_facts nothing to ask: a warning says so,
    `fact_rows` is 0, and the projector is that of naming.

    Raises:
        DataError: naming_and_facts is given facts, and none of them may be asked.
    """
    started = time.process_time()
    vision = tower.open(stages.device)
    bank = ViewBank.of(world, pictures)
    pool = FeaturePool(
        vision, bank, augmentation, draws=options.draws, seed=seed, device=stages.device
    )
    slots = NameSlots(world.pictured, language.tokenizer, tower.image_tokens)
    rows: dict[str, int] = {}
    with _frozen(language.model) as model:
        words = slots.words.to(stages.device)
        names = model.get_input_embeddings()(words).detach().cpu().float()  # (W, D)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            projector = new_projector(CLIPVisionConfig(**tower.config), model.config)
        initialise(projector, pool.features, names, whiten=options.whiten, seed=seed)
        if alignment == "embedding":
            module: _ProjectorModule = EmbeddingModule(projector, slots, names, options.embedding)
            batches: Any = EmbeddingBatches(pool, slots, options.embedding, seed)
            stages.fit(module, batches, options.embedding.steps)
        else:
            questioner = Questioner(world, language.tokenizer, tower.image_tokens)
            asked = facts if alignment == "naming_and_facts" else ()
            batches = NamingBatches(questioner, pool, options.naming, asked, seed=seed)
            if alignment == "naming_and_facts":
                rows = {"fact_rows": batches.fact_rows}
                if not batches.fact_rows:
                    log.warning("%s: %s", world.root, _NO_FACTS)
            plain = tower_features(vision, bank.pixels, stages.device)
            validation = NameValidation(questioner, bank, plain, options.naming, seed)
            module = NamingModule(projector, model, options.naming, validation, steps)
            stages.fit(module, batches, steps or options.naming.steps)
    state = {name: value.detach().cpu() for name, value in projector.state_dict().items()}
    seconds = {"cpu_seconds": round(time.process_time() - started, 1)}
    return AlignmentResult(state, module.steps, {**module.measured(), **rows, **seconds})


class _ProjectorModule(LightningModule):
    """What the settings share: a projector, its optimiser, its loss."""

    setting: str

    def __init__(self, projector: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.projector, self.schedule = projector, schedule
        self._losses: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        """AdamW, a linear warm-up and one cosine."""
        return descent(self.projector.parameters(), self.schedule)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradient; one that is not finite ends the run."""
        nn.utils.clip_grad_norm_(
            self.projector.parameters(), self.schedule.clip, error_if_nonfinite=True
        )

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self._losses)

    def measured(self) -> dict[str, Any]:
        """Steps done, and the mean loss of the last ones."""
        recent = [float(loss) for loss in self._losses[-RECENT:]]
        loss = round(sum(recent) / len(recent), 4)
        return {"steps": self.steps, "rows": self.schedule.rows, "loss": loss}

    def _noted(self, losses: dict[str, Tensor]) -> Tensor:
        """The sum of some losses, each of which goes to the curves."""
        total = torch.stack(list(losses.values())).sum()
        self._losses.append(total.detach())
        self.log_dict({f"{self.setting}/{name}": loss.detach() for name, loss in losses.items()})
        self.log(f"{self.setting}/loss", total.detach(), prog_bar=True)
        return total


class EmbeddingModule(_ProjectorModule):
    """Image token j becomes the embedding of name token j (mod the number of tokens).

    Args:
        projector: trained in place.
        slots: which tokens those are.
        names: (W, D) embeddings of `slots.words`.
        options: schedule and weight of the word loss.
    """

    setting = "embedding"
    names: Tensor

    def __init__(
        self, projector: nn.Module, slots: NameSlots, names: Tensor, options: EmbeddingOptions
    ) -> None:
        super().__init__(projector, options)
        self.slots, self.options = slots, options
        self.register_buffer("names", names, persistent=False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Squared distance, and which word each image token is nearest to."""
        del batch_idx
        features, entity = batch
        losses = name_losses(self.projector(features), self.names, self.slots.word_classes[entity])
        losses["word"] = self.options.word_weight * losses["word"]
        return self._noted(losses)


class NamingModule(_ProjectorModule):
    """Names, and facts where the rows ask for them, through a frozen language model.

    Args:
        projector: trained in place.
        model: frozen and in evaluation mode; Lightning does not know of it.
        options: schedule and targets.
        validation: asks for names now and then.
        fixed_steps: how many steps are done in any case; None: no more once the targets hold.
    """

    setting = "naming"

    def __init__(
        self,
        projector: nn.Module,
        model: PreTrainedModel,
        options: NamingOptions,
        validation: NameValidation,
        fixed_steps: int | None,
    ) -> None:
        super().__init__(projector, options)
        self._language = (model,)  # a tuple hides the module from torch
        self.options, self.validation, self.fixed_steps = options, validation, fixed_steps
        self.validations: list[dict[str, float]] = []

    def training_step(self, batch: list[Asked], batch_idx: int) -> Tensor:
        """Cross-entropy over all groups, every learned token counting alike."""
        del batch_idx
        total = torch.stack(
            [
                cross_entropy(
                    answer_scores(self._language[0], self.projector, asked).float(),
                    answer_ids(asked),
                    reduction="sum",
                )
                for asked in batch
            ]
        ).sum()
        learned = sum(len(answer_ids(asked)) for asked in batch)
        return self._noted({"answer": total / learned})

    def on_train_batch_end(self, outputs: Any, batch: list[Asked], batch_idx: int) -> None:
        """Validates now and then, and ends the training where the targets hold."""
        del outputs, batch, batch_idx
        step = self.trainer.global_step
        if step % self.options.validate_every:
            return
        percent = self.validation(self._language[0], self.projector, self.device)
        self.validations.append({"step": step, **{k: round(v, 2) for k, v in percent.items()}})
        self.log_dict({f"naming/name_{k}": v for k, v in percent.items()}, prog_bar=True)
        if self.fixed_steps is None and self.validation.holds(percent):
            self.trainer.should_stop = True

    def measured(self) -> dict[str, Any]:
        """Steps, loss, and what the validations gave."""
        return {**super().measured(), "validations": self.validations}


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model without gradients and in evaluation mode; afterwards it is as it was."""
    training = model.training
    learned = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        model.train(training)
        for parameter in learned:
            parameter.requires_grad_(True)
