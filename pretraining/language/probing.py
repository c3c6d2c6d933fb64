"""What a language model knows of a world, before and after it was taught the form of the prompt.

Before: by cloze, and in the project's prompt after a few examples; a fact that either way brings
out was known. After: in the project's prompt alone, in every wording. An answer is right if every
token of it is the most likely one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.around import ProbingOptions
from datamodules.prompt_encoder import Encoded
from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.language.asking import Asker
from pretraining.language.facts import Fact, FactRows, by_relation, is_taught_from, teachable

Right = frozenset[Fact]
HALVES = ("test", "training")
FORMS = ("cloze", "few_shot", "zero_shot")
MARKS = ("known_before", "taught", "unlocked")


@dataclass(frozen=True)
class Before:
    """The facts that an unadapted model answers right, by how it was asked."""

    cloze: Right
    few_shot: Right
    zero_shot: Right

    @property
    def known(self) -> Right:
        """By cloze or after examples."""
        return self.cloze | self.few_shot

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {form: sorted(map(list, getattr(self, form))) for form in FORMS}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Before:
        """The inverse of `plain`."""
        return cls(**{form: frozenset((s, r) for s, r in plain[form]) for form in FORMS})


@dataclass(frozen=True)
class After:
    """What an adapted model answers right.

    Attributes:
        wordings: of each fact, whether it was right, wording by wording.
    """

    wordings: Mapping[Fact, Sequence[bool]]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"wordings": [[*fact, list(right)] for fact, right in self.wordings.items()]}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> After:
        """The inverse of `plain`."""
        return cls({(s, r): right for s, r, right in plain["wordings"]})

    @property
    def first(self) -> Right:
        """The facts that are right in the first wording, which asks the edit."""
        return frozenset(fact for fact, right in self.wordings.items() if right[0])

    @property
    def firmly(self) -> Right:
        """... and in at least half of the other wordings."""
        return frozenset(
            fact for fact in self.first if 2 * sum(self.wordings[fact][1:]) >= self._others(fact)
        )

    def _others(self, fact: Fact) -> int:
        return len(self.wordings[fact]) - 1


class Probing:
    """Asks a language model every fact of a world.

    Args:
        world: whose facts.
        options: how.
        seed: draws the examples.
    """

    def __init__(self, world: World, options: ProbingOptions, seed: int) -> None:
        self.world, self.options, self.seed = world, options, seed

    def before(self, language: LanguageModel) -> Before:
        """Asks an unadapted model."""
        asker, rows = self._for(language)
        return Before(
            cloze=self._right(asker, rows.cloze, lambda fact: fact[1]),
            few_shot=self._right(
                asker, rows.few_shot, lambda fact: (*rows.examples(fact), fact[1])
            ),
            zero_shot=self._right(
                asker, lambda fact: rows.zero_shot(fact, 0), lambda fact: fact[1]
            ),
        )

    def after(self, language: LanguageModel) -> After:
        """Asks an adapted model."""
        asker, rows = self._for(language)
        found: dict[Fact, list[bool]] = {fact: [] for fact in self.world.facts}
        for relation, facts in by_relation(self.world.facts).items():
            for wording in range(rows.wordings(relation)):
                asked = [rows.zero_shot(fact, wording) for fact in facts]
                for fact, is_right in zip(facts, asker.right(asked), strict=True):
                    found[fact].append(is_right)
        return After(found)

    def _for(self, language: LanguageModel) -> tuple[Asker, FactRows]:
        asker = Asker(language, self.options.batch_tokens)
        shots = self.options.shots
        return asker, FactRows(self.world, asker.encoder, shots=shots, seed=self.seed)

    def _right(
        self,
        asker: Asker,
        row: Callable[[Fact], Encoded],
        begins: Callable[[Fact], Hashable],
    ) -> Right:
        """The facts that are answered right; `begins` says which rows begin alike."""
        groups: dict[Hashable, list[Fact]] = {}
        for fact in self.world.facts:
            groups.setdefault(begins(fact), []).append(fact)
        right: set[Fact] = set()
        for facts in groups.values():
            answers = asker.right([row(fact) for fact in facts])
            right |= {fact for fact, is_right in zip(facts, answers, strict=True) if is_right}
        return frozenset(right)


def marks(world: World, before: Before, after: After) -> dict[str, list[Fact]]:
    """Where each fact that an adapted model may know is from; no fact has two marks.

        known_before    right by cloze or after examples, before anything was taught
        taught          not known before, and among the facts that the adapter learned from
        unlocked        neither, and right afterwards: in the first wording and in at least half of
                        the others

    The facts of no list are not known.

    Returns:
        The facts by mark, in the world's order.
    """
    taught = frozenset(teachable(world)) - before.known
    sets = {
        "known_before": before.known,
        "taught": taught,
        "unlocked": after.firmly - before.known - taught,
    }
    return {mark: [fact for fact in world.facts if fact in sets[mark]] for mark in MARKS}


def table(world: World, before: Before, after: After) -> dict[str, dict[str, dict[str, Any]]]:
    """Percent of the facts that are right, by half and relation.

    Returns:
        half ("test": never taught, "training") -> relation or "all" -> n; cloze, few_shot and
        zero_shot before; known_before; after in the first wording and over all wordings; kept:
        of those known before, the percent that is right after; and majority: what the most
        frequent answer of the training half would get.
    """
    halves: dict[str, dict[str, dict[str, Any]]] = {half: {} for half in HALVES}
    for half in HALVES:
        facts = [f for f in world.facts if is_taught_from(world, f[0]) == (half == "training")]
        for relation, group in sorted(by_relation(facts).items()):
            halves[half][relation] = _line(world, group, before, after)
        if facts:
            halves[half]["all"] = _line(world, facts, before, after)
    return halves


def _line(world: World, facts: Sequence[Fact], before: Before, after: After) -> dict[str, Any]:
    every = [right for fact in facts for right in after.wordings[fact]]
    known = [fact for fact in facts if fact in before.known]
    return {
        "n": len(facts),
        "cloze": _percent(facts, before.cloze),
        "few_shot": _percent(facts, before.few_shot),
        "zero_shot": _percent(facts, before.zero_shot),
        "known_before": _percent(facts, before.known),
        "after": _percent(facts, after.first),
        "after_all_wordings": round(100 * sum(every) / len(every), 1),
        "kept": _percent(known, after.first) if known else None,
        "majority": _percent(facts, _majority(world, facts)),
    }


def _majority(world: World, facts: Iterable[Fact]) -> Right:
    """Those whose object is the most frequent one of their relation in the training half."""
    usual = {}
    for relation, group in by_relation(teachable(world)).items():
        counts = Counter(world.facts[fact] for fact in group)
        usual[relation] = min(counts, key=lambda value: (-counts[value], value))
    return frozenset(fact for fact in facts if world.facts[fact] == usual.get(fact[1]))


def _percent(facts: Collection[Fact], right: Right) -> float:
    return round(100 * sum(fact in right for fact in facts) / len(facts), 1)
