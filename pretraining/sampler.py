"""What a training step is made of: questions in random order, and contexts made up on the fly.

Facts about the test half of the entities are taught like all others, but no two-hop question is
built on them. Contexts state made-up facts about every entity, drawn alike as the subject that is
edited and as one that is retained, so that no name tells whether the context is to be followed;
what a test record states (subject, relation and new object) is never stated in training.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from configs.pretraining import PretrainOptions
from datamodules.world import World
from datamodules.world.records import world_records
from errors import DataError
from pretraining.pictures import PictureBank, augment, normalise
from pretraining.samples import Sample, SampleEncoder, TextBatch, group_by_length
from pretraining.tokenizer import FACT_CUE, PROMPT_CUE, QUESTION, STEPS_CUE, name_questions

Item = TypeVar("Item")
Fact = tuple[str, str]  # (entity, relation)
Question = tuple[str, str, int]  # (entity, relation, wording)
Chain = tuple[str, str, str, int]  # (entity, first relation, second relation, wording)

FOLLOW_SHARE = 0.7  # of the demonstrations ask for the stated fact, the rest for another one
RECALL_EVERY = 3  # among the context rows, one asks back several facts stated at once
NEAR_SHARE, SAME_SUBJECT_SHARE = 0.5, 0.25  # of those others; the rest is any fact
NEW_SHARE = 0.9  # of the stated facts contradict what was learned
WARMUP_QUESTIONS = 3


class Deck(Generic[Item]):
    """Items in random order, each once before any comes again."""

    def __init__(self, items: list[Item], rng: random.Random) -> None:
        self.items, self.rng, self.pile = items, rng, list[Item]()

    def draw(self, count: int) -> list[Item]:
        """The next items; none where the deck is empty from the start."""
        drawn: list[Item] = []
        while self.items and len(drawn) < count:
            if not self.pile:
                self.pile = self.rng.sample(self.items, len(self.items))
            drawn.append(self.pile.pop())
        return drawn


def one_hop_questions(world: World, *, pictured: bool = False) -> list[Question]:
    """Every fact in every wording; with `pictured` only of entities that have pictures."""
    return [
        (entity, relation, wording)
        for entity, relation in world.facts
        if world.entities[entity].images or not pictured
        for wording in range(len(world.relations[relation].wordings))
    ]


def chain_questions(world: World, *, tested: bool) -> list[Chain]:
    """Every two-hop question of the test half, or of the other half."""
    return [
        (entity, first, second, wording)
        for (entity, first), bridge in world.facts.items()
        if (world.split(entity) == "test") == tested
        for hop, second in world.hops
        if hop == first and (bridge, second) in world.facts
        for wording in range(len(world.relations[second].wordings))
    ]


def held_out_objects(world: World) -> dict[Fact, str]:
    """The new object of every fact that a test record edits, as `data.seed=0` draws them."""
    try:
        records = world_records(world, "test")
    except DataError:  # a world without pictured test entities
        return {}
    return {(r.about, r.relation or ""): r.knowledge_edit.answer_new for r in records}


class SampleBuilder:
    """Makes samples out of a world's facts.

    Args:
        world: whose facts.
        encoder: of the rows.
        rng: draws wordings, objects and orders.
        captions: rows about a picture have its caption in words instead.
    """

    def __init__(
        self, world: World, encoder: SampleEncoder, rng: random.Random, *, captions: bool = False
    ) -> None:
        self.world, self.encoder, self.rng, self.captions = world, encoder, rng, captions
        self._cache: dict[tuple[Question, bool], Sample] = {}
        self.held_out = held_out_objects(world)
        self.facts = list(world.facts)
        self.by_relation: dict[str, list[Fact]] = {}
        for fact in self.facts:
            self.by_relation.setdefault(fact[1], []).append(fact)
        self.subject_types = {
            relation: {world.entities[e].type for e, r in world.facts if r == relation}
            for relation in world.relations
        }

    def one_hop(self, question: Question, *, by_picture: bool) -> Sample:
        """A fact's question, by name or by picture."""
        if (question, by_picture) not in self._cache:
            entity, relation, wording = question
            self._cache[question, by_picture] = self._about(
                entity,
                self.world.question(
                    relation, wording, self.world.in_image(entity) if by_picture else entity
                ),
                self.world.facts[entity, relation],
                by_picture=by_picture,
            )
        return self._cache[question, by_picture]

    def identity(self, entity: str) -> Sample:
        """The name of what a picture shows."""
        question = self.world.identity_question(self.world.entities[entity].type)
        return self._about(entity, question, entity, by_picture=True)

    def named(self, entity: str) -> Sample:
        """The name of what a picture shows, asked for in a random wording."""
        kind = self.world.entities[entity].type
        wordings = (
            self.world.identity_question(kind),
            *name_questions(self.world.noun(kind)),
        )
        return self._about(entity, self.rng.choice(wordings), entity, by_picture=True)

    def refusal(self, entity: str, *, by_picture: bool) -> Sample | None:
        """A question that only entities of another type can be asked; None in a one-type world."""
        kind = self.world.entities[entity].type
        unfitting = [r for r, types in self.subject_types.items() if kind not in types]
        if not unfitting:
            return None
        relation = self.rng.choice(unfitting)
        other_kind = self.world.relations[relation].subject_type
        mention = f"the {self.world.noun(other_kind)} in the image" if by_picture else entity
        question = self.ask((mention, relation))
        return self._about(
            entity, question, self.world.no_such_answer(other_kind), by_picture=by_picture
        )

    def chain(self, chain: Chain) -> Sample:
        """A two-hop question, asked in any wording and worked out in the first ones."""
        entity, first, second, wording = chain
        bridge = self.world.facts[entity, first]
        steps = (
            f"{self.world.question(first, 0, entity)} {bridge}; "
            f"{self.world.question(second, 0, bridge)} {self.world.facts[bridge, second]}"
        )
        question = self.world.two_hop_question(first, second, wording, entity)
        return self.encoder.encode(
            [(f"{QUESTION}{question}{STEPS_CUE}", False), (f" {steps}", True)]
        )

    def ask(self, fact: Fact) -> str:
        """A fact's question in a random wording."""
        mention, relation = fact
        wording = self.rng.randrange(len(self.world.relations[relation].wordings))
        return self.world.question(relation, wording, mention)

    def draw_object(self, fact: Fact) -> str:
        """An object that the relation uses: not the true one, not a test record's new one."""
        true = self.world.facts[fact]
        excluded = (true, self.held_out.get(fact))
        others = [o for o in self.world.relations[fact[1]].objects if o not in excluded]
        return self.rng.choice(others) if others else true

    def recall(self, largest: int) -> Sample:
        """Some stated facts, then questions about them: pure copying, for the warm-up.

        Often they are of one relation, so that only the subject tells which one is asked for.
        """
        pool = self.facts
        if self.rng.random() < NEAR_SHARE:
            pool = self.by_relation[self.rng.choice(self.facts)[1]]
        count = min(self.rng.randint(1, largest), len(pool))
        stated = [(fact, self.draw_object(fact)) for fact in self.rng.sample(pool, count)]
        pieces = [(f"{FACT_CUE}{self.ask(fact)} {value}\n", False) for fact, value in stated]
        self.rng.shuffle(stated)
        for fact, value in itertools.islice(itertools.cycle(stated), WARMUP_QUESTIONS):
            pieces += [
                (f"{PROMPT_CUE}{self.ask(fact)}", False),
                (f" {value}", True),
                ("\n\n", False),
            ]
        return self.encoder.encode(pieces[:-1])

    def context(self, largest: int) -> Sample:
        """One to `largest` demonstrations, each with its answer to learn."""
        return self.encoder.encode(self.demonstrations(self.rng.randint(1, largest))[:-1])

    def demonstrations(self, count: int) -> list[tuple[str, bool]]:
        """Facts that are stated and then followed (copy, update) or not asked for (retain).

        Returns:
            Pieces as `SampleEncoder.encode` takes them, the last one the newlines after an answer.
        """
        pieces: list[tuple[str, bool]] = []
        stated: dict[Fact, str] = {}
        for fact in self.rng.sample(self.facts, min(count, len(self.facts))):
            true = self.world.facts[fact]
            value = self.draw_object(fact) if self.rng.random() < NEW_SHARE else true
            stated[fact] = value
            question, answer = self._ask_after(fact, stated)
            pieces += [
                (f"{FACT_CUE}{self.ask(fact)} {value}\n{PROMPT_CUE}{question}", False),
                (f" {answer}", True),
                ("\n\n", False),
            ]
        return pieces

    def _ask_after(self, fact: Fact, stated: dict[Fact, str]) -> tuple[str, str]:
        """What is asked after a stated fact, and the answer: as stated, else as learned."""
        if self.rng.random() < FOLLOW_SHARE:
            return self.ask(fact), stated[fact]
        draw = self.rng.random()
        if draw < NEAR_SHARE:
            other = self.rng.choice(self.by_relation[fact[1]])
        elif draw < NEAR_SHARE + SAME_SUBJECT_SHARE:
            other = (fact[0], self.rng.choice(list(self.world.entities[fact[0]].facts)))
        else:
            other = self.rng.choice(self.facts)
        return self.ask(other), stated.get(other, self.world.facts[other])

    def _about(self, entity: str, question: str, answer: str, *, by_picture: bool) -> Sample:
        """A question about an entity that a picture shows (or its caption), or that it names.

        A caption's name is the row's subject, as in all text, unless the name is what is asked for:
        the subject mask would keep its words from being read one by one.
        """
        if by_picture and self.captions:
            subject = "" if answer == entity else entity
            return self.encoder.question(question, answer, subject=subject, caption=entity)
        picture, subject = (entity, "") if by_picture else ("", entity)
        return self.encoder.question(question, answer, picture=picture, subject=subject)


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


class StepSampler(IterableDataset[StepBatch]):
    """The batches of one run, in order; it is iterated once.

    Attributes:
        facts_in_context: of a warm-up row at most; raised by the training module.
    """

    def __init__(
        self, builder: SampleBuilder, pictures: PictureBank, options: PretrainOptions
    ) -> None:
        super().__init__()
        self.builder, self.pictures, self.options = builder, pictures, options
        world, rng = builder.world, builder.rng
        self.by_name = Deck(one_hop_questions(world), rng)
        self.by_picture = Deck(one_hop_questions(world, pictured=True), rng)
        self.chains = Deck(chain_questions(world, tested=False), rng)
        self.pictured = Deck([entity.name for entity in world.pictured], rng)
        self.named = Deck(list(world.entities), rng)
        self.facts_in_context = 1

    def __len__(self) -> int:
        return self.options.total_steps

    def __iter__(self) -> Iterator[StepBatch]:
        """First the in-context warm-up, then the mixture."""
        generator = torch.Generator().manual_seed(self.options.seed)
        for _ in range(self.options.context_warmup):
            yield StepBatch(self._group(self.warmup()), [], (), None)
        for step in range(self.options.steps):
            short = self._group(self.short())
            long = self._group(self.long()) if step % self.options.long_every == 0 else []
            pictured = [name for batch in short for name in batch.pictures]
            entities = (*pictured, *self.pictured.draw(self._only_shown()))
            yield StepBatch(short, long, entities, self._pixels(entities, generator))

    def warmup(self) -> list[Sample]:
        """Rows of a step of the in-context warm-up."""
        count = self.options.text_rows + self.options.image_rows
        return [self.builder.recall(self.facts_in_context) for _ in range(count)]

    def short(self) -> list[Sample]:
        """One-hop rows by name and by picture, identities and refusals."""
        options, builder = self.options, self.builder
        by_name = self.by_name.draw(options.text_rows)
        by_picture = self.by_picture.draw(options.image_rows)
        half = options.refusal_rows // 2
        samples = [builder.one_hop(question, by_picture=False) for question in by_name]
        samples += [builder.one_hop(question, by_picture=True) for question in by_picture]
        samples += [self._name(name) for name in self.pictured.draw(options.identity_rows)]
        refused = [builder.refusal(n, by_picture=True) for n in self.pictured.draw(half)]
        named = self.named.draw(options.refusal_rows - half)
        refused += [builder.refusal(name, by_picture=False) for name in named]
        return samples + [sample for sample in refused if sample is not None]

    def long(self) -> list[Sample]:
        """Chains and contexts."""
        builder, most = self.builder, self.options.context_facts
        samples = [builder.chain(chain) for chain in self.chains.draw(self.options.chain_rows)]
        return samples + [
            builder.context(most) if number % RECALL_EVERY else builder.recall(most)
            for number in range(self.options.context_rows)
        ]

    def _name(self, entity: str) -> Sample:
        """A row that asks for the name of a picture."""
        return self.builder.identity(entity)

    def _only_shown(self) -> int:
        """Pictures of a step that no row asks about."""
        return self.options.extra_pictures

    def _group(self, samples: list[Sample]) -> list[TextBatch]:
        return group_by_length(samples, self.builder.encoder.pad_id)

    def _pixels(self, entities: tuple[str, ...], generator: torch.Generator) -> Tensor | None:
        if not entities:
            return None
        drawn = self.pictures.draw(entities, generator, unseen=False)
        return normalise(augment(drawn, self.options, generator))
