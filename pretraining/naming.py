"""Alignment by naming: pictures learn to say their names to a language model that learns nothing.

The first stage of LLaVA (Liu et al. 2023), Visual Instruction Tuning, for two million parameters:

    language    text alone; where the other recipe shows a picture, its caption stands in words
                ("Image: Zilbo Labs"). The tower learns apart from it to tell pictures apart.
    pictures    min over the connector c of -log p(name | c(tower(picture)), question), language
                model and tower frozen

No loss ties image tokens to embeddings, and image slots never hold any. With `naming_and_facts` the
second stage also asks facts about the pictures of train and val entities, beside the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from configs.pretraining import PretrainOptions
from pretraining.module import PretrainingModule, Turn
from pretraining.parts import match_scale
from pretraining.pictures import PictureBank
from pretraining.sampler import (
    Deck,
    SampleBuilder,
    StepBatch,
    StepSampler,
    one_hop_questions,
)
from pretraining.samples import Sample, TextBatch


class NamingSampler(StepSampler):
    """The batches of both stages.

    Args:
        captions: makes the rows of the language stage.
        builder: makes the rows of pictures.
        pictures: of the world.
        options: of the recipe.
    """

    def __init__(
        self,
        captions: SampleBuilder,
        builder: SampleBuilder,
        pictures: PictureBank,
        options: PretrainOptions,
    ) -> None:
        super().__init__(captions, pictures, options)
        world, rng = builder.world, builder.rng
        self.with_pictures = builder
        self.shown = Deck([entity.name for entity in world.pictured], rng)
        questions = one_hop_questions(world, pictured=True)
        self.taught_facts = Deck([q for q in questions if world.split(q[0]) != "test"], rng)

    def __iter__(self) -> Iterator[StepBatch]:
        """First the language stage, then the pictures."""
        yield from super().__iter__()
        generator = torch.Generator().manual_seed(self.options.seed + 2)
        for _ in range(self.options.naming_steps):
            names, facts = self._group(self.names()), self._group(self.facts())
            entities = tuple(name for batch in (*names, *facts) for name in batch.pictures)
            yield StepBatch(names, facts, entities, self._pixels(entities, generator))

    def names(self) -> list[Sample]:
        """Rows that ask for the name of a picture, in any wording."""
        drawn = self.shown.draw(self.options.naming_rows)
        return [self.with_pictures.named(name) for name in drawn]

    def facts(self) -> list[Sample]:
        """Rows that ask for a fact of a picture of a train or val entity, or none."""
        if self.options.alignment != "naming_and_facts":
            return []
        drawn = self.taught_facts.draw(self.options.picture_fact_rows)
        return [self.with_pictures.one_hop(question, by_picture=True) for question in drawn]

    def _name(self, entity: str) -> Sample:
        return self.builder.named(entity)

    def _only_shown(self) -> int:
        """As many pictures as the other recipe shows; none of them stands in a row here."""
        options = self.options
        rows = options.image_rows + options.identity_rows + options.refusal_rows // 2
        return options.extra_pictures + rows


class NamingModule(PretrainingModule):
    """Both stages; the second one begins after `options.language_steps`."""

    def turns(self) -> list[Turn]:
        """Language model and tower in the first stage, the connector in the second."""
        options = self.options
        warmed_up, changed = options.context_warmup, options.language_steps
        tower = [*self.parts.vision_tower.parameters(), *self.vision.parameters()]
        connector, end = self.parts.connector_parameters(), options.total_steps
        return [
            Turn(self.parts.language_parameters(), options.lr, 0, changed),
            Turn(tower, options.vision_lr, warmed_up, changed),
            Turn(connector, options.naming_lr, changed, end, origin=changed),
        ]

    def losses(self, batch: StepBatch, step: int) -> dict[str, Tensor]:
        """Those of the first stage, or of the second."""
        if step < self.options.language_steps:
            return super().losses(batch, step)
        assert batch.pixels is not None  # every row of this stage shows a picture
        if step == self.options.language_steps:
            match_scale(self.parts, batch.pixels, self.slots.words)
        with torch.no_grad():
            patches = self.parts.patches(batch.pixels)
        tokens = self.parts.project(patches)
        with frozen(self.parts.language_parameters()):
            losses = {"naming": self._answer_loss(batch.short, tokens, 1.0)[0]}
            if batch.long:
                shown = sum(len(group.pictures) for group in batch.short)
                losses["facts"] = self._answer_loss(batch.long, tokens[shown:], 1.0)[0]
        return losses

    def _vision_losses(self, pixels: Tensor, entities: tuple[str, ...]) -> tuple[Tensor, None]:
        """Those of the tower alone: no image token reaches the language stage."""
        entity = self.slots.indices(entities)
        patches = self.parts.patches(pixels)
        return self.vision.weighted(self.vision.of_tower(patches, entity)), None

    def _fill_slots(
        self, embedded: Tensor, batch: TextBatch, tokens: Tensor, share: float
    ) -> Tensor:
        """Picture features in all image rows: (B, T, D)."""
        slots = self.parts.first_slot + torch.arange(tokens.shape[1])
        return embedded.index_put((batch.image_rows[:, None], slots), tokens)


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed inside the block sends no gradient to these, but through them."""
    parameters = list(parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
