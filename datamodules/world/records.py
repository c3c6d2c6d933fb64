"""Records of the benchmark made from a small world: one per pictured subject, relation and target.

    edit            (s, r, o) -> (s, r, o*),  o* another object that relation r really uses
    one-hop         (s, r, o*), (o*, r', a*):  asks r' of "the r of s", answer a* instead of a
    same type       (s', r): another subject of the type          diff type   r of something else
    locality        near (s', r), of the subject (s, r'), and far (s'', r'')

Every choice of a record is drawn from a generator seeded by the record's own key, so that records
do not depend on each other, on the order of the file, or on how many targets a fact gets.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datamodules.records import (
    DiffTypeQuestion,
    ExtraLocality,
    HopQuestion,
    KnowledgeEdit,
    OneHopQuestion,
    Question,
    Record,
    RephraseQuestion,
    SameTypeQuestion,
)
from datamodules.source import SPLITS, Split
from datamodules.world.world import Entity, World
from errors import ConfigError, DataError

logger = logging.getLogger(__name__)

QUICK_TRIES = 20

Fact = tuple[str, str]  # entity, relation
T = TypeVar("T")


def world_records(
    world: World,
    split: Split,
    *,
    seed: int = 0,
    targets_per_fact: int = 1,
    facts: Collection[Fact] | None = None,
) -> list[Record]:
    """Records of the pictured subjects of a split.

    In `train` the edit and its paraphrase take two different wordings at random; in `val` and
    `test` the edit takes the first wording and the paraphrase one of the others. Probes about other
    entities stay within the split; only where a split has no other entity with the relation does
    the probe go to one of another split. A world of one type has no entity of a different type, and
    its records no different-type probe. Image paths are relative to `world.root`.

    Args:
        world: where facts and pictures come from.
        split: "train", "val" or "test".
        seed: of every choice; the same seed gives the same records.
        targets_per_fact: records with different counterfactual targets made of each fact (fewer
            where the relation has fewer objects).
        facts: (entity, relation) pairs that may be edited and probed, such as those that the
            unedited model answers right; default all.

    Returns:
        Records ordered by subject and relation.

    Raises:
        ConfigError: the split is unknown or targets_per_fact is below 1.
        DataError: no record can be made.
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown. Choose one of: {', '.join(SPLITS)}.")
    if targets_per_fact < 1:
        raise ConfigError(f"targets_per_fact={targets_per_fact} makes no record. Choose 1 or more.")
    pools = _Pools(world, split, None if facts is None else frozenset(facts))
    records, left_out = [], 0
    for fact in pools.edits:
        targets = _targets(world, fact, seed, targets_per_fact)
        if not targets or pools.same_type(fact) is None:
            left_out += 1
            continue
        records += [
            _RecordMaker(pools, fact, target, f"{seed}/{split}/{'/'.join(fact)}/{target}").record()
            for target in targets
        ]
    if left_out:
        logger.info("%s, split %s: %d facts without another object", world.name, split, left_out)
    if not records:
        raise DataError(
            f"{world.root}: the split {split!r} gives no record: {len(pools.edits)} facts of "
            f"{len(world.members(split))} entities can be edited, and {left_out} of them have no "
            "other object or no other pictured entity of the type with that relation. Use a world "
            "with more pictured entities, another seed, or allow more facts."
        )
    return records


class _Pools:
    """What probes are drawn from: the facts of a split, those with pictures, and of all splits."""

    def __init__(self, world: World, split: Split, allowed: frozenset[Fact] | None) -> None:
        self.world = world
        self.split = split
        usable = [fact for fact in world.facts if allowed is None or fact in allowed]
        pictured = [fact for fact in usable if world.entities[fact[0]].images]
        self.edits = [fact for fact in pictured if world.split(fact[0]) == split]
        self._by_kind: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        self._by_subject: dict[str, list[Fact]] = defaultdict(list)
        for fact in pictured:
            self._by_kind[world.entities[fact[0]].type, fact[1]].append(fact)
        for fact in usable:
            self._by_subject[fact[0]].append(fact)
        self._far: dict[tuple[Fact, bool], list[list[Fact]]] = {}
        self._same: dict[tuple[str, str], list[list[Fact]]] = {}
        self._others: dict[str, list[list[Entity]]] = {}
        self._usable, self._pictured = usable, pictured

    def of_split(self, facts: Iterable[Fact]) -> list[Fact]:
        """Those of the split."""
        return [fact for fact in facts if self.world.split(fact[0]) == self.split]

    def same_relation(self, fact: Fact) -> list[list[Fact]]:
        """Pictured facts of the same type and relation: those of the split first, then all."""
        kind = self.world.entities[fact[0]].type, fact[1]
        if kind not in self._same:
            self._same[kind] = [self.of_split(self._by_kind[kind]), self._by_kind[kind]]
        return self._same[kind]

    def same_type(self, fact: Fact) -> Fact | None:
        """Some other pictured fact of the same type and relation, if there is one."""
        return next((other for other in self.same_relation(fact)[1] if other[0] != fact[0]), None)

    def of_subject(self, fact: Fact) -> list[Fact]:
        """The other facts of the same subject."""
        return [other for other in self._by_subject[fact[0]] if other != fact]

    def far(self, fact: Fact, *, with_picture: bool) -> list[list[Fact]]:
        """Facts of other relations, best first: another type, then the split, then anything."""
        kind = (self.world.entities[fact[0]].type, fact[1])
        key = (kind, with_picture)
        if key not in self._far:
            everything = self._pictured if with_picture else self._usable
            local = self.of_split(everything)
            other = [f for f in local if f[1] != fact[1]]
            entities = self.world.entities
            foreign = [f for f in other if entities[f[0]].type != kind[0]]
            self._far[key] = [foreign, other, local, everything]
        return self._far[key]

    def other_types(self, fact: Fact) -> list[list[Entity]]:
        """Pictured entities of other types: those of the split first, then all."""
        type_name = self.world.entities[fact[0]].type
        if type_name not in self._others:
            others = [entity for entity in self.world.pictured if entity.type != type_name]
            local = [e for e in others if self.world.split(e.name) == self.split]
            self._others[type_name] = [local, others]
        return self._others[type_name]


@dataclass
class _RecordMaker:
    """Draws one record. `key` seeds every choice."""

    pools: _Pools
    fact: Fact
    target: str
    key: str

    def __post_init__(self) -> None:
        self.world = self.pools.world
        self.rng = random.Random(f"record/{self.key}")
        self.subject, self.relation = self.fact
        self.true = self.world.facts[self.fact]
        n_wordings = len(self.world.relations[self.relation].wordings)
        if self.pools.split == "train":
            self.wording, self.rephrasing = self.rng.sample(range(n_wordings), 2)
        else:
            self.wording, self.rephrasing = 0, self.rng.randrange(1, n_wordings)

    def record(self) -> Record:
        entity = self.world.entities[self.subject]
        image = self._path(self.rng.choice(entity.seen))
        same = self._other_subject(avoid={self.subject})
        near = self._other_subject(avoid={self.subject, same[0]})
        far_text = self._far(with_picture=False)
        far_image = self._far(with_picture=True)
        second = self._second_relation()
        diff, diff_image = self._different_type()
        answers = {"answer_new": self.target, "answer_true": self.true}
        return Record(
            subject=self.subject,
            entity_type=self.world.noun(entity.type),
            relation=self.relation,
            knowledge_edit=KnowledgeEdit(
                question=self._question(self.fact, self.wording),
                image_question=self._image_question(self.fact, self.wording),
                **answers,
            ),
            rephrase_question=RephraseQuestion(
                rephrase_question=self._question(self.fact, self.rephrasing),
                rephrase_image_question=self._image_question(self.fact, self.rephrasing),
                **answers,
            ),
            one_hop_question=None if second is None else self._one_hop(second),
            same_type_entity_question=SameTypeQuestion(
                same_type_entity=same[0],
                question=self._question(same, self.wording),
                image_question=self._image_question(same, self.wording),
                answer=self.world.facts[same],
            ),
            diff_type_entity_question=diff,
            locality_question=Question(
                question=self._question(far_text, self._any_wording(far_text)),
                answer=self.world.facts[far_text],
            ),
            image_locality_question=Question(
                question=self._image_question(far_image, self._any_wording(far_image)),
                answer=self.world.facts[far_image],
            ),
            image=image,
            image_rephrase=self._path(self.rng.choice(entity.unseen)),
            same_entity_image=self._seen_picture(same[0]),
            diff_entity_image=diff_image,
            locality_image=self._seen_picture(far_image[0]),
            single_hops=self._hops(self.true, second),
            new_single_hops=self._hops(self.target, second),
            multimodal_hops=[
                HopQuestion(
                    question=self.world.identity_question(entity.type),
                    answer=self.subject,
                    image=image,
                ),
                HopQuestion(question=self._question(self.fact, self.wording), answer=self.true),
            ],
            extra_locality=self._extra_locality(near),
        )

    def _second_relation(self) -> str | None:
        """A relation to ask of the true and of the new object, with different answers if any."""
        facts = self.world.facts
        able = [
            second
            for first, second in self.world.hops
            if first == self.relation and (self.true, second) in facts
            if (self.target, second) in facts
        ]
        telling = [b for b in able if facts[self.true, b] != facts[self.target, b]]
        return self.rng.choice(telling or able) if able else None

    def _one_hop(self, second: str) -> OneHopQuestion:
        train = self.pools.split == "train"
        wordings = len(self.world.relations[second].wordings)
        wording = self.rng.randrange(wordings) if train else 0
        in_image = self.world.in_image(self.subject)
        question = self.world.two_hop_question
        return OneHopQuestion(
            one_hop_question=question(self.relation, second, wording, self.subject),
            one_hop_image_question=question(self.relation, second, wording, in_image),
            answer_new=self.world.facts[self.target, second],
            answer_true=self.world.facts[self.true, second],
        )

    def _hops(self, bridge: str, second: str | None) -> list[Question]:
        hops = [Question(question=self._question(self.fact, self.wording), answer=bridge)]
        if second is not None:
            question = self.world.question(second, 0, bridge)
            hops.append(Question(question=question, answer=self.world.facts[bridge, second]))
        return hops

    def _different_type(self) -> tuple[DiffTypeQuestion, str] | tuple[None, None]:
        entity = _draw(self.rng, self.pools.other_types(self.fact), lambda _: True)
        if entity is None:
            return None, None
        name, image = entity.name, self._seen_picture(entity.name)
        own_type = self.world.entities[self.subject].type
        probe = DiffTypeQuestion(
            diff_type_entity=name,
            question=self.world.question(self.relation, self.wording, name),
            image_question=self._image_question(self.fact, self.wording),
            answer=self.world.no_such_answer(own_type),
        )
        return probe, image

    def _other_subject(self, avoid: set[str]) -> Fact:
        """The edited relation of another subject, if possible with another answer than the new."""
        pools = self.pools.same_relation(self.fact)
        facts = self.world.facts
        fact = (
            _draw(self.rng, pools, lambda f: f[0] not in avoid and facts[f] != self.target)
            or _draw(self.rng, pools, lambda f: f[0] not in avoid)
            or _draw(self.rng, pools, lambda f: f[0] != self.subject)
        )
        if fact is None:  # `world_records` leaves such facts out
            raise DataError(f"no other entity has the relation {self.relation!r}")
        return fact

    def _far(self, *, with_picture: bool) -> Fact:
        pools = self.pools.far(self.fact, with_picture=with_picture)
        fact = _draw(self.rng, pools, lambda f: f[0] != self.subject)
        return fact or self._other_subject(avoid={self.subject})

    def _extra_locality(self, near: Fact) -> list[ExtraLocality]:
        others = self.pools.of_subject(self.fact)
        probes = [("near", near, self.wording)]
        if others:
            other = self.rng.choice(others)
            probes.append(("subject", other, self._any_wording(other)))
        return [
            ExtraLocality.model_validate(
                {
                    "kind": kind,
                    "question": self._question(fact, wording),
                    "image_question": self._image_question(fact, wording),
                    "answer": self.world.facts[fact],
                    "image": self._seen_picture(fact[0]),
                }
            )
            for kind, fact, wording in probes
        ]

    def _any_wording(self, fact: Fact) -> int:
        return self.rng.randrange(len(self.world.relations[fact[1]].wordings))

    def _question(self, fact: Fact, wording: int) -> str:
        return self.world.question(fact[1], wording, fact[0])

    def _image_question(self, fact: Fact, wording: int) -> str:
        return self.world.question(fact[1], wording, self.world.in_image(fact[0]))

    def _seen_picture(self, entity: str) -> str:
        return self._path(self.rng.choice(self.world.entities[entity].seen))

    def _path(self, picture: Path) -> str:
        return self.world.name_of(picture)


def _targets(world: World, fact: Fact, seed: int, n: int) -> list[str]:
    """Counterfactual objects: what the relation uses elsewhere, never the truth or the subject."""
    others = [o for o in world.relations[fact[1]].objects if o not in (world.facts[fact], fact[0])]
    rng = random.Random(f"targets/{seed}/{'/'.join(fact)}")
    rng.shuffle(others)
    return others[:n]


def _draw(rng: random.Random, pools: list[list[T]], accept: Callable[[T], bool]) -> T | None:
    """An accepted member of the first pool that has one, or none."""
    for pool in pools:
        if not pool:
            continue
        for _ in range(QUICK_TRIES):  # pools are long and nearly all of them accepted
            drawn = rng.choice(pool)
            if accept(drawn):
                return drawn
        accepted = [member for member in pool if accept(member)]
        if accepted:
            return rng.choice(accepted)
    return None
