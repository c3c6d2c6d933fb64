"""One record of the benchmark: an edit of one fact and everything that is asked after it.

The schema is the one of the TMKE authors' files (Supplementary, section 3): a fact about a
subject, its counterfactual target, a paraphrase, a one-hop question, a same-type and a
different-type entity, a text and an image question for locality, and the pictures. `TmkeRecord`
demands every field of it. `Record` is what the rest of the project works with: a record made from a
small world has the same fields, may lack the one-hop question (not every relation leads on) or the
different-type probe (a world may have one type), and may carry extra locality probes that tell near
from far.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from errors import DataError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
LocalityKind = Literal["near", "subject"]


class Part(BaseModel):
    """Base of the nested parts: unknown fields are kept out, values cannot change."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class KnowledgeEdit(Part):
    """The edited fact, as a text question and as a question about a picture of the subject."""

    question: Text
    image_question: Text
    answer_new: Text
    answer_true: Text


class RephraseQuestion(Part):
    """The same fact in other words (Generality)."""

    rephrase_question: Text
    rephrase_image_question: Text
    answer_new: Text
    answer_true: Text


class OneHopQuestion(Part):
    """A question that needs the edited fact and one more (Portability)."""

    one_hop_question: Text
    one_hop_image_question: Text
    answer_new: Text
    answer_true: Text


class SameTypeQuestion(Part):
    """The edit's question about another entity of the subject's type (Stability)."""

    same_type_entity: Text
    image_question: Text
    answer: Text
    question: Text | None = None


class DiffTypeQuestion(Part):
    """The edit's question about an entity of another type (Stability)."""

    diff_type_entity: Text
    image_question: Text
    answer: Text
    question: Text | None = None


class Question(Part):
    """A question with its answer."""

    question: Text
    answer: Text


class HopQuestion(Question):
    """One step of a chain that starts from a picture."""

    image: str | None = None


class ExtraLocality(Part):
    """A locality probe beyond the schema's.

    `near` asks the edited relation of another subject, `subject` another relation of the edited
    one.
    """

    kind: LocalityKind
    question: Text
    image_question: Text
    answer: Text
    image: Text


class Record(BaseModel):
    """One edit with its probes. Image fields are paths relative to the source's image folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    subject: Text
    entity_type: Text
    knowledge_edit: KnowledgeEdit
    rephrase_question: RephraseQuestion
    one_hop_question: OneHopQuestion | None = None
    same_type_entity_question: SameTypeQuestion
    diff_type_entity_question: DiffTypeQuestion | None = None
    locality_question: Question
    image_locality_question: Question
    image: Text
    image_rephrase: Text
    same_entity_image: Text
    diff_entity_image: Text | None = None
    locality_image: Text
    single_hops: list[Question] = []
    new_single_hops: list[Question] = []
    multimodal_hops: list[HopQuestion] = []
    extra_locality: list[ExtraLocality] = []
    relation: str | None = None

    @property
    def hops(self) -> int | None:
        """Steps from the edited fact to the one-hop question's answer; None without one.

        `new_single_hops` lists the edited fact and every step after it; where it is absent, the
        schema's name says one.
        """
        if self.one_hop_question is None:
            return None
        return max(1, len(self.new_single_hops) - 1)

    def extra_probe(self, kind: str) -> ExtraLocality | None:
        """The record's extra locality probe of a kind, where it has one."""
        return next((extra for extra in self.extra_locality if extra.kind == kind), None)

    def text_question_about(self, probe: SameTypeQuestion | DiffTypeQuestion) -> str:
        """The text form of a same-type or different-type probe.

        Part of the authors' files leave it out; it is then the edit's question with the subject
        replaced by the probe's entity.

        Raises:
            DataError: the form is absent and the edit's question does not name the subject.
        """
        if probe.question is not None:
            return probe.question
        entity = (
            probe.same_type_entity
            if isinstance(probe, SameTypeQuestion)
            else probe.diff_type_entity
        )
        question = self.knowledge_edit.question
        start = question.lower().find(self.subject.lower())
        if start < 0:
            raise DataError(
                f"record of subject {self.subject!r}: the probe about {entity!r} has no text "
                f"question, and the edit's question {question!r} does not name the subject, so "
                "none can be derived. Add the field `question` to the probe."
            )
        return question[:start] + entity + question[start + len(self.subject) :]


NumberedRecord = tuple[int, Record]


class TmkeRecord(Record):
    """A record of the benchmark's own files, where no probe is missing."""

    one_hop_question: OneHopQuestion
    diff_type_entity_question: DiffTypeQuestion
    diff_entity_image: Text


def field_errors(error: ValidationError) -> str:
    """What is wrong with a record: each field with its mistake."""
    return "; ".join(
        f"{'.'.join(str(part) for part in mistake['loc']) or 'record'}: {mistake['msg']}"
        for mistake in error.errors()
    )
