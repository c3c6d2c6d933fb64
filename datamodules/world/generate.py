"""Writes a generated world: facts drawn from the catalogue, pictures drawn from attributes.

The same settings always give the same folder. The folder appears complete or not at all: it is
written beside its place and renamed.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.json_file import read_json
from datamodules.world.catalogue import HOPS, NOUNS, PICTURED_TYPES, RELATIONS, WORD_LISTS
from datamodules.world.drawing import SLOTS, draw_entity, render_view
from datamodules.world.names import entity_names
from datamodules.world.schema import ENTITIES_FILE, WORLD_FILE
from errors import ConfigError, DataError
from results.files import replacing_folder

GENERATOR = "tmke-world"
GENERATOR_VERSION = 1
LIMITS = {
    "seed": (0, 2**32 - 1),
    "size": (4, 1000),
    "cities": (2, 1000),
    "seen_views": (1, 900),
    "unseen_views": (1, 90),
}
# Share of a relation's subjects that bounds the number of its objects, so that some objects belong
# to several subjects and every object that an edit may choose is a true one somewhere.
OBJECT_SHARE = 0.8
ATTRIBUTE_TRIES = 1000

Facts = dict[str, dict[str, str]]
Attributes = dict[str, int]
Combination = tuple[tuple[int, int], ...]  # some slots of a row with their values


def generate_world(
    root: str | Path,
    *,
    seed: int = 0,
    size: int = 50,
    cities: int = 30,
    seen_views: int = 40,
    unseen_views: int = 8,
) -> Path:
    """Write a world folder, or keep the one that is there if it has the same settings.

    Args:
        root: the folder to write.
        seed: of names, facts, attributes and views.
        size: number of companies, of landmarks and of people (all pictured), 4 to 1000.
        cities: number of cities (known by name alone), 2 to 1000.
        seen_views: pictures of each entity that training and edits may show.
        unseen_views: pictures of each entity that only probes show.

    Raises:
        ConfigError: a number is outside its limits.
        DataError: the folder holds something else.
    """
    root = Path(root)
    settings = {
        "name": GENERATOR,
        "version": GENERATOR_VERSION,
        "seed": seed,
        "size": size,
        "cities": cities,
        "seen_views": seen_views,
        "unseen_views": unseen_views,
    }
    _check_settings(settings)
    if _holds_same_world(root, settings):
        return root
    try:
        with replacing_folder(root, overwrite=False) as folder:
            (folder / "images").mkdir()
            _write(folder, settings)
    except OSError:  # another process may have been there first
        if not _holds_same_world(root, settings):
            raise
    return root


def _check_settings(settings: dict[str, Any]) -> None:
    for key, (low, high) in LIMITS.items():
        if not low <= settings[key] <= high:
            raise ConfigError(
                f"{key}={settings[key]} is outside the limits of a generated world. Choose "
                f"{low} to {high}."
            )


def _holds_same_world(root: Path, settings: dict[str, Any]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / WORLD_FILE
    content = read_json(path) if path.is_file() else {}
    generator = content.get("generator") if isinstance(content, dict) else None
    if generator == settings:
        return True
    other = f"a world made with {generator}" if generator else "no generated world"
    raise DataError(
        f"{root} holds {other}, while {settings} is asked for. Nothing was written: choose another "
        "folder, ask for the settings that made it, or remove it first."
    )


def _write(folder: Path, settings: dict[str, Any]) -> None:
    rng = random.Random(f"world/{settings['seed']}")
    names = entity_names(rng, settings["size"], settings["cities"])
    facts = _draw_facts(rng, names)
    attributes = {type_name: _draw_attributes(rng, type_name, names) for type_name in SLOTS}
    views = [f"view_{i:02d}" for i in range(settings["seen_views"] + settings["unseen_views"])]
    entities: list[dict[str, Any]] = []
    for type_name, members in names.items():
        for index, name in enumerate(members):
            entity_id = name.lower().replace(" ", "_")
            entity: dict[str, Any] = {"id": entity_id, "name": name, "type": type_name}
            entity["facts"] = facts[name]
            if type_name in PICTURED_TYPES:
                drawn_from = attributes[type_name][index]
                key = [settings["seed"], len(entities)]
                paths = _write_views(folder, entity_id, type_name, drawn_from, views, key)
                entity |= {"images": paths, "attributes": drawn_from}
            entities.append(entity)
    description = {
        "generator": settings,
        "nouns": NOUNS,
        "relations": {
            name: {
                "subject_type": plan.subject_type,
                "wordings": plan.wordings,
                "hop_phrase": plan.hop_phrase,
            }
            for name, plan in RELATIONS.items()
        },
        "hops": HOPS,
        "views": {
            "seen": views[: settings["seen_views"]],
            "unseen": views[settings["seen_views"] :],
        },
        "attributes": SLOTS,
    }
    (folder / ENTITIES_FILE).write_text(json.dumps(entities, indent=1) + "\n", encoding="utf-8")
    (folder / WORLD_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def _draw_facts(rng: random.Random, names: dict[str, list[str]]) -> Facts:
    """Objects of every relation; each object in use is used at least once, most of them again."""
    facts: Facts = {name: {} for members in names.values() for name in members}
    for relation, plan in RELATIONS.items():
        kind = plan.object_kind
        candidates = names[kind] if kind in names else WORD_LISTS[kind].split()
        subjects = names[plan.subject_type]
        n_objects = min(len(candidates), max(2, round(OBJECT_SHARE * len(subjects))))
        in_use = rng.sample(candidates, n_objects)
        drawn = in_use[: len(subjects)] + rng.choices(in_use, k=max(0, len(subjects) - n_objects))
        rng.shuffle(drawn)
        for subject, value in zip(subjects, drawn, strict=True):
            facts[subject][relation] = value
    return facts


def _draw_attributes(
    rng: random.Random, type_name: str, names: dict[str, list[str]]
) -> list[Attributes]:
    """Attributes that differ between any two entities in three slots, or in fewer if they must."""
    slots = SLOTS[type_name]
    # Rows differ in `distance` slots if they share no combination of this many values or more.
    in_use: dict[int, set[Combination]] = {distance: set() for distance in (3, 2, 1)}
    rows: list[list[int]] = []
    for _ in names[type_name]:
        for attempt in range(3 * ATTRIBUTE_TRIES):
            row = [rng.randrange(n) for n in slots.values()]
            if type_name == "company" and row[1] == row[3]:
                continue  # the symbol would vanish in the emblem
            distance = 3 - attempt // ATTRIBUTE_TRIES
            if in_use[distance].isdisjoint(_combinations(row, distance)):
                break
        else:
            raise ConfigError(
                f"no picture is left for {len(names[type_name])} different entities of type "
                f"{type_name!r}. Choose a smaller size."
            )
        rows.append(row)
        for distance, combinations in in_use.items():
            combinations.update(_combinations(row, distance))
    return [dict(zip(slots, row, strict=True)) for row in rows]


def _combinations(row: list[int], distance: int) -> Iterator[Combination]:
    """What a row must not share with another one to differ from it in `distance` slots."""
    return itertools.combinations(enumerate(row), len(row) - distance + 1)


def _write_views(
    folder: Path,
    entity_id: str,
    type_name: str,
    attributes: Attributes,
    views: list[str],
    key: list[int],
) -> dict[str, str]:
    """Draw and save the views; returns their paths relative to the folder, by view."""
    rng = np.random.default_rng(key)
    drawn = draw_entity(type_name, attributes)
    (folder / "images" / entity_id).mkdir()
    paths = {}
    for view in views:
        path = f"images/{entity_id}/{view}.png"
        # Noise hardly compresses: the fastest level costs few bytes and saves most of the time.
        Image.fromarray(render_view(drawn, rng)).save(folder / path, compress_level=1)
        paths[view] = path
    return paths
