"""Teaching a tiny multimodal LLM a world, as a LightningModule.

One run from random weights: text and pictures together, one cosine. At first the image slots hold
the noisy embeddings of the subject's name; when the pictures have learned to produce those, they
take the slots over. The language model and the vision side are clipped apart, because their
gradients differ in size by an order of magnitude.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs.pretraining import PretrainOptions
from datamodules.world import World
from lightning_modules.editor_training import cosine
from pretraining.losses import NameSlots, SubjectLens, VisionLosses
from pretraining.masking import masked_layers, subject_masks
from pretraining.parts import parts_of
from pretraining.sampler import StepBatch, StepSampler
from pretraining.samples import IGNORE, TextBatch

RAISE_BELOW, RAISE_AFTER = 0.25, 15  # nats, steps: when the warm-up states one more fact
MOST_WARMUP_FACTS = 6


class Turn(NamedTuple):
    """Parameters that are trained in some steps of a run.

    Attributes:
        parameters: that are trained.
        lr: peak rate.
        start: step at which the linear warm-up begins.
        end: step at which the cosine ends.
        origin: step at which the cosine begins, whether or not the rate is zero still.
    """

    parameters: list[torch.nn.Parameter]
    lr: float
    start: int
    end: int
    origin: int = 0


class PretrainingModule(LightningModule):
    """The training run's losses and optimiser.

    Args:
        model: freshly built; trained in place.
        sampler: draws the rows; its curriculum is raised from here.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        world: World,
        sampler: StepSampler,
        options: PretrainOptions,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters(options.model_dump())
        self.options, self.sampler = options, sampler
        self.model = model
        self.parts = parts_of(model)
        self.slots = NameSlots(world.pictured, tokenizer, options.image_tokens)
        self.lens = SubjectLens(world, tokenizer)
        self.vision = VisionLosses(world, self.slots, options)
        self.generator = torch.Generator().manual_seed(options.seed + 1)
        self._recent: deque[float] = deque(maxlen=RAISE_AFTER)

    def configure_optimizers(self) -> Any:
        """AdamW with a rate for each part, warmed up when its turn comes, then a cosine."""
        optimizer = torch.optim.AdamW(
            [{"params": turn.parameters, "lr": turn.lr} for turn in self.turns()],
            weight_decay=self.options.weight_decay,
            betas=(0.9, 0.98),
        )
        factors: list[Callable[[int], float]] = [
            partial(self._rate, turn=turn) for turn in self.turns()
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def turns(self) -> list[Turn]:
        """Which part is trained when, and how fast."""
        options = self.options
        start, end = options.context_warmup, options.total_steps
        return [
            Turn(self.parts.language_parameters(), options.lr, 0, end),
            Turn(self._vision_side(), options.vision_lr, start, end),
        ]

    def transfer_batch_to_device(
        self, batch: StepBatch, device: torch.device, dataloader_idx: int
    ) -> StepBatch:
        """Batches are made on the CPU, where this model trains."""
        del device, dataloader_idx
        return batch

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One step of the warm-up or of the mixture."""
        losses = self.losses(batch, batch_idx)
        total = torch.stack(list(losses.values())).sum()
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        self.manual_backward(total)
        for turn in self.turns():
            torch.nn.utils.clip_grad_norm_(
                turn.parameters, self.options.clip, error_if_nonfinite=True
            )
        optimizer.step()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()})
        self.log("train/loss", total.detach(), prog_bar=True)

    def losses(self, batch: StepBatch, step: int) -> dict[str, Tensor]:
        """What a step minimises, by name and weighted; steps count from the run's first."""
        step -= self.options.context_warmup
        return self._warmup_losses(batch) if step < 0 else self._mixed_losses(batch, step)

    def _warmup_losses(self, batch: StepBatch) -> dict[str, Tensor]:
        """Copying from the context; one fact more is stated once copying works."""
        loss, _ = self._answer_loss(batch.short)
        self._recent.append(float(loss.detach()))
        mastered = len(self._recent) == RAISE_AFTER and (
            sum(self._recent) / RAISE_AFTER < RAISE_BELOW
        )
        if mastered and self.sampler.facts_in_context < MOST_WARMUP_FACTS:
            self.sampler.facts_in_context += 1
            self._recent.clear()
        self.log("train/facts_in_context", float(self.sampler.facts_in_context))
        return {"recall": loss}

    def _mixed_losses(self, batch: StepBatch, step: int) -> dict[str, Tensor]:
        """All losses of the mixture, weighted."""
        options, losses = self.options, dict[str, Tensor]()
        tokens = None
        if batch.pixels is not None:
            losses["vision"], tokens = self._vision_losses(batch.pixels, batch.entities)
        answer, lens = self._answer_loss(batch.short, tokens, self._picture_share(step))
        losses["answer"], losses["lens"] = answer, options.lens_weight * lens
        if batch.long:
            losses["long"] = options.long_weight * self._answer_loss(batch.long)[0]
        return losses

    def _vision_losses(
        self, pixels: Tensor, entities: tuple[str, ...]
    ) -> tuple[Tensor, Tensor | None]:
        """What the step's pictures teach the vision side, and their image tokens (P, S, D)."""
        entity = self.slots.indices(entities)
        patches = self.parts.patches(pixels)
        tokens = self.parts.project(patches)
        by_name = self.vision(patches, tokens, self.parts.embeddings.detach(), entity)
        return self.vision.weighted(by_name), tokens

    def _answer_loss(
        self, groups: list[TextBatch], tokens: Tensor | None = None, share: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and lens loss over all groups, every learned token counting alike."""
        answer, lens = [], []
        for batch in groups:
            hidden, states = self._states(batch, tokens, share)
            row, position = (batch.labels[:, 1:] != IGNORE).nonzero(as_tuple=True)
            # (learned, V): of no other token, since the head is dear
            scores = self.parts.decoder.head(hidden[row, position])
            targets = batch.labels[row, position + 1]
            answer.append(cross_entropy(scores, targets, reduction="sum"))
            lens.append(self.lens(self.parts, states[self.options.lens_layer + 1], batch))
        learned = sum(int((batch.labels[:, 1:] != IGNORE).sum()) for batch in groups)
        named = sum(sum(map(bool, batch.subjects)) for batch in groups)
        return torch.stack(answer).sum() / learned, torch.stack(lens).sum() / max(1, named)

    def _states(
        self, batch: TextBatch, tokens: Tensor | None, share: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Final states (B, T, D) and the states between layers."""
        embedded = self.parts.embed_tokens(batch.input_ids)
        if tokens is not None and len(batch.image_rows):
            embedded = self._fill_slots(embedded, batch, tokens[batch.picture_rows], share)
        with self._masking(batch):
            return self.parts.hidden(embedded)

    def _fill_slots(
        self, embedded: Tensor, batch: TextBatch, tokens: Tensor, share: float
    ) -> Tensor:
        """Picture features in a share of the image rows, noisy name embeddings in the others."""
        entity = self.slots.indices(batch.pictures)
        named = self.parts.embeddings[self.slots.pattern[entity]]  # (I, S, D)
        count = len(tokens)
        spread = self.parts.embeddings[self.slots.words].detach().std() * self.options.slot_noise
        size = torch.rand(count, 1, 1, generator=self.generator) * spread
        named = named + torch.randn(named.shape, generator=self.generator) * size
        by_picture = torch.rand(count, 1, 1, generator=self.generator) < share
        slots = self.parts.first_slot + torch.arange(tokens.shape[1])
        return embedded.index_put(
            (batch.image_rows[:, None], slots), tokens.where(by_picture, named)
        )

    def _masking(self, batch: TextBatch) -> Any:
        """The subject mask in a random share of the rows that name their subject."""
        draw = torch.rand(len(batch.subjects), generator=self.generator)
        named = torch.tensor([bool(subject) for subject in batch.subjects])
        hidden = named & (draw < self.options.mask_share)
        if not bool(hidden.any()):
            return nullcontext()
        low, high = subject_masks(batch.spans, hidden, batch.input_ids.shape[1])
        return masked_layers(self.parts.layers, low, high, self.options.mask_layers)

    def _picture_share(self, step: int) -> float:
        """Share of image rows whose slots hold picture features: 0, a ramp, then 1."""
        start, end = self.options.slots_start, self.options.slots_end
        done = step / self.options.steps
        return min(1.0, max(0.0, (done - start) / max(end - start, 1e-9)))

    def _rate(self, step: int, turn: Turn) -> float:
        """Factor of a learning rate: linear warm-up from the turn's start, times a cosine."""
        warmup, floor, origin = self.options.warmup_steps, self.options.lr_floor, turn.origin
        return cosine(
            step - origin, turn.end - origin, warmup=warmup, floor=floor, start=turn.start - origin
        )

    def _vision_side(self) -> list[torch.nn.Parameter]:
        return [*self.parts.vision_parameters(), *self.vision.parameters()]
