"""The files of a world folder, checked while they are read.

    entities.json   [{"id", "name", "type"?, "facts": {relation: object},
                      "images"?: {view: path}, "attributes"?: {slot: class}}, ...]
    world.json      optional: {"nouns", "relations": {name: {"subject_type", "wordings",
                      "hop_phrase"}}, "hops", "views": {"seen", "unseen"}, "attributes",
                      "generator", "origin", "licence"}

Unknown keys of an entity are ignored (a user's data may carry more); unknown keys of world.json are
mistakes, because nothing but this reader uses that file.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from datamodules.json_file import read_json, read_list
from datamodules.records import Text, name_key
from errors import DataError

ENTITIES_FILE = "entities.json"
WORLD_FILE = "world.json"
DEFAULT_TYPE = "entity"  # of entities that name none
ISSUES_SHOWN = 5
ENTITY_FIELDS = "id, name, facts {relation: text}, images {view: path}; type is optional"


class EntityFile(BaseModel):
    """One element of entities.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Text
    name: Text
    type: Text | None = None
    facts: dict[Text, Text]
    images: dict[Text, Text] = {}
    attributes: dict[Text, Annotated[int, Field(ge=0)]] = {}


class RelationFile(BaseModel):
    """How a relation is asked; what is left out gets a generic form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject_type: Text | None = None
    wordings: list[Text] | None = None
    hop_phrase: Text | None = None


class ViewsFile(BaseModel):
    """Which views an edit may show (seen) and which only its probes show (unseen)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unseen: list[Text]
    seen: list[Text] | None = None


class WorldFile(BaseModel):
    """world.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nouns: dict[str, Text] = {}
    relations: dict[str, RelationFile] = {}
    hops: list[tuple[str, str]] | None = None
    views: ViewsFile | None = None
    attributes: dict[str, dict[str, int]] = {}
    generator: dict[str, Any] = {}
    origin: Text | None = None
    licence: Text | None = None


def read_entities(root: Path) -> list[EntityFile]:
    """The entities of a world folder.

    Raises:
        DataError: the file is missing, not JSON, not a list of entities, empty, or names or ids
            occur twice, however they are spelled.
    """
    path = root / ENTITIES_FILE
    if not os.path.lexists(path):
        raise DataError(
            f"{path}: the file is missing. A world is a folder with {ENTITIES_FILE} and the "
            "pictures that it names; set data.root to such a folder."
        )
    content = [element.value for element in read_list(path, "entities")]
    try:
        entities = TypeAdapter(list[EntityFile]).validate_python(content)
    except ValidationError as error:
        raise DataError(_explain(path, error, content, ENTITY_FIELDS)) from None
    if not any(entity.facts for entity in entities):
        raise DataError(
            f"{path}: the world is empty ({len(entities)} entities without any fact). Give it at "
            "least two entities that share a relation, so that a fact can be edited."
        )
    for field in ("name", "id"):
        _refuse_duplicates(path, field, [getattr(entity, field) for entity in entities])
    return entities


def read_world_file(root: Path) -> WorldFile:
    """world.json, or an empty description where the folder has none.

    Raises:
        DataError: the file is not JSON, has unknown keys, or wordings that cannot be asked.
    """
    path = root / WORLD_FILE
    if not os.path.lexists(path):
        return WorldFile()
    content = read_json(path)
    try:
        described = WorldFile.model_validate(content)
    except ValidationError as error:
        raise DataError(_explain(path, error, content, ", ".join(WorldFile.model_fields))) from None
    for name, relation in described.relations.items():
        _check_relation(path, name, relation)
    return described


def _check_relation(path: Path, name: str, relation: RelationFile) -> None:
    wordings = relation.wordings
    if wordings is not None and (len(wordings) < 2 or len(set(wordings)) < len(wordings)):
        raise DataError(
            f"{path}: relations.{name}.wordings has {len(wordings)} wordings, "
            f"{len(set(wordings))} of them different. At least two are needed, and no two may be "
            "the same: the first asks the edit, the others its paraphrases. Add or change one, or "
            "leave the key out to get generic wordings."
        )
    for text in [*(wordings or []), *([relation.hop_phrase] if relation.hop_phrase else [])]:
        if text.count("{s}") != 1:
            raise DataError(
                f"{path}: relations.{name}: {text!r} holds the placeholder {{s}} "
                f"{text.count('{s}')} times. It must stand there once, where the subject goes, as "
                "in 'Who founded {s}?'."
            )


def _refuse_duplicates(path: Path, field: str, values: list[str]) -> None:
    keys = [name_key(value) for value in values]  # of two spellings one would be trained on
    doubles = [key for key, count in Counter(keys).items() if count > 1]
    if not doubles:
        return
    where = [index for index, key in enumerate(keys) if key == doubles[0]]
    spelled = " and ".join(repr(value) for value in dict.fromkeys(values[i] for i in where))
    raise DataError(
        f"{path}: {len(doubles)} values of the field {field!r} occur more than once, the first is "
        f"{spelled} at the indices {where}. Every entity needs a {field} of its own, whatever its "
        "case: rename or merge them."
    )


def _explain(path: Path, error: ValidationError, content: object, accepted: str) -> str:
    """One paragraph: each mistake with its location, the value and what is accepted."""
    mistakes = []
    for issue in error.errors()[:ISSUES_SHOWN]:
        location = _location(issue["loc"], content)
        if issue["type"] == "missing":
            mistakes.append(f"{location} is missing")
        elif issue["type"] == "extra_forbidden":
            mistakes.append(f"{location} is no known key")
        else:
            mistakes.append(f"{location} is {issue['input']!r:.60}: {issue['msg']}")
    more = error.error_count() - len(mistakes)
    tail = f" (and {more} more)" if more > 0 else ""
    return f"{path}: {'; '.join(mistakes)}{tail}. Accepted fields: {accepted}. Correct the file."


def _location(keys: tuple[int | str, ...], content: object) -> str:
    """Where a mistake is: "entity 3 (Gofin Works): facts.hq", or "relations.hq.wordings"."""
    if not keys:
        return "the file"
    if not isinstance(content, list) or not isinstance(keys[0], int):
        return ".".join(str(part) for part in keys)
    entity = content[keys[0]]
    name = entity.get("name") if isinstance(entity, dict) else None
    who = f"entity {keys[0]} ({name})" if isinstance(name, str) else f"entity {keys[0]}"
    field = ".".join(str(part) for part in keys[1:])
    return f"{who}: {field}" if field else who
