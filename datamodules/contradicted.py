"""Probes whose right answer another edit has changed, where edits stay in place together.

Under single editing every fact but the edited one is as it was. With n edits in place this is no
longer so: the question about a neighbour that Locality and Stability ask may be the question of
another edit, and keeping the old answer would then be the mistake. Of two edits of the same fact
with different answers the later one counts. Such probes are left out of the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from datamodules.prompts import Prompt
from datamodules.records import Record, name_key
from datamodules.scenarios import Scenario
from errors import DataError

Key = tuple[str, str | None]  # question and picture
_OF_THE_EDIT = ("reliability", "generality", "portability", "named")


def contradicted(records: Sequence[Record], scenario: Scenario) -> Mapping[tuple[int, str], int]:
    """Which probes stop being valid, and when.

    An edit is taken to change what its own question and its paraphrase ask, in text and of both
    pictures of its subject; questions are compared word for word. Of a one-hop question each step
    after the edited fact is looked at where the data lists it.

    Args:
        records: the edits in the order in which they are made.
        scenario: its probes are looked at.

    Returns:
        (edit, probe) -> the first other edit that makes the probe's answer wrong; probes that no
        edit contradicts are absent.
    """
    changed_by, later = _changed_by(records), superseded(records)
    contradictions: dict[tuple[int, str], int] = {}
    for number, record in enumerate(records):
        for probe, make_prompt in scenario.probes.items():
            prompt = make_prompt(record)
            if prompt is None:
                continue
            others = [
                other
                for key in _rests_on(record, probe, prompt)
                for other in changed_by.get(key, ())
                if other != number
            ]
            if probe.startswith(_OF_THE_EDIT) and number in later:
                others.append(later[number])
            if others:
                contradictions[number, probe] = min(others)
    return contradictions


def superseded(records: Sequence[Record]) -> Mapping[int, int]:
    """Edits that a later one takes back.

    Args:
        records: the edits in the order in which they are made.

    Returns:
        Edit -> the next edit of the same fact with another new answer; answers that differ in case
        or blanks alone are the same. Edits that none takes back are absent.
    """
    changed_by = _changed_by(records)
    answers = [name_key(record.knowledge_edit.answer_new) for record in records]
    later = {}
    for number, record in enumerate(records):
        others = changed_by.get(_fact(record), ())
        taking_back = [n for n in others if n > number and answers[n] != answers[number]]
        if taking_back:
            later[number] = min(taking_back)
    return later


def _changed_by(records: Iterable[Record]) -> Mapping[Key, list[int]]:
    """Question -> the edits that give it another answer, ascending."""
    changed_by: dict[Key, list[int]] = {}
    for number, record in enumerate(records):
        for key in _changes(record):
            changed_by.setdefault(key, []).append(number)
    return changed_by


def _fact(record: Record) -> Key:
    """The question that tells the fact of an edit from others: in text where it has one."""
    edit = record.knowledge_edit
    return (edit.wording, record.image if edit.question is None else None)


def _changes(record: Record) -> set[Key]:
    """The questions that an edit gives another answer to."""
    edit, rephrase = record.knowledge_edit, record.rephrase_question
    in_text = (edit.question, rephrase.rephrase_question if rephrase else None)
    keys: set[Key] = {(question, None) for question in in_text if question is not None}
    for image in (record.image, record.image_rephrase):
        if image is not None:
            shown = rephrase.rephrase_image_question if rephrase else None
            asked = (edit.image_question, shown)
            keys |= {(question, image) for question in asked if question is not None}
    return keys


def _rests_on(record: Record, probe: str, prompt: Prompt) -> set[Key]:
    """Questions of facts besides the edited one that a probe's answer follows from."""
    if probe.startswith("portability"):
        return {(hop.question, None) for hop in record.new_single_hops[1:]}
    if probe.startswith(_OF_THE_EDIT):
        return set()
    in_text = _in_text(record, probe.rpartition("_")[2])
    return {(prompt.question, prompt.image)} | (set() if in_text is None else {(in_text, None)})


def _in_text(record: Record, kind: str) -> str | None:
    """What a probe about a picture asks, in words that name what the picture shows."""
    if (extra := record.extra_probe(kind)) is not None:
        return extra.question
    probe = {
        "same": record.same_type_entity_question,
        "diff": record.diff_type_entity_question,
    }.get(kind)
    try:
        return None if probe is None else record.text_question_about(probe)
    except DataError:
        return None
