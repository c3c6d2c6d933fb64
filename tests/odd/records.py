"""A tiny set of records in the benchmark's schema, with drawings: odd cases depart from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.odd.pictures import drawing

FILE, IMAGES = "records.json", "images"
_SUBJECTS = ("Altmark", "Bernau", "Calden", "Dorum", "Eutin")
_OLD, _NEW = ("Kassel", "Lehrte", "Minden", "Norden", "Olpe"), ("Peine", "Rheine", "Soest", "Trier")


def record(number: int) -> dict[str, Any]:
    """One record; its five pictures are `a.png`, ..., `e.png`, shared by all."""
    subject, other = _SUBJECTS[number], _SUBJECTS[(number + 1) % len(_SUBJECTS)]
    old, new = _OLD[number], _NEW[number % len(_NEW)]
    answers = {"answer_new": new, "answer_true": old}
    return {
        "subject": subject,
        "entity_type": "company",
        "knowledge_edit": {
            "question": f"Where is {subject} based?",
            "image_question": "Where is the company in the image based?",
            **answers,
        },
        "rephrase_question": {
            "rephrase_question": f"Which town is {subject} from?",
            "rephrase_image_question": "Which town is the company in the image from?",
            **answers,
        },
        "one_hop_question": {
            "one_hop_question": f"Who leads the town of {subject}?",
            "one_hop_image_question": "Who leads the town of the company in the image?",
            "answer_new": f"Anna {new}",
            "answer_true": f"Otto {old}",
        },
        "same_type_entity_question": {
            "same_type_entity": other,
            "image_question": "Where is the company in the image based?",
            "answer": "Kassel",
            "question": f"Where is {other} based?",
        },
        "diff_type_entity_question": {
            "diff_type_entity": "Everest",
            "image_question": "Where is the company in the image based?",
            "answer": "Sorry, there is no company in the image",
            "question": "Where is Everest based?",
        },
        "locality_question": {"question": "The revolt was led by", "answer": "Maria"},
        "image_locality_question": {"question": "What colour is it?", "answer": "red"},
        "image": "a.png",
        "image_rephrase": "b.png",
        "same_entity_image": "c.png",
        "diff_entity_image": "d.png",
        "locality_image": "e.png",
    }


def records(n: int = 3) -> list[dict[str, Any]]:
    """The first n records, five at most."""
    return [record(number) for number in range(n)]


def write_pictures(folder: Path) -> None:
    """The five drawings, each with its fields in another order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate("abcde"):
        drawing().rotate(0 if number % 2 else 180).resize((24 + number, 16)).save(
            folder / f"{name}.png"
        )


def write_data(folder: Path, n: int = 3) -> Path:
    """A `data.root` with n records and their pictures; returns the folder."""
    write_pictures(folder / IMAGES)
    (folder / FILE).write_text(json.dumps(records(n)), encoding="utf-8")
    return folder


def write_world(folder: Path) -> Path:
    """A world folder of six companies, each with two pictures; returns the folder."""
    write_pictures(folder / IMAGES)
    (folder / "entities.json").write_text(json.dumps(entities()), encoding="utf-8")
    return folder


def entities() -> list[dict[str, Any]]:
    """The entities of that world."""
    names = (*_SUBJECTS, "Fulda")
    return [
        {
            "id": f"C{number}",
            "name": name,
            "type": "company",
            "facts": {"seat": _OLD[number % 5], "founder": _NEW[number % 4]},
            "images": {"front": f"{IMAGES}/a.png", "side": f"{IMAGES}/b.png"},
        }
        for number, name in enumerate(names)
    ]
