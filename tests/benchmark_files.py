"""Miniatures of the field's benchmarks under their published field names, and drawn pictures.

All names and facts are made up here; nothing is copied from the benchmarks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from datamodules.mcmke_files import (
    PICTURE_FILES,
    PICTURE_PAIRS,
    TEXT_FILES,
    TEXT_PAIRS,
)
from datamodules.prompts import Prompt
from datamodules.scenarios import SCENARIOS
from datamodules.source import DataOptions, RecordSource, source_options

ROOT = Path(__file__).resolve().parents[1]
Json = dict[str, Any]

PICTURE: Json = {
    "src": "Which town in Arden is shown in the image?",
    "pred": "Holm,_Arden",
    "alt": "Port Vell",
    "rephrase": "What town of Arden does the picture show?",
    "image": "m.0a1/google_1.jpg",
    "image_rephrase": "m.0a1/bing_2.jpg",
    "loc": "nq question: who wrote the longest letter",
    "loc_ans": "Ada Quill",
    "m_loc": "m.0b2/yahoo_3.jpg",
    "m_loc_q": "Which river is in the image?",
    "m_loc_a": "the Eldwater",
}
VLKEB: Json = {**PICTURE, "loc": "who wrote the longest letter"}
ONE_HOP: Json = {
    **VLKEB,
    "port_new": [
        {
            "port_edit_q": "What time zone does Port Vell follow?",
            "port_edit_a": "Coast Time",
            "port_q": "What is the time zone of the town in the picture?",
            "port_a": "Coast Time",
        }
    ],
}
MULTIHOP: Json = {
    **VLKEB,
    "port_new": [
        {
            "port_type": f"{steps}-hop",
            "Q&A": {"Question": f"Question of {steps} steps?", "Answer": f"Answer {steps}"},
        }
        for steps in (1, 2, 4)
    ],
}
MMEDIT: Json = {
    **PICTURE,
    "src": "How many kites are there?",
    "pred": "no",
    "alt": "2",
    "image": "val2014/COCO_val2014_000000000001.jpg",
    "image_rephrase": "val2014_image_rephrase/COCO_val2014_000000000001.png",
    "m_loc": "val2014/COCO_val2014_000000000002.jpg",
}
CAPTION: Json = {
    **MMEDIT, "src": "a photo of", "rephrase": "a photograph of", "alt": "Two kites over a hill."
}  # fmt: skip
MMKE: Json = {
    **MMEDIT,
    "knowledge_type": "entity_level",
    "type_self": "human",
    "pred": "",
    "alt": "The human in the image corresponds to Ida Stone. Ida Stone was born as Ida Moor.",
    "rel_1": "What is Ida Stone's birth name?",
    "rel_ans_1": "Ida Moor",
    "rel_2": "Which league is Ida Stone in?",
    "rel_ans_2": "North League",
    "m_rel_1": "What is the birth name of the human in the image?",
    "m_rel_ans_1": "Ida Moor",
    "m_rel_2": "Who is the rival of the human in the image?",
    "m_rel_ans_2": "Una Reed",
    "port_new": [
        {"port_type": "1-hop", "Q&A": {"Question": "Where is that league?", "Answer": "Holm"}}
    ],
}
MMKE_VISUAL: Json = {
    **{key: value for key, value in MMKE.items() if "rel_" not in key},
    "knowledge_type": "visual_knowledge",
    "rel": "What does the raised palm mean?",
    "rel_ans": "a greeting",
    "m_rel": "Where is the gesture in the image seen?",
    "m_rel_ans": "in temples",
    "one_hop_img": "val2014/hop.jpg",
    "image_rephrase_question": "What does this gesture mean?",
}


def cckeb(alt: str, src: str, old: list[str], new: list[str], **changed: Any) -> Json:
    """A record of CCKEB about an entity."""
    return {
        **VLKEB,
        "alt": alt,
        "textual_edit": {
            "src": src,
            "rephrase": f"Tell me: {src}",
            "pred": old,
            "alt": new,
            "loc": "who wrote the longest letter",
            "loc_ans": "Ada Quill",
        },
        "port_new": [
            {
                "port_type": "comp",
                "Q&A": {"Question": "Where was the one in the picture founded?", "Answer": new[0]},
            }
        ],
        **changed,
    }


def vlkeb_of(pred: str, folder: str, **changed: Any) -> Json:
    """A record of VLKEB that pictures an entity."""
    images = {"image": f"{folder}/a.jpg", "image_rephrase": f"{folder}/b.jpg"}
    return {**VLKEB, "pred": pred, **images, **changed}


CCKEB = [
    cckeb("Port Vell", "Where was Port Vell founded?", ["Coast", "Shore"], ["Hills", "Highland"]),
    cckeb("Ida Stone", "Where was Ida Stone founded?", ["Holm"], ["Moor"]),
    cckeb("Nobody Known", "Where was Nobody Known founded?", ["Holm"], ["Moor"]),
]
CCKEB_PICTURES = [vlkeb_of("Port_Vell", "m.0c1"), vlkeb_of("Ida_Stone", "m.0c2")]
MEND: Json = {
    "input": "What is the product made by Ironwell?",
    "prediction": "cloth",
    "alternatives": ["kites", "drones"],
    "filtered_rephrases": ["What is the product made by Ironwell?", "What does Ironwell make?"],
    "output": [{"answer": "uniforms", "provenance": [{"title": "Ironwell"}]}],
}
NESTED: Json = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "Ardish", "id": "Q1"},
        "target_true": {"str": "Holmish", "id": "Q2"},
        "subject": "Ida Stone",
    },
    "paraphrase_prompts": ["Ida Stone spoke the language", "Ida Stone, a native"],
    "neighborhood_prompts": ["Una Reed's mother tongue is", "The native language of Bo Lund is"],
    "attribute_prompts": [],
    "generation_prompts": [],
}
ELSEWHERE = "/home/someone/pictures"


def mcmke_lines(number: int, subject: str, kind: str, relation: str, old: str) -> dict[str, Json]:
    """What the files of MC-MKE say of one fact, by the part of a record that each is."""
    triple = {
        "s": subject,
        "r": relation,
        "o": old,
        "new_o": f"New {relation}",
        "new_o_alias": [f"N. {relation}"],
    }
    text, picture = {"sro_edit_input_idx": number}, {"iro_edit_input_idx": number}
    question, shown = f"What is the {relation} of {subject}?", f"the {kind} in the picture"
    fact = {"orig_loc_output_ent": "English", "orig_loc_output_ent_alias": ["en"]}
    image = f"{ELSEWHERE}/p{number}_u0.jpg"
    return {
        "sro_edit": {**text, **triple, "question": question},
        "sro_text_generality": {
            **text, "sro_question_paraphrases": [question, f"Name the {relation} of {subject}."]
        },
        "sro_locality": {
            **text, "locality_test_dict": {"9": {"sro_question": "What does Bo speak?", **fact}}
        },
        "consistency_iro_edit_input_idx": {**text, "consistency_iro_edit_input_idx": number},
        "iro_edit": {
            **picture, **triple, "iro_question": f"What is the {relation} of {shown}?",
            "images": [image],
        },
        "iro_text_generality": {
            **picture, "iro_question_paraphrases": [f"Name the {relation} of {shown}."]
        },
        "iro_image_generality": {
            **picture, "generality_images": [image, f"{ELSEWHERE}/p{number}_u1.jpg"]
        },
        "iro_locality": {
            **picture,
            "locality_test_dict": {
                "9": {"image": f"{ELSEWHERE}/q_u2.jpg", "iro_question": "What is said?", **fact}
            },
        },
        "consistency_sro_edit_idx": {**picture, "consistency_sro_edit_idx": number},
    }  # fmt: skip


MCMKE = [
    mcmke_lines(0, "Arden", "country", "capital", "Holm"),
    mcmke_lines(1, "Vell", "country", "capital", "Moor"),
    mcmke_lines(2, "Arden", "country", "continent", "North"),
    mcmke_lines(3, "The Kite", "book", "author", "Ida Stone"),
    mcmke_lines(4, "The Hill", "book", "language", "Ardish"),
]


def write_mcmke(root: Path, facts: Iterable[Mapping[str, Json]]) -> None:
    """Writes MC-MKE's files as published."""
    facts = list(facts)
    for file in (*TEXT_FILES, *PICTURE_FILES, TEXT_PAIRS, PICTURE_PAIRS):
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(fact[file.part]) for fact in facts if file.part in fact)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def options(name: str, root: Path, **changed: object) -> DataOptions:
    """What configs/data/NAME.yaml says, with some keys changed."""
    values = yaml.safe_load((ROOT / f"configs/data/{name}.yaml").read_text(encoding="utf-8"))
    return source_options(name).model_validate({**values, "root": str(root), **changed})


def write_json(path: Path, records: object) -> None:
    """Writes a JSON file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records), encoding="utf-8")


def read(name: str, root: Path, *records: object, **changed: object) -> RecordSource:
    """The records of a file of a source that reads files of records."""
    write_json(root / "test.json", records)
    return options(name, root, files=["test.json"], **changed).open()


def asked(source: RecordSource, scenario: str, number: int = 0) -> dict[str, Prompt]:
    """Probe -> what a scenario asks of a record; probes that it lacks are absent."""
    record = source.records("test")[number]
    prompts = {name: probe(record) for name, probe in SCENARIOS[scenario].probes.items()}
    return {name: prompt for name, prompt in prompts.items() if prompt is not None}


def draw_pictures(source: RecordSource, scenario: str) -> None:
    """Puts a picture under every name that a scenario needs of the test records.

    They are one small drawing, linked under all names.
    """
    root = source.image_root
    root.mkdir(parents=True, exist_ok=True)
    drawing = root / "drawing.png"
    if not drawing.exists():
        Image.new("RGB", (8, 8), (90, 140, 60)).save(drawing)
    names = {n for r in source.records("test") for n in SCENARIOS[scenario].images(r)}
    for name in names:
        path = root / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(drawing, path)
