"""data=counterfact: CounterFact's clozes (Meng et al., 2022), in two forms.

EasyEdit's flat form, and the original one with `requested_rewrite`. Text alone: no pictures and no
one-hop question. A prompt is the beginning of a sentence that the answer continues, "The mother
tongue of Danielle Darrieux is"; it stands without the prompt's template unless `data.asked` says
otherwise. The neighbourhood's prompt asks the edited relation of a subject that shares the true
answer: Locality near. The probe about a subject with another answer is drawn from the records of
the same relation, which in the flat form are those with the same words around their subjects.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from datamodules.drawn import by_wording, draw_same_type
from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.record_files import RecordFileOptions
from datamodules.records import (
    ExtraLocality,
    KnowledgeEdit,
    Part,
    Record,
    RephraseQuestion,
    Text,
)


class FlatRecord(Part):
    """A record in EasyEdit's form.

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

    def record(self) -> Record:
        """The same as a record of the project."""
        answers = {"answer_new": self.target_new, "answer_true": self.ground_truth}
        near = ExtraLocality(
            kind="near", question=self.locality_prompt, answer=self.locality_ground_truth
        )
        return Record(
            subject=self.subject,
            knowledge_edit=KnowledgeEdit(question=self.prompt, **answers),
            rephrase_question=RephraseQuestion(rephrase_question=self.rephrase_prompt, **answers),
            extra_locality=[near],
        )


class Target(Part):
    """An answer, with its number in Wikidata, which is not read."""

    text: Text = Field(alias="str")


class Rewrite(Part):
    """The edit.

    Attributes:
        prompt: its cloze, with `{}` in place of the subject.
    """

    prompt: Annotated[Text, Field(pattern=r"\{\}")]
    relation_id: Text
    subject: Text
    target_new: Target
    target_true: Target


class NestedRecord(Part):
    """A record in the authors' form.

    Attributes:
        paraphrase_prompts: clozes of the same fact in other words; the first one is asked.
        neighborhood_prompts: clozes of subjects that share the true answer; the first one is asked.
    """

    requested_rewrite: Rewrite
    paraphrase_prompts: Annotated[list[Text], Field(min_length=1)]
    neighborhood_prompts: list[Text]

    def record(self) -> Record:
        """The same as a record of the project."""
        rewrite = self.requested_rewrite
        true = rewrite.target_true.text
        answers = {"answer_new": rewrite.target_new.text, "answer_true": true}
        return Record(
            subject=rewrite.subject,
            relation=rewrite.relation_id,
            knowledge_edit=KnowledgeEdit(
                question=rewrite.prompt.replace("{}", rewrite.subject), **answers
            ),
            rephrase_question=RephraseQuestion(
                rephrase_question=self.paraphrase_prompts[0], **answers
            ),
            extra_locality=[
                ExtraLocality(kind="near", question=question, answer=true)
                for question in self.neighborhood_prompts[:1]
            ],
        )


_FLAT = Look.of("prompt target_new subject ground_truth")
_NESTED = Look.of("requested_rewrite paraphrase_prompts neighborhood_prompts")


def to_record(value: Any) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    if isinstance(value, dict) and "requested_rewrite" in value:
        return NestedRecord.model_validate(value).record()
    return FlatRecord.model_validate(value).record()


def _relation(record: Record) -> Hashable | None:
    return record.relation or by_wording(record)


def _complete(records: Sequence[Record], seed: int) -> Sequence[Record]:
    return draw_same_type(records, seed, _relation)


class CounterfactData(RecordFileOptions):
    """CounterFact's files; configs/data/counterfact.yaml explains the keys."""

    has_pictures: ClassVar[bool] = False
    licence: ClassVar[str | None] = "MIT"
    origin: ClassVar[str | None] = (
        "https://github.com/kmeng01/rome, https://github.com/zjunlp/EasyEdit"
    )
    looks: ClassVar[tuple[Look, ...]] = (_FLAT, _NESTED)

    asked: Literal["cloze", "question"]
    draw: bool

    def form(self) -> Form:
        """How a record is written."""
        complete = _complete if self.draw else None
        return Form("CounterFact", to_record, id_field="case_id", complete=complete)

    def prompts(self) -> dict[str, bool]:
        """A cloze stands as it is."""
        return {"cloze": self.asked == "cloze"}


SOURCE = CounterfactData
