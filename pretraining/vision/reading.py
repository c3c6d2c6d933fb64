"""What a language model reads from pictures: names, facts, and facts beside a wrong picture.

An answer is right when all its tokens are the most likely ones (teacher forced, the end not
counted). Only facts that the model answers in text are asked, in the wording that asks an edit. A
wrong picture shows another entity of the same type whose own answer differs, or that has no such
relation; where all of them have the same answer, it shows any of them, and a right answer may have
been read from it. An entity that is the only one of its type is not asked with a wrong picture. The
tiny models' wrong pictures are other ones (`pretraining.reading`): always of another answer.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from transformers import CLIPVisionConfig

from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.pictures import PictureBank
from pretraining.sampler import Fact
from pretraining.vision.asking import Questioner, answered_right
from pretraining.vision.projector import open_projector
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank, tower_features

SEEN, UNSEEN, WRONG = "seen", "unseen", "wrong"
TRAIN_HALF, TEST_HALF = "train", "test"
Cell = dict[str, float]  # right: percent; asked: number


@dataclass(frozen=True)
class Reading:
    """One question about a picture, and what became of it.

    Attributes:
        entity: what the question is about.
        relation: what is asked of it; "" for its name.
        pictures: `SEEN`, `UNSEEN` or `WRONG`.
        view: index of the picture.
        named: whether the name of what the picture shows is given right.
        right: whether the answer is.
    """

    entity: str
    relation: str
    pictures: str
    view: int
    named: bool
    right: bool


def measure_reading(
    language: LanguageModel,
    tower: TowerResult,
    projector: dict[str, Tensor],
    world: World,
    pictures: PictureBank,
    facts: Collection[Fact],
    *,
    seed: int,
    device: torch.device,
    limit: int | None = None,
) -> dict[str, Any]:
    """Ask every picture for its name, and a picture of each sort for facts that are known in text.

    Args:
        language: frozen, on `device`, in evaluation mode.
        tower: of the same world.
        projector: its weights.
        world: some of whose entities have pictures.
        pictures: all of them, of the tower's size.
        facts: (entity, relation) that the language model answers right in text.
        seed: of the views, the wrong pictures, and the facts where they are more than `limit`.
        device: where it is computed.
        limit: facts that are asked at most.

    Returns:
        See `summarise`.
    """
    config = CLIPVisionConfig(**tower.config)
    bank = ViewBank.of(world, pictures)
    features = tower_features(tower.open(device), bank.pixels, device)
    spoken = open_projector(projector, config, language.model.config).to(device)
    questioner = Questioner(world, language.tokenizer, tower.image_tokens)
    views = range(len(bank.views))
    asked = fact_pictures(world, bank, facts, limit, seed)
    rows = [questioner.name(bank.views[view].entity) for view in views]
    rows += [questioner.fact(entity, relation) for entity, relation, _, _ in asked]
    shown = features[[*views, *(view for *_, view in asked)]]
    right = answered_right(language.model, spoken, questioner.encoder, rows, shown, device)
    names = right[: len(views)]
    readings = [
        Reading(view.entity, "", UNSEEN if view.unseen else SEEN, index, names[index], names[index])
        for index, view in enumerate(bank.views)
    ]
    readings += [
        Reading(entity, relation, shown_as, view, names[view], answer)
        for (entity, relation, shown_as, view), answer in zip(
            asked, right[len(views) :], strict=True
        )
    ]
    return summarise(readings, world, [view.kind for view in bank.views])


def fact_pictures(
    world: World, bank: ViewBank, known: Collection[Fact], limit: int | None, seed: int
) -> list[tuple[str, str, str, int]]:
    """Which fact is asked of which picture: (entity, relation, sort of picture, view).

    Args:
        world: whose facts.
        bank: the pictures.
        known: facts; those of entities without a picture are left out.
        limit: facts that are asked at most; they are drawn.
        seed: of the draws.
    """
    rng = random.Random(f"reading/{seed}")
    seen, unseen = bank.by_entity(unseen=False), bank.by_entity(unseen=True)
    facts = [fact for fact in sorted(known) if fact[0] in seen]
    if limit is not None and len(facts) > limit:
        facts = sorted(rng.sample(facts, limit))
    asked = []
    for entity, relation in facts:
        asked.append((entity, relation, SEEN, rng.choice(seen[entity])))
        if entity in unseen:
            asked.append((entity, relation, UNSEEN, rng.choice(unseen[entity])))
        if others := _others(world, entity, relation, seen):
            asked.append((entity, relation, WRONG, rng.choice(seen[rng.choice(others)])))
    return asked


def summarise(readings: Sequence[Reading], world: World, kinds: Sequence[str]) -> dict[str, Any]:
    """Percent right by sort of picture, beside the number of questions.

    Args:
        readings: of names and facts.
        world: says which half an entity belongs to.
        kinds: of view, by its index.

    Returns:
        `names`: seen and unseen, `by_view`, `by_half`; `facts`: seen, unseen and wrong, `by_half`,
        `by_relation`, and `by_name`: whether the picture's name is given right. Each is a mapping
        of sorts of pictures (of views: of kinds) to {"right": percent, "asked": number}.
    """

    def half(reading: Reading) -> str:
        return TEST_HALF if world.split(reading.entity) == "test" else TRAIN_HALF

    names = [reading for reading in readings if not reading.relation]
    facts = [reading for reading in readings if reading.relation]
    return {
        "names": {
            **_cells(names, lambda reading: reading.pictures),
            "by_view": _cells(names, lambda reading: kinds[reading.view]),
            "by_half": _tables(names, half),
        },
        "facts": {
            **_cells(facts, lambda reading: reading.pictures),
            "by_half": _tables(facts, half),
            "by_relation": _tables(facts, lambda reading: reading.relation),
            "by_name": _tables(facts, lambda reading: "right" if reading.named else "wrong"),
        },
    }


def reading_table(measured: dict[str, dict[str, Any]]) -> Table:
    """What was read under each alignment, percent (questions), as a table for the screen."""
    table = Table(title="read from pictures, % right (asked)")
    for column in ("alignment", "asked", "pictures", "all", "train half", "test half"):
        table.add_column(column)
    for column in ("picture named", "not named"):
        table.add_column(column)
    for alignment, reading in measured.items():
        for question in ("names", "facts"):
            part = reading[question]
            halves, by_name = part["by_half"], part.get("by_name", {})
            for pictures in [sort for sort in (SEEN, UNSEEN, WRONG) if sort in part]:
                groups = [halves.get(TRAIN_HALF), halves.get(TEST_HALF)]
                groups += [by_name.get("right"), by_name.get("wrong")]
                table.add_row(
                    alignment, question, pictures, _shown(part[pictures]),
                    *(_shown((group or {}).get(pictures)) for group in groups),
                )  # fmt: skip
    return table


def _others(world: World, entity: str, relation: str, pictured: dict[str, list[int]]) -> list[str]:
    """Other pictured entities of the type: whose answer differs or is missing, or else all."""
    kind = world.entities[entity].type
    others = [name for name in pictured if name != entity and world.entities[name].type == kind]
    answer = world.facts[entity, relation]
    return [name for name in others if world.facts.get((name, relation)) != answer] or others


def _cells(readings: Iterable[Reading], group: Callable[[Reading], str]) -> dict[str, Cell]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for reading in readings:
        groups[group(reading)].append(reading.right)
    return {
        name: {"right": round(100 * sum(right) / len(right), 2), "asked": len(right)}
        for name, right in sorted(groups.items())
    }


def _tables(
    readings: Sequence[Reading], group: Callable[[Reading], str]
) -> dict[str, dict[str, Cell]]:
    names = sorted({group(reading) for reading in readings})
    return {
        name: _cells([r for r in readings if group(r) == name], lambda reading: reading.pictures)
        for name in names
    }


def _shown(cell: Cell | None) -> str:
    return f"{cell['right']:.1f} ({cell['asked']:.0f})" if cell else "-"
