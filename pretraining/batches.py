"""From samples to tensors, and the endless stream of training batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from configs.pretraining import PretrainOptions
from pretraining.pictures import PictureBank, augment, normalise
from pretraining.samplers import StepSampler
from pretraining.samples import Sample

IGNORE = -100
GROUPS = 2


@dataclass(frozen=True)
class TextBatch:
    """Padded rows. B rows, T tokens.

    Attributes:
        input_ids: (B, T), padded on the right.
        labels: (B, T), `IGNORE` on what is not learned.
        attention_mask: (B, T) bool.
        graded: (B, T) bool, tokens that count for accuracy.
        image_rows: (I,) indices of the rows that show a picture.
        pictures: the entity shown by each of them.
        picture_rows: (I,) where their pictures stand in the step's `pixels`.
        subjects: per row, the entity that its text names, or "".
        spans: (B, 2) first and last token of that name.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    graded: Tensor
    image_rows: Tensor
    pictures: tuple[str, ...]
    picture_rows: Tensor
    subjects: tuple[str, ...]
    spans: Tensor


@dataclass(frozen=True)
class StepBatch:
    """All that one training step sees.

    Attributes:
        short: one-hop rows (or the warm-up's rows), in groups of similar length.
        long: chains and contexts, in groups too; empty in the steps without.
        entities: those whose pictures are shown.
        pixels: (P, 3, S, S) their augmented, normalised pictures; None in the warm-up.
    """

    short: list[TextBatch]
    long: list[TextBatch]
    entities: tuple[str, ...]
    pixels: Tensor | None


def collate(samples: Sequence[Sample], pad_id: int, first_picture: int = 0) -> TextBatch:
    """Pad samples to the longest of them; their pictures stand in order from `first_picture`."""
    shape = (len(samples), max(len(sample.ids) for sample in samples))
    input_ids = torch.full(shape, pad_id)
    labels = torch.full(shape, IGNORE)
    graded = torch.zeros(shape, dtype=torch.bool)
    attention_mask = torch.zeros(shape, dtype=torch.bool)
    for row, sample in enumerate(samples):
        length = len(sample.ids)
        ids, scored = torch.tensor(sample.ids), torch.tensor(sample.scored)
        input_ids[row, :length] = ids
        labels[row, :length] = ids.where(scored, torch.tensor(IGNORE))
        graded[row, :length] = torch.tensor(sample.graded)
        attention_mask[row, :length] = True
    image_rows = [row for row, sample in enumerate(samples) if sample.picture]
    return TextBatch(
        input_ids=input_ids,
        labels=labels,
        attention_mask=attention_mask,
        graded=graded,
        image_rows=torch.tensor(image_rows, dtype=torch.long),
        pictures=tuple(samples[row].picture for row in image_rows),
        picture_rows=torch.arange(first_picture, first_picture + len(image_rows)),
        subjects=tuple(sample.subject for sample in samples),
        spans=torch.tensor([sample.span for sample in samples]),
    )


def grouped(samples: Sequence[Sample], pad_id: int, groups: int = GROUPS) -> list[TextBatch]:
    """Samples sorted by length and cut into groups, so that little of the work is padding."""
    ordered = sorted(samples, key=lambda sample: len(sample.ids))
    size = max(1, math.ceil(len(ordered) / groups))
    batches: list[TextBatch] = []
    for start in range(0, len(ordered), size):
        shown = sum(len(batch.pictures) for batch in batches)
        batches.append(collate(ordered[start : start + size], pad_id, shown))
    return batches


class TrainingBatches(IterableDataset[StepBatch]):
    """The batches of one run, in order; it is iterated once.

    Args:
        sampler: draws the rows.
        pictures: of the world.
        settings: the recipe.
        pad_id: padding token.
    """

    def __init__(
        self, sampler: StepSampler, pictures: PictureBank, settings: PretrainOptions, pad_id: int
    ) -> None:
        super().__init__()
        self.sampler, self.pictures = sampler, pictures
        self.settings, self.pad_id = settings, pad_id

    def __len__(self) -> int:
        """Steps of the run."""
        return self.settings.total_steps

    def __iter__(self) -> Iterator[StepBatch]:
        """First the in-context warm-up, then the mixture."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        for _ in range(self.settings.context_warmup):
            yield StepBatch(grouped(self.sampler.warmup(), self.pad_id), [], (), None)
        for step in range(self.settings.steps):
            yield self._mixed(step, generator)

    def _mixed(self, step: int, generator: torch.Generator) -> StepBatch:
        short = grouped(self.sampler.short(), self.pad_id)
        long = self.sampler.long() if step % self.settings.long_every == 0 else []
        shown = [name for batch in short for name in batch.pictures]
        entities = (*shown, *self.sampler.more_pictures())
        pixels = None
        if entities:
            drawn = self.pictures.draw(entities, generator, unseen=False)
            pixels = normalise(augment(drawn, self.settings, generator))
        return StepBatch(short, grouped(long, self.pad_id), entities, pixels)
