"""Checks of a world folder that need more than one of its parts."""

from __future__ import annotations

from pathlib import Path

from datamodules.picture_folder import PictureFolder
from datamodules.records import inside_folder
from datamodules.world.schema import DEFAULT_TYPE, ENTITIES_FILE, WORLD_FILE, EntityFile, WorldFile
from errors import DataError

SHOWN = 5
UNSEEN_FRACTION = 5  # one view in five is unseen where world.json does not say


def check_relations(root: Path, entities: list[EntityFile], described: WorldFile) -> None:
    """Facts use relations that world.json knows, of subjects of the type that it says.

    Raises:
        DataError: a fact's relation is unknown or belongs to another type.
    """
    if not described.relations:
        return
    for index, entity in enumerate(entities):
        for name in entity.facts:
            relation = described.relations.get(name)
            if relation is None:
                raise DataError(
                    f"{root / ENTITIES_FILE}: entity {index} ({entity.name}) has a fact of the "
                    f"relation {name!r}, which {WORLD_FILE} does not know; it knows "
                    f"{', '.join(sorted(described.relations))}. Correct the fact, or add the "
                    f"relation to {WORLD_FILE} ({{}} is enough to get generic wordings)."
                )
            type_name = entity.type or DEFAULT_TYPE
            if relation.subject_type not in (None, type_name):
                raise DataError(
                    f"{root / ENTITIES_FILE}: entity {index} ({entity.name}) is of type "
                    f"{type_name!r} and has a fact of the relation {name!r}, which {WORLD_FILE} "
                    f"gives to the type {relation.subject_type!r}. Correct the entity's type, or "
                    f"leave subject_type out of {WORLD_FILE}."
                )


def check_pictures(root: Path, entities: list[EntityFile], pictures: PictureFolder) -> None:
    """Every picture that an entity names lies in the folder.

    Args:
        root: world folder.
        entities: name the pictures.
        pictures: the files of that folder.

    Raises:
        DataError: a path leaves the folder, or files are missing (how many, and the first few).
    """
    missing = []
    for index, entity in enumerate(entities):
        for view, path in entity.images.items():
            try:
                inside_folder(path)
            except ValueError as error:
                raise DataError(
                    f"{root / ENTITIES_FILE}: images.{view} of entity {index} ({entity.name}) is "
                    f"{path!r}; {error}. A picture lies inside the world folder, as "
                    "'images/a.png': move it there and correct the path."
                ) from None
            if path not in pictures:
                missing.append(path)
    if missing:
        total = sum(len(entity.images) for entity in entities)
        first = ", ".join(missing[:SHOWN])
        raise DataError(
            f"{root}: {len(missing)} of {total} pictures named in {ENTITIES_FILE} are missing, "
            f"the first: {first}. Put the files there, or take them out of the entities' images."
        )


def check_hops(root: Path, hops: list[tuple[str, str]], leads_on: dict[str, bool]) -> None:
    """Both relations of every hop pair have facts, and the first leads to entities with facts.

    Args:
        root: world folder, for the message.
        hops: pairs from world.json.
        leads_on: for every relation in use, whether its objects are entities with facts.

    Raises:
        DataError: a pair cannot be chained.
    """
    for first, second in hops:
        unknown = [name for name in (first, second) if name not in leads_on]
        if unknown:
            raise DataError(
                f"{root / WORLD_FILE}: hops names the relation {unknown[0]!r}, of which "
                f"{ENTITIES_FILE} has no fact; it has {', '.join(leads_on)}. Correct the pair "
                f"[{first}, {second}] or take it out."
            )
        if not leads_on[first]:
            raise DataError(
                f"{root / WORLD_FILE}: hops chains [{first}, {second}], but the objects of "
                f"{first!r} are not entities with facts, so nothing can follow it. Take the pair "
                "out, or add those entities."
            )


def split_views(
    root: Path, entity: EntityFile, described: WorldFile
) -> tuple[list[str], list[str]]:
    """Seen and unseen views of an entity, as world.json says or the last fifth as unseen ones.

    Returns:
        Names of the seen views and of the unseen ones, sorted; both empty without pictures.

    Raises:
        DataError: the entity has no seen or no unseen view, or one that is both.
    """
    names = sorted(entity.images)
    if not names:
        return [], []
    views = described.views
    if views is None:
        n_unseen = max(1, len(names) // UNSEEN_FRACTION)
        seen, unseen = names[:-n_unseen], names[-n_unseen:]
        rule = "the last fifth of the sorted views, at least one, is unseen"
    else:
        both = sorted(set(views.seen or []) & set(views.unseen))
        if both:
            raise DataError(
                f"{root / WORLD_FILE}: views lists {', '.join(both)} as seen and as unseen. Leave "
                "each view in one of the two lists."
            )
        unseen = [name for name in names if name in views.unseen]
        listed = set(names) - set(unseen) if views.seen is None else set(views.seen)
        seen = [name for name in names if name in listed]
        rule = f"views of {WORLD_FILE} tells which are seen and unseen"
    if not seen or not unseen:
        lacking = "seen" if not seen else "unseen"
        raise DataError(
            f"{root / ENTITIES_FILE}: entity {entity.name!r} has the views {', '.join(names)} and "
            f"among them no {lacking} one ({rule}). At least one of each kind is needed: add a "
            "picture, or leave the entity's images out."
        )
    return seen, unseen
