"""data=counterfact: CounterFact's clozes (Meng et al., 2022), in EasyEdit's flat form.

Text alone: no pictures and no one-hop question. A prompt is the beginning of a sentence that the
answer continues, "The mother tongue of Danielle Darrieux is"; it stands without the prompt's
template unless `data.asked` says otherwise. The neighbourhood's prompt asks the edited relation of
a subject that shares the true answer: Locality near.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.record_files import Form, RecordFileOptions, read_record_files
from datamodules.records import (
    ExtraLocality,
    KnowledgeEdit,
    Part,
    Record,
    RephraseQuestion,
    Text,
)
from datamodules.source import RecordSource


class CounterfactRecord(Part):
    """A record as it stands in a file.

    Attributes:
        prompt: the edit's cloze, the subject filled in.
        ground_truth: its true continuation.
        rephrase_prompt: a cloze of the same fact in other words.
        locality_prompt: a cloze of a neighbour, which `locality_ground_truth` continues.
    """

    subject: Text
    prompt: Text
    target_new: Text
    ground_truth: Text
    rephrase_prompt: Text
    locality_prompt: Text
    locality_ground_truth: Text


def to_record(value: Any) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    found = CounterfactRecord.model_validate(value)
    answers = {"answer_new": found.target_new, "answer_true": found.ground_truth}
    near = ExtraLocality(
        kind="near", question=found.locality_prompt, answer=found.locality_ground_truth
    )
    return Record(
        subject=found.subject,
        knowledge_edit=KnowledgeEdit(question=found.prompt, **answers),
        rephrase_question=RephraseQuestion(rephrase_question=found.rephrase_prompt, **answers),
        extra_locality=[near],
    )


class CounterfactData(RecordFileOptions):
    """CounterFact's files; configs/data/counterfact.yaml explains the keys."""

    has_pictures: ClassVar[bool] = False
    licence: ClassVar[str | None] = "MIT"

    asked: Literal["cloze", "question"]

    def read(self) -> RecordSource:
        """Reads the files."""
        return read_record_files(
            Path(self.root),
            Form("CounterFact", to_record),
            name=self.name,
            files=self.files or (),
            train_files=self.train_files or (),
            seed=self.seed,
            cloze=self.asked == "cloze",
            filter_known=self.filter_known,
            on_error=self.on_error,
        )


SOURCE = CounterfactData
