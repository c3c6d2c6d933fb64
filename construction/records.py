"""Rows and what a language model added to them become records of the benchmark.

    image questions      the subject gives way to "the {type} in the image" (`wording`)
    one-hop question     asks through the edited fact for the second one; both are its chain
    same type            the entity that the model named, with a picture where there is one; a row
                         of the same relation stands in for one without, and is marked as drawn
    different type       a pictured row of another type: "Sorry, there is no book in the image"

Nothing is asked and nothing is made up here: the same rows, answers, pictures and seed give the
same records. What a record has not got, it says with the reason (`Constructed.lacks`); it is
complete where the benchmark's own schema takes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from construction.answers import AnsweredRow
from construction.pairing import Pairing
from construction.wording import about_picture, identity_question
from datamodules.records import (
    HopQuestion,
    KnowledgeEdit,
    OneHopQuestion,
    Question,
    Record,
    RephraseQuestion,
    renamed,
)
from datamodules.tmke_record import TmkeRecord

_NO_MENTION = "it does not name the subject"


@dataclass(frozen=True)
class Constructed:
    """A record and where it comes from.

    Attributes:
        id: of its row.
        record: what evaluations read.
        lacks: field of the benchmark's schema that the record has not got -> why.
        lent: field that was drawn -> id of the row that it was drawn from.
    """

    id: str
    record: Record
    lacks: Mapping[str, str]
    lent: Mapping[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether the benchmark's own schema takes it."""
        try:
            TmkeRecord.model_validate(self.record.model_dump())
        except ValidationError:
            return False
        return True


def construct_records(
    answered: Sequence[AnsweredRow],
    *,
    seed: int = 0,
    stand_ins: bool = True,
    pictures: Mapping[str, str] | None = None,
    kin: Iterable[Collection[str]] = (),
) -> list[Constructed]:
    """The records of answered rows, in their order.

    Args:
        answered: rows with what was answered about them.
        seed: of what is drawn.
        stand_ins: whether a row of the same relation takes the place of a same-type entity of which
            there is no picture; otherwise that probe is asked in text alone.
        pictures: name of an entity -> picture, beside those of the rows.
        kin: groups of types that an entity may share, beside those whose names say so ("novel" and
            "crime novel").
    """
    bare = [_record(one) for one in answered]
    pairing = Pairing(bare, [one.row.id for one in answered], seed, pictures or {}, kin)
    paired = pairing.with_probes([one.answers for one in answered], stand_ins=stand_ins)
    return [
        Constructed(
            id=one.row.id,
            record=pair.record,
            lacks={**_missing(one, pair.record), **pair.lacks},
            lent=pair.lent,
        )
        for one, pair in zip(answered, paired, strict=True)
    ]


def count_lacks(constructed: Iterable[Constructed]) -> Counter[tuple[str, str]]:
    """How many records lack a field for a reason."""
    return Counter(lack for one in constructed for lack in one.lacks.items())


def _record(answered: AnsweredRow) -> Record:
    """The record of a row, without probes about other entities."""
    row, answers = answered.row, answered.answers
    kind = answers.entity_type
    both = {"answer_new": row.answer_new, "answer_true": row.answer_true}
    seen = HopQuestion(question=identity_question(kind), answer=row.subject, image=row.image)
    asked = HopQuestion(question=row.question, answer=row.answer_true)
    return Record(
        subject=row.subject,
        entity_type=kind,
        relation=row.relation,
        knowledge_edit=KnowledgeEdit(
            question=row.question,
            image_question=about_picture(row.question, row.subject, kind),
            **both,
        ),
        rephrase_question=RephraseQuestion(
            rephrase_question=answers.paraphrase,
            rephrase_image_question=about_picture(answers.paraphrase, row.subject, kind),
            **both,
        ),
        one_hop_question=_one_hop(answered),
        locality_question=_question(row.locality_question, row.locality_answer),
        image_locality_question=_question(row.image_locality_question, row.image_locality_answer),
        image=row.image,
        image_rephrase=row.image_rephrase,
        locality_image=row.locality_image,
        single_hops=_chain(answered, row.answer_true, row.hop_answer_true),
        new_single_hops=_chain(answered, row.answer_new, row.hop_answer),
        multimodal_hops=[seen, asked] if row.image else [],
    )


def _one_hop(answered: AnsweredRow) -> OneHopQuestion | None:
    row, question = answered.row, answered.answers.one_hop_question
    if question is None or row.hop_answer is None:
        return None
    return OneHopQuestion(
        one_hop_question=question,
        one_hop_image_question=about_picture(question, row.subject, answered.answers.entity_type),
        answer_new=row.hop_answer,
        answer_true=row.hop_answer_true,
    )


def _question(question: str | None, answer: str | None) -> Question | None:
    if question is None or answer is None:
        return None
    return Question(question=question, answer=answer)


def _chain(answered: AnsweredRow, bridge: str, end: str | None) -> list[Question]:
    """The edited fact with an answer, and the second fact about that answer where it is known."""
    row = answered.row
    hops = [Question(question=row.question, answer=bridge)]
    second = row.hop_question and renamed(row.hop_question, row.answer_new, bridge)
    if second is not None and end is not None:
        hops.append(Question(question=second, answer=end))
    return hops


def _missing(answered: AnsweredRow, record: Record) -> dict[str, str]:
    """What the row did not give, and what could not be made of it."""
    row = answered.row
    rephrase, hop = record.rephrase_question, record.one_hop_question
    absent: dict[str, Any] = {
        "image": (record.image, "the row names no picture"),
        "image_rephrase": (record.image_rephrase, "the row names no other picture"),
        "locality_question": (record.locality_question, "the row has none"),
        "image_locality_question": (record.image_locality_question, "the row has none"),
        "knowledge_edit.image_question": (record.knowledge_edit.image_question, _NO_MENTION),
        "rephrase_question.rephrase_image_question": (
            rephrase and rephrase.rephrase_image_question, _NO_MENTION
        ),
        "one_hop_question": (
            hop, "the row has no second fact" if row.hop_question is None else "none was composed"
        ),
    }  # fmt: skip
    if hop is not None:
        absent["one_hop_question.one_hop_image_question"] = hop.one_hop_image_question, _NO_MENTION
        absent["one_hop_question.answer_true"] = hop.answer_true, "the row has no hop_answer_true"
    return {name: why for name, (value, why) in absent.items() if value is None}
