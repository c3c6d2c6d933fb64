"""IKE's demonstrations as text (Zheng et al., 2023, section 3.2 and the authors' icl.py).

    copy     New Fact: {fact} {new}      update   New Fact: {fact} {new}
             Prompt: {fact} {new}                 Prompt: {paraphrase} {new}

    retain   New Fact: {fact} {new}
             Prompt: {neighbour's question} {its true answer}

Facts are training records, text only, whatever the scenario shows. Of a record that asks of its
picture alone they are the words of that question, as MMEdit's authors have them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

from datamodules.records import Record

Kind = Literal["copy", "update", "retain"]
FACT, PROMPT, END = "New Fact: ", "Prompt: ", "\n\n"
PARTS = 8  # copy : update : retain = 1 : 3 : 4


def demonstration_kinds(k: int) -> list[Kind]:
    """The types of k demonstrations, as near to 1 : 3 : 4 as k allows; 4, 12, 16 for k = 32."""
    copies, updates = round(k / PARTS), round(3 * k / PARTS)
    types: list[Kind] = ["copy"] * copies
    return types + ["update"] * updates + ["retain"] * (k - copies - updates)


def state_fact(fact: str, new: str) -> str:
    """A new fact, and the beginning of the prompt that follows it."""
    return state_facts([(fact, new)])


def state_facts(facts: Iterable[tuple[str, str]]) -> str:
    """New facts with their answers, and the beginning of the prompt that follows them."""
    return "".join(f"{FACT}{fact} {new}\n" for fact, new in facts) + PROMPT


def demonstration(kind: Kind, record: Record, draw: random.Random) -> str:
    """One demonstration of a training record; one without a paraphrase is copied instead."""
    edit, rephrase = record.knowledge_edit, record.rephrase_question
    if kind == "copy" or (kind == "update" and rephrase is None):
        question, answer = edit.wording, edit.answer_new
    elif kind == "update" and rephrase is not None:
        question, answer = rephrase.wording, edit.answer_new
    else:
        question, answer = draw.choice(neighbours(record))
    return answered_prompt(edit.wording, edit.answer_new, question, answer)


def answered_prompt(fact: str, new: str, question: str, answer: str) -> str:
    """A new fact, and a prompt that is answered."""
    return f"{state_fact(fact, new)}{question} {answer}{END}"


def demonstrate_edit(fact: str, new: str) -> str:
    """The copy demonstration of the edit itself."""
    return answered_prompt(fact, new, fact, new)


def neighbours(record: Record) -> list[tuple[str, str]]:
    """Text questions that the edit must leave alone, with their true answers."""
    same, far = record.same_type_entity_question, record.locality_question
    near = [] if same is None else [(record.text_question_about(same), same.answer)]
    unrelated = [] if far is None else [(far.question, far.answer)]
    others = [(extra.question, extra.answer) for extra in record.extra_locality]
    return [*near, *unrelated, *others]


def demonstrate(nearest_first: list[Record], fact: str, new: str, *, seed: int) -> list[str]:
    """The demonstrations of an edit, farthest first, nearest last.

    Their types are shuffled by a generator of the edit's own, so that rank does not tell the type
    and no edit depends on its batch.
    """
    draw = random.Random(f"{seed}/{fact}/{new}")
    types = demonstration_kinds(len(nearest_first))
    draw.shuffle(types)
    nearest_last = [
        demonstration(kind, record, draw) for kind, record in zip(types, nearest_first, strict=True)
    ]
    return nearest_last[::-1]
