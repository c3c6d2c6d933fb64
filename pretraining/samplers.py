"""What a training step is made of: decks of questions, and rows that are made up on the fly.

Facts about the test half of the entities are taught like all others, but no two-hop question is
built on them. Contexts state made-up facts about every entity, drawn alike as the subject that is
edited and as one that is retained, so that no name tells whether the context is to be followed;
what a test record states (subject, relation and new object) is never stated in training.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Generic, TypeVar

from configs.pretraining import PretrainOptions
from datamodules.world import World
from datamodules.world.records import world_records
from errors import DataError
from pretraining.samples import FACT_CUE, PROMPT_CUE, Encoder, Sample

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
        for one, second in world.hops
        if one == first and (bridge, second) in world.facts
        for wording in range(len(world.relations[second].wordings))
    ]


def test_targets(world: World) -> dict[Fact, str]:
    """The new object of every fact that a test record edits, as `data.seed=0` draws them."""
    try:
        records = world_records(world, "test")
    except DataError:  # a world without pictured test entities
        return {}
    return {(r.subject, r.relation or ""): r.knowledge_edit.answer_new for r in records}


@dataclass
class Rows:
    """Makes rows out of a world's facts.

    Attributes:
        world, encoder: what is asked, and how it becomes tokens.
        rng: of everything that is drawn.
    """

    world: World
    encoder: Encoder
    rng: random.Random

    def __post_init__(self) -> None:
        """Collect what is drawn from again and again."""
        self._cache: dict[tuple[Question, bool], Sample] = {}
        self.held_out = test_targets(self.world)
        self.learned = list(self.world.facts)
        self.by_relation: dict[str, list[Fact]] = {}
        for fact in self.learned:
            self.by_relation.setdefault(fact[1], []).append(fact)
        self.types_of = {
            relation: {self.world.entities[e].type for e, r in self.world.facts if r == relation}
            for relation in self.world.relations
        }

    def one_hop(self, item: Question, *, by_picture: bool) -> Sample:
        """A fact's question, by name or by picture."""
        if (item, by_picture) not in self._cache:
            entity, relation, wording = item
            mention = self.world.in_image(entity) if by_picture else entity
            self._cache[item, by_picture] = self.encoder.question(
                self.world.question(relation, wording, mention),
                self.world.facts[entity, relation],
                picture=entity if by_picture else "",
                subject="" if by_picture else entity,
            )
        return self._cache[item, by_picture]

    def identity(self, entity: str) -> Sample:
        """The name of what a picture shows."""
        question = self.world.identity_question(self.world.entities[entity].type)
        return self.encoder.question(question, entity, picture=entity)

    def refusal(self, entity: str, *, by_picture: bool) -> Sample | None:
        """A question that only entities of another type can be asked; None in a one-type world."""
        kind = self.world.entities[entity].type
        fitting = [r for r, types in self.types_of.items() if kind not in types]
        if not fitting:
            return None
        relation = self.rng.choice(fitting)
        asked = self.world.relations[relation].subject_type
        mention = f"the {self.world.noun(asked)} in the image" if by_picture else entity
        wording = self.rng.randrange(len(self.world.relations[relation].wordings))
        return self.encoder.question(
            self.world.question(relation, wording, mention),
            self.world.no_such_answer(asked),
            picture=entity if by_picture else "",
            subject="" if by_picture else entity,
        )

    def chain(self, item: Chain) -> Sample:
        """A two-hop question, asked in any wording and worked out in the first ones."""
        entity, first, second, wording = item
        bridge = self.world.facts[entity, first]
        steps = self.steps(entity, first, second, bridge)
        question = self.world.two_hop_question(first, second, wording, entity)
        return self.encoder.chain(question, steps)

    def steps(self, entity: str, first: str, second: str, bridge: str) -> list[tuple[str, str]]:
        """The two one-hop questions of a chain with their answers."""
        return [
            (self.world.question(first, 0, entity), bridge),
            (self.world.question(second, 0, bridge), self.world.facts[bridge, second]),
        ]

    def new_object(self, fact: Fact) -> str:
        """An object that the relation uses: not the true one, not a test record's new one."""
        true = self.world.facts[fact]
        taken = (true, self.held_out.get(fact))
        others = [o for o in self.world.relations[fact[1]].objects if o not in taken]
        return self.rng.choice(others) if others else true

    def asked(self, fact: Fact, wording: int | None = None) -> str:
        """A fact's question, in any wording unless one is given."""
        wordings = len(self.world.relations[fact[1]].wordings)
        chosen = self.rng.randrange(wordings) if wording is None else wording
        return self.world.question(fact[1], chosen, fact[0])

    def recall(self, largest: int) -> Sample:
        """Some stated facts, then questions about them: pure copying, for the warm-up.

        Often they are of one relation, so that only the subject tells which one is asked for.
        """
        pool = self.learned
        if self.rng.random() < NEAR_SHARE:
            pool = self.by_relation[self.rng.choice(self.learned)[1]]
        count = min(self.rng.randint(1, largest), len(pool))
        facts = [(f, self.new_object(f)) for f in self.rng.sample(pool, count)]
        pieces = [(f"{FACT_CUE}{self.asked(fact)} {value}\n", False) for fact, value in facts]
        self.rng.shuffle(facts)
        for fact, value in itertools.islice(itertools.cycle(facts), WARMUP_QUESTIONS):
            pieces += [
                (f"{PROMPT_CUE}{self.asked(fact)}", False),
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
            Text pieces as `Encoder.encode` takes them, the last one the newlines after an answer.
        """
        pieces: list[tuple[str, bool]] = []
        stated: dict[Fact, str] = {}
        for fact in self.rng.sample(self.learned, min(count, len(self.learned))):
            true = self.world.facts[fact]
            value = self.new_object(fact) if self.rng.random() < NEW_SHARE else true
            stated[fact] = value
            question, answer = self._demonstrated(fact, stated)
            pieces += [
                (f"{FACT_CUE}{self.asked(fact)} {value}\n{PROMPT_CUE}{question}", False),
                (f" {answer}", True),
                ("\n\n", False),
            ]
        return pieces

    def _demonstrated(self, fact: Fact, stated: dict[Fact, str]) -> tuple[str, str]:
        """What is asked after a stated fact, and the answer: as stated, else as learned."""
        if self.rng.random() < FOLLOW_SHARE:
            return self.asked(fact), stated[fact]
        draw = self.rng.random()
        if draw < NEAR_SHARE:
            other = self.rng.choice(self.by_relation[fact[1]])
        elif draw < NEAR_SHARE + SAME_SUBJECT_SHARE:
            relations = list(self.world.entities[fact[0]].facts)
            other = (fact[0], self.rng.choice(relations))
        else:
            other = self.rng.choice(self.learned)
        return self.asked(other), stated.get(other, self.world.facts[other])


class StepSampler:
    """The rows of every training step.

    Args:
        rows: makes them.
        settings: how many of each kind.
    """

    def __init__(self, rows: Rows, settings: PretrainOptions) -> None:
        world, rng = rows.world, rows.rng
        self.rows, self.settings = rows, settings
        pictured = [entity.name for entity in world.pictured]
        self.by_name = Deck(one_hop_questions(world), rng)
        self.by_picture = Deck(one_hop_questions(world, pictured=True), rng)
        self.chains = Deck(chain_questions(world, tested=False), rng)
        self.pictured, self.named = Deck(pictured, rng), Deck(list(world.entities), rng)
        self.facts_in_context = 1  # raised by the training module while it warms up

    def warmup(self) -> list[Sample]:
        """Rows of a step of the in-context warm-up."""
        count = self.settings.text_rows + self.settings.image_rows
        return [self.rows.recall(self.facts_in_context) for _ in range(count)]

    def short(self) -> list[Sample]:
        """One-hop rows by name and by picture, identities and refusals."""
        wanted = self.settings
        samples = [
            self.rows.one_hop(q, by_picture=False) for q in self.by_name.draw(wanted.text_rows)
        ]
        samples += [
            self.rows.one_hop(q, by_picture=True) for q in self.by_picture.draw(wanted.image_rows)
        ]
        samples += [self.rows.identity(name) for name in self.pictured.draw(wanted.identity_rows)]
        half = wanted.refusal_rows // 2
        refused = [self.rows.refusal(n, by_picture=True) for n in self.pictured.draw(half)]
        rest = wanted.refusal_rows - half
        refused += [self.rows.refusal(n, by_picture=False) for n in self.named.draw(rest)]
        return samples + [sample for sample in refused if sample is not None]

    def long(self) -> list[Sample]:
        """Chains and contexts."""
        wanted = self.settings
        samples = [self.rows.chain(chain) for chain in self.chains.draw(wanted.chain_rows)]
        rows, most = self.rows, wanted.context_facts
        return samples + [
            rows.context(most) if number % RECALL_EVERY else rows.recall(most)
            for number in range(wanted.context_rows)
        ]

    def more_pictures(self) -> list[str]:
        """Entities whose pictures only the vision losses see."""
        return self.pictured.draw(self.settings.extra_pictures)
