"""All that is asked of one edit: its own question, its probes, and what tells what they rest on."""

from __future__ import annotations

from datamodules.name_first import name_first
from datamodules.prompts import Prompt, true_questions
from datamodules.reading import reading_questions
from datamodules.records import Record
from datamodules.scenarios import Scenario
from datamodules.source import FilterKnown


def all_prompts(
    scenario: Scenario, record: Record, *, filter_known: FilterKnown, reads: bool
) -> list[Prompt]:
    """What an edit of a record asks, and what the unedited model is asked besides.

    Args:
        scenario: what is taught and asked.
        record: the edit.
        filter_known: by which of its facts edits are chosen.
        reads: whether the model is also asked which pictures it reads.

    Raises:
        DataError: the record lacks what the scenario rests on.
    """
    probes = {name: make_prompt(record) for name, make_prompt in scenario.probes.items()}
    prompts = [*scenario.edit(record), *(prompt for prompt in probes.values() if prompt)]
    if filter_known != "none":
        prompts += true_questions(record, pictures=filter_known == "pictures")
    if reads:
        reading = [
            question
            for probe, prompt in probes.items()
            for question in (reading_questions(record, probe, prompt) if prompt else ())
            if question is not None
        ]
        prompts += dict.fromkeys(question for question in reading if question not in prompts)
    if scenario.names_first:
        ways = [name_first(record, probe, prompt) for probe, prompt in probes.items() if prompt]
        naming = [way.naming for way in ways if way is not None]
        prompts += dict.fromkeys(question for question in naming if question not in prompts)
    return prompts
