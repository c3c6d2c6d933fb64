"""The facts of a world as questions: which may be taught, and in which forms they are asked."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.world import World

Fact = tuple[str, str]  # subject, relation
# How texts state a relation; the generic form stands for all others.
CLOZES = {
    "capital": "The capital of {s} is",
    "continent": "{s} is a country on the continent of",
    "city_continent": "{s} is a city on the continent of",
    "region": "{s} is a country in the region of",
    "subregion": "{s} is a country in the region of",
    "currency": "The currency of {s} is the",
    "main_language": "The main language spoken in {s} is",
    "nationality": "A person from {s} is called",
    "largest_neighbour": "The largest neighbour of {s} is",
    "internet_tld": "The internet top-level domain of {s} is",
    "internet_domain": "The internet domain of {s} is",
    "calling_code": "The international calling code of {s} is",
    "government": "The form of government of {s} is",
    "religion": "The main religion of {s} is",
    "driving_side": "In {s}, people drive on the",
    "independence_year": "{s} became independent in",
}
GENERIC_CLOZE = "The {relation} of {s} is"


def is_taught_from(world: World, subject: str) -> bool:
    """Whether facts of a subject may be taught: not those of the half that is for testing."""
    return world.split(subject) != "test"


def teachable(world: World) -> list[Fact]:
    """The facts that an adapter may learn, in the world's order."""
    return [fact for fact in world.facts if is_taught_from(world, fact[0])]


def by_relation(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    """The same facts, relation by relation."""
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact[1]].append(fact)
    return dict(groups)


class FactRows:
    """Rows that ask for the facts of a world.

    Args:
        world: whose facts.
        encoder: of the language model's tokenizer.
        shots: examples before a question of `few_shot`.
        seed: draws them.
    """

    def __init__(self, world: World, encoder: PromptEncoder, *, shots: int, seed: int) -> None:
        self.world, self.encoder, self.shots = world, encoder, shots
        self._drawn = {
            relation: _draw(facts, shots + 1, f"shots/{seed}/{relation}")
            for relation, facts in by_relation(teachable(world)).items()
        }

    def wordings(self, relation: str) -> int:
        """How many questions a relation has."""
        return len(self.world.relations[relation].wordings)

    def zero_shot(self, fact: Fact, wording: int) -> Encoded:
        """The project's prompt alone."""
        return self.encoder.encode(self._question(fact, wording), self.world.facts[fact])

    def few_shot(self, fact: Fact) -> Encoded:
        """The project's prompt after examples of the same relation, which are training facts."""
        return self.encoder.encode(
            self._question(fact, 0), self.world.facts[fact], before=self._examples(fact)
        )

    def cloze(self, fact: Fact) -> Encoded:
        """The beginning of a sentence that the object completes."""
        subject, relation = fact
        form = CLOZES.get(relation, GENERIC_CLOZE.replace("{relation}", relation.replace("_", " ")))
        return self.encoder.encode(form.replace("{s}", subject), self.world.facts[fact], plain=True)

    def examples(self, fact: Fact) -> list[Fact]:
        """What stands before a question of `few_shot`: never the fact itself."""
        return [other for other in self._drawn.get(fact[1], ()) if other != fact][: self.shots]

    def _examples(self, fact: Fact) -> str:
        return "".join(
            f"{self.encoder.prompt(self._question(other, 0))} {self.world.facts[other]}\n"
            for other in self.examples(fact)
        )

    def _question(self, fact: Fact, wording: int) -> str:
        return self.world.question(fact[1], wording, fact[0])


def _draw(facts: list[Fact], count: int, key: str) -> list[Fact]:
    return random.Random(key).sample(facts, min(count, len(facts)))
