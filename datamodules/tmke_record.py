"""A record as the TMKE authors write it: no question, answer or picture may be missing."""

from __future__ import annotations

from datamodules.records import (
    DiffTypeQuestion,
    KnowledgeEdit,
    OneHopQuestion,
    Picture,
    Question,
    Record,
    RephraseQuestion,
    SameTypeQuestion,
    Text,
)


class PicturedEdit(KnowledgeEdit):
    """The edited fact, with the question about a picture."""

    question: Text
    image_question: Text
    answer_true: Text


class PicturedRephrase(RephraseQuestion):
    """The same fact in other words, with the question about a picture."""

    rephrase_question: Text
    rephrase_image_question: Text
    answer_true: Text


class PicturedHop(OneHopQuestion):
    """The one-hop question, with the question about a picture."""

    one_hop_question: Text
    one_hop_image_question: Text
    answer_true: Text


class PicturedSame(SameTypeQuestion):
    """The same-type probe, with the question about a picture."""

    image_question: Text


class PicturedDiff(DiffTypeQuestion):
    """The different-type probe, with the question about a picture."""

    image_question: Text


class TmkeRecord(Record):
    """A record of the benchmark's own files, where no probe and no picture is missing."""

    subject: Text
    entity_type: Text
    knowledge_edit: PicturedEdit
    rephrase_question: PicturedRephrase
    one_hop_question: PicturedHop
    same_type_entity_question: PicturedSame
    diff_type_entity_question: PicturedDiff
    locality_question: Question
    image_locality_question: Question
    image: Picture
    image_rephrase: Picture
    same_entity_image: Picture
    diff_entity_image: Picture
    locality_image: Picture
