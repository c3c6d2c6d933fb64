"""A small world: entities with facts and pictures, and the questions that can be asked about them.

The world comes from a folder (see `schema`). Whatever the folder leaves out has a default: generic
wordings, the last fifth of the views as unseen ones, hop relations found from the facts. Half of
the entities of every type are for testing; validation comes out of the other half, never out of it.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datamodules.drawn import no_such
from datamodules.picture_folder import PictureFolder
from datamodules.source import Split
from datamodules.world.schema import (
    DEFAULT_TYPE,
    ENTITIES_FILE,
    WORLD_FILE,
    EntityFile,
    WorldFile,
    read_entities,
    read_world_file,
)
from datamodules.world.validation import (
    check_hops,
    check_pictures,
    check_relations,
    split_views,
)

GENERIC_WORDINGS = (
    "What is the {relation} of {s}?",
    "Which {relation} does {s} have?",
    "Name the {relation} of {s}.",
    "Tell me the {relation} of {s}.",
    "What {relation} does {s} have?",
    "Can you name the {relation} of {s}?",
)
TEST_SHARE = 0.5
VAL_SHARE = 0.1  # of all entities, taken from those that are not for testing


@dataclass(frozen=True)
class Entity:
    """Something that facts are about.

    Attributes:
        images: path of every view by its name; empty for an entity that is known by name alone.
        seen, unseen: the views that an edit may show, and those that only its probes show.
        attributes: what the picture was drawn from, class index by slot (generated worlds only).
    """

    name: str
    id: str
    type: str
    facts: dict[str, str]
    images: dict[str, Path]
    seen: list[Path]
    unseen: list[Path]
    attributes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """A relation between an entity and a text, which may name another entity.

    Attributes:
        subject_type: type of the entities that have it (the most frequent one).
        wordings: questions with the placeholder {s}; the first asks the edit.
        hop_phrase: how the object is named through its subject, "the founder of {s}".
        hop: most of its objects are entities with facts, so that a second relation can follow.
        objects: the values in use, sorted.
    """

    name: str
    subject_type: str
    wordings: list[str]
    hop_phrase: str
    hop: bool
    objects: list[str]


class World:
    """Entities, relations, facts, splits and questions of a world folder; see `World.load`."""

    def __init__(
        self, root: Path, entities: dict[str, Entity], described: WorldFile, seed: int
    ) -> None:
        """Use `World.load`, which checks the folder first.

        Args:
            root: the folder; image paths of records are relative to it.
            entities: by name, sorted, so that nothing depends on the order in the file.
            described: world.json.
            seed: of the splits.
        """
        self.root = root
        self._root_length = len(str(root / "x")) - 1
        self.name = root.resolve().name
        self.seed = seed
        self.origin, self.licence = described.origin, described.licence  # None: not stated
        self.entities = entities
        self.types = sorted({entity.type for entity in entities.values()})
        self.facts = {
            (entity.name, relation): value
            for entity in entities.values()
            for relation, value in sorted(entity.facts.items())
        }
        self.relations = _relations(entities, described)
        self.hops = _hops(self, described)
        self.attribute_sizes = _attribute_sizes(entities.values(), described)
        self._nouns = {
            name: described.nouns.get(name, name.replace("_", " ")) for name in self.types
        }
        self._split = _splits(entities.values(), seed)

    @classmethod
    def load(cls, root: str | Path, *, seed: int = 0, noun: str | None = None) -> World:
        """Read a world folder.

        Args:
            root: folder with entities.json, optional world.json and the pictures.
            seed: of the splits.
            noun: what the entities without a type are called in questions about a picture
                ("the country in the image"); default "entity", or what world.json says.

        Raises:
            DataError: a file is missing or broken, facts and relations do not fit each other, or
                pictures are missing.
        """
        root = Path(root)
        records = read_entities(root)
        described = read_world_file(root)
        if noun is not None:
            nouns = {**described.nouns, DEFAULT_TYPE: noun}
            described = described.model_copy(update={"nouns": nouns})
        check_relations(root, records, described)
        pictures = PictureFolder(root)
        check_pictures(root, records, pictures)
        entities = [_entity(pictures, record, described) for record in records]
        by_name = {entity.name: entity for entity in sorted(entities, key=lambda e: e.name)}
        return cls(root, by_name, described, seed)

    @cached_property
    def digest(self) -> str:
        """sha256 over entities.json, world.json and the pictures that entities name."""
        digest = hashlib.sha256()
        names = [name for name in (ENTITIES_FILE, WORLD_FILE) if (self.root / name).exists()]
        pictures = (path for entity in self.entities.values() for path in entity.images.values())
        names += sorted(map(self.name_of, pictures), key=lambda name: name.split("/"))
        for name in names:
            with open(
                f"{self.root}/{name}", "rb", buffering=0
            ) as file:  # thousands, each read once
                content = file.read()
            digest.update(f"{name}:{len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()

    def name_of(self, picture: Path) -> str:
        """A picture's path as records have it: relative to the folder, with slashes."""
        return str(picture)[self._root_length :].replace(os.sep, "/")

    @property
    def pictured(self) -> list[Entity]:
        """The entities that have pictures, by name."""
        return [entity for entity in self.entities.values() if entity.images]

    def noun(self, type_name: str) -> str:
        """What an entity of the type is called: "company"."""
        return self._nouns[type_name]

    def in_image(self, entity: str) -> str:
        """How a question about a picture mentions its subject: "the company in the image"."""
        return f"the {self.noun(self.entities[entity].type)} in the image"

    def split(self, entity: str) -> Split:
        """The split that an entity's facts belong to."""
        return self._split[entity]

    def members(self, split: Split, type_name: str | None = None) -> list[Entity]:
        """The entities of a split, of one type or of all, by name."""
        return [
            entity
            for entity in self.entities.values()
            if self._split[entity.name] == split and type_name in (None, entity.type)
        ]

    def question(self, relation: str, wording: int, subject: str) -> str:
        """One-hop question; `subject` is a name or "the company in the image"."""
        return _fill(self.relations[relation].wordings[wording], subject)

    def two_hop_question(self, first: str, second: str, wording: int, subject: str) -> str:
        """Question for relation `second` of the object that relation `first` leads to."""
        bridge = self.relations[first].hop_phrase.replace("{s}", subject)
        return _fill(self.relations[second].wordings[wording], bridge)

    def identity_question(self, type_name: str) -> str:
        """Question for the name of what a picture shows."""
        return f"What is the name of the {self.noun(type_name)} in the image?"

    def no_such_answer(self, type_name: str) -> str:
        """Answer to a question about a picture that shows something else."""
        return no_such(self.noun(type_name))


def _entity(pictures: PictureFolder, record: EntityFile, described: WorldFile) -> Entity:
    seen, unseen = split_views(pictures.root, record, described)
    images = {view: pictures.path(path) for view, path in sorted(record.images.items())}
    return Entity(
        name=record.name,
        id=record.id,
        type=record.type or DEFAULT_TYPE,
        facts=dict(record.facts),
        images=images,
        seen=[images[view] for view in seen],
        unseen=[images[view] for view in unseen],
        attributes=dict(record.attributes),
    )


def _relations(entities: dict[str, Entity], described: WorldFile) -> dict[str, Relation]:
    subjects: dict[str, Counter[str]] = defaultdict(Counter)
    objects: dict[str, set[str]] = defaultdict(set)
    for entity in entities.values():
        for relation, value in entity.facts.items():
            subjects[relation][entity.type] += 1
            objects[relation].add(value)
    relations = {}
    for name in sorted(objects):
        relation_file = described.relations.get(name)
        spoken = name.replace("_", " ")
        generic = [wording.replace("{relation}", spoken) for wording in GENERIC_WORDINGS]
        leading_on = sum(bool(v in entities and entities[v].facts) for v in objects[name])
        most_common = _most_common(subjects[name])
        relations[name] = Relation(
            name=name,
            subject_type=(relation_file and relation_file.subject_type) or most_common,
            wordings=(relation_file and relation_file.wordings) or generic,
            hop_phrase=(relation_file and relation_file.hop_phrase) or f"the {spoken} of {{s}}",
            hop=2 * leading_on > len(objects[name]),
            objects=sorted(objects[name]),
        )
    return relations


def _most_common(counts: Counter[str]) -> str:
    """The most frequent one, the first by name among equals."""
    return min(counts, key=lambda name: (-counts[name], name))


def _hops(world: World, described: WorldFile) -> list[tuple[str, str]]:
    """Pairs of relations that can be chained, as told or as found in the facts."""
    if described.hops is not None:
        check_hops(world.root, described.hops, {r.name: r.hop for r in world.relations.values()})
        return sorted(described.hops)
    pairs = set()
    for first in (relation for relation in world.relations.values() if relation.hop):
        for value in first.objects:
            following = world.entities[value].facts if value in world.entities else {}
            # A relation that follows itself often leads straight back to the subject.
            pairs |= {(first.name, second) for second in following if second != first.name}
    return sorted(pairs)


def _attribute_sizes(entities: Iterable[Entity], described: WorldFile) -> dict[str, dict[str, int]]:
    """Number of classes by type and slot, as told or as large as the attributes in use need."""
    sizes: dict[str, dict[str, int]] = {t: dict(s) for t, s in described.attributes.items()}
    for entity in entities:
        for slot, value in entity.attributes.items():
            known = sizes.setdefault(entity.type, {})
            known[slot] = max(known.get(slot, 0), value + 1)
    return sizes


def _splits(entities: Iterable[Entity], seed: int) -> dict[str, Split]:
    names: dict[str, list[str]] = defaultdict(list)
    for entity in entities:
        names[entity.type].append(entity.name)
    splits: dict[str, Split] = {}
    for type_name, members in names.items():
        order = sorted(members)
        random.Random(f"split/{seed}/{type_name}").shuffle(order)
        n_test = int(TEST_SHARE * len(order))
        n_val = min(max(1, round(VAL_SHARE * len(order))), max(0, len(order) - n_test - 1))
        for index, name in enumerate(order):
            in_val = index < n_test + n_val
            splits[name] = "test" if index < n_test else "val" if in_val else "train"
    return splits


def _fill(wording: str, subject: str) -> str:
    """The wording with its subject; a sentence that opens with "the ..." gets its capital."""
    text = wording.replace("{s}", subject)
    opens_with_phrase = wording.startswith("{s}") and subject.startswith("the ")
    return text[0].upper() + text[1:] if opens_with_phrase else text
