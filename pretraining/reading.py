"""What a taught model reads from pictures: names, and the facts that it gives by name.

Train and val entities stand apart from test entities, since `naming_and_facts` teaches facts about
the pictures of the former alone. An answer is right when all its tokens are (teacher forced).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.world import World
from pretraining.accuracy import BATCH, SEED, right_rows, sample_encoder
from pretraining.pictures import PictureBank, normalise
from pretraining.sampler import SampleBuilder, one_hop_questions
from pretraining.samples import Sample, collate

HALVES = {"train_val": ("train", "val"), "test": ("test",)}


@torch.no_grad()
def picture_reading(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    pictures: PictureBank,
) -> dict[str, dict[str, float]]:
    """Percent of names and facts that a model reads from pictures, for each half of the entities.

    Args:
        model: in evaluation mode.
        tokenizer: its tokenizer.
        world: what is asked, every fact in every wording.
        pictures: of the world; a question shows one view, drawn at random.

    Returns:
        `train_val` and `test`, each with `name_*`, `fact_*` of the questions
        that the model answers by name, `fact_*_named` of those whose picture it names right, for
        seen and unseen views, `wrong_picture` (the same fact asked of the picture of another entity
        of the type that has this relation and another answer; facts without such an entity are not
        asked), and the `facts` asked. What nothing was asked for is left out.
    """
    rows = _Rows(model, tokenizer, world, pictures)
    return {half: rows.of_half(splits) for half, splits in HALVES.items()}


class _Rows:
    """Asks one model."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        world: World,
        pictures: PictureBank,
    ) -> None:
        self.model, self.world, self.pictures = model, world, pictures
        self.rng = random.Random(SEED)
        self.generator = torch.Generator().manual_seed(SEED)
        self.builder = SampleBuilder(world, sample_encoder(model, tokenizer), self.rng)

    def of_half(self, splits: Sequence[str]) -> dict[str, float]:
        """All numbers of the entities of some splits."""
        builder = self.builder
        entities = [e.name for e in self.world.pictured if self.world.split(e.name) in splits]
        questions = [q for q in one_hop_questions(self.world, pictured=True) if q[0] in entities]
        by_name = self._right([builder.one_hop(q, by_picture=False) for q in questions])
        known = [q for q, right in zip(questions, by_name, strict=True) if right]
        result: dict[str, list[bool]] = {}
        for views, bank in (("seen", self.pictures.seen), ("unseen", self.pictures.unseen)):
            names = [builder.identity(name) for name in entities if name in bank]
            result[f"name_{views}"] = self._right(names, self._draw(names, views))
            facts = [builder.one_hop(q, by_picture=True) for q in known if q[0] in bank]
            shown = self._draw(facts, views)
            read = self._right(facts, shown)
            named = self._right([builder.identity(fact.picture) for fact in facts], shown)
            result[f"fact_{views}"] = read
            result[f"fact_{views}_named"] = [r for r, n in zip(read, named, strict=True) if n]
        wrong = [row for question in known if (row := self._wrong_picture(question))]
        result["wrong_picture"] = self._right(wrong, self._draw(wrong, "seen"))
        shares = {key: 100 * sum(rows) / len(rows) for key, rows in result.items() if rows}
        return {"facts": len(known)} | {key: round(share, 2) for key, share in shares.items()}

    def _wrong_picture(self, question: tuple[str, str, int]) -> Sample | None:
        """The question about a fact, below the picture of another entity with another answer.

        That entity is of the same type and has the relation; None where there is none. The models
        around a language model are asked with others too (`pretraining.vision.reading`).
        """
        entity, relation, _ = question
        facts, kind = self.world.facts, self.world.entities[entity].type
        others = [
            other.name
            for other in self.world.pictured
            if other.type == kind
            and facts.get((other.name, relation), facts[entity, relation])
            != facts[entity, relation]
        ]
        row = self.builder.one_hop(question, by_picture=True)
        return replace(row, picture=self.rng.choice(others)) if others else None

    def _draw(self, samples: Sequence[Sample], views: str) -> Tensor | None:
        """A view for each sample: (N, 3, S, S) uint8."""
        if not samples:
            return None
        names = [sample.picture for sample in samples]
        return self.pictures.draw(names, self.generator, unseen=views == "unseen")

    def _right(self, samples: Sequence[Sample], pixels: Tensor | None = None) -> list[bool]:
        """Whether each sample is answered right, below its picture where there are some."""
        pad_id = self.builder.encoder.pad_id
        right = [False] * len(samples)
        order = sorted(range(len(samples)), key=lambda row: len(samples[row].ids))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            shown = None if pixels is None else normalise(pixels[rows])
            batch = collate([samples[row] for row in rows], pad_id)
            hits = right_rows(self.model, batch, shown).tolist()
            for row, hit in zip(rows, hits, strict=True):
                right[row] = hit
        return right
