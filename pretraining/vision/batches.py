"""What a projector is taught with: varied pictures with their names, or questions about them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from configs.around import EmbeddingOptions, NamingOptions
from datamodules.prompt_encoder import Encoded
from errors import DataError
from pretraining.losses import NameSlots
from pretraining.sampler import Deck, Fact
from pretraining.vision.asking import NAMING_WORDINGS, Asked, Questioner, ask
from pretraining.vision.views import FeaturePool

GROUPS = 2  # of a step's rows by length, so that little of the work is padding


class EmbeddingBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """((P, N, Dv) features, (P,) entity) of varied seen views, each entity as often."""

    def __init__(
        self, pool: FeaturePool, slots: NameSlots, options: EmbeddingOptions, seed: int
    ) -> None:
        super().__init__()
        self.pool, self.slots, self.options, self.seed = pool, slots, options, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one run, the same ones every time."""
        rng = random.Random(f"embedding/{self.seed}")
        deck = Deck(list(self.slots.index), rng)
        for _ in range(self.options.steps):
            entities = deck.draw(self.options.rows)
            yield self.pool.draw(entities, rng), self.slots.indices(entities)


class NamingBatches(IterableDataset[list[Asked]]):
    """Rows that ask for names, and beside them those that ask for facts.

    Args:
        questioner: writes the rows.
        pool: of the pictures.
        options: rows of a step and share of facts among them.
        facts: that may be asked of pictures; those about test entities are left out. Empty: names
            alone.
        seed: of the draws; names and facts are drawn apart, so that facts change no row of names.

    Attributes:
        facts: relations by entity.

    Raises:
        DataError: facts are given, and none of them may be asked.
    """

    def __init__(
        self,
        questioner: Questioner,
        pool: FeaturePool,
        options: NamingOptions,
        facts: Collection[Fact],
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.questioner, self.pool, self.seed = questioner, pool, seed
        self.steps, self.name_rows = options.steps, options.rows
        share = options.fact_share
        self.fact_rows = max(1, round(self.name_rows * share / (1 - share))) if facts else 0
        world = questioner.world
        self.facts: dict[str, list[str]] = {}
        for entity, relation in sorted(facts):
            if world.entities[entity].images and world.split(entity) != "test":
                self.facts.setdefault(entity, []).append(relation)
        if facts and not self.facts:
            raise DataError(
                f"{world.root}: naming_and_facts asks pictures for facts that the language model "
                f"knows of train and val entities, and of the {len(facts)} facts that it knows "
                "none is about such an entity with a picture. Choose alignment=naming, or another "
                "world or language model."
            )

    def __iter__(self) -> Iterator[list[Asked]]:
        """The batches of one run, the same ones every time; it goes on as long as it is asked."""
        names, facts = (random.Random(f"{kind}/{self.seed}") for kind in ("names", "facts"))
        pictured = Deck([entity.name for entity in self.questioner.world.pictured], names)
        known = Deck(list(self.facts), facts)
        for _ in range(self.steps):
            rows = [self._name(entity, names) for entity in pictured.draw(self.name_rows)]
            rows += [self._fact(entity, facts) for entity in known.draw(self.fact_rows)]
            yield self._grouped(rows)

    def _name(self, entity: str, rng: random.Random) -> tuple[Encoded, Tensor]:
        wording = rng.randrange(len(NAMING_WORDINGS))
        return self.questioner.name(entity, wording, ends=True), self.pool.draw([entity], rng)

    def _fact(self, entity: str, rng: random.Random) -> tuple[Encoded, Tensor]:
        relation = rng.choice(self.facts[entity])
        wording = rng.randrange(len(self.questioner.world.relations[relation].wordings))
        row = self.questioner.fact(entity, relation, wording, ends=True)
        return row, self.pool.draw([entity], rng)

    def _grouped(self, rows: list[tuple[Encoded, Tensor]]) -> list[Asked]:
        rows.sort(key=lambda row: len(row[0].ids))
        size = -(-len(rows) // GROUPS)
        return [
            ask(
                self.questioner.encoder,
                [row for row, _ in rows[start : start + size]],
                torch.cat([features for _, features in rows[start : start + size]]),
            )
            for start in range(0, len(rows), size)
        ]
