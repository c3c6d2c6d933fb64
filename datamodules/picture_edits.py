"""Edits of what is said of a picture, by the field names of MMEdit (Cheng et al., 2023).

VLKEB, CCKEB and MMKE-Bench have taken these names over; each gives some of them another meaning,
which its own source says (datamodules/sources/).
"""

from __future__ import annotations

from datamodules.records import (
    KnowledgeEdit,
    OneHopQuestion,
    Part,
    Picture,
    Question,
    Record,
    RephraseQuestion,
    Text,
)

NQ_MARK = "nq question:"  # before questions of Natural Questions, in some of the files


class PictureEdit(Part):
    """A record as it stands in a file.

    Attributes:
        src: the question about `image` and `image_rephrase`.
        alt: its new answer.
        rephrase: the question in other words.
        loc: a text question that has nothing to do with it, answered by `loc_ans`.
        m_loc: another picture, with a question about it and the answer.
    """

    src: Text
    alt: Text
    rephrase: Text
    image: Picture
    image_rephrase: Picture
    loc: Text
    loc_ans: Text
    m_loc: Picture
    m_loc_q: Text
    m_loc_a: Text

    def text_locality(self) -> Question:
        """The text question that has nothing to do with the edit."""
        return text_locality(self.loc, self.loc_ans)

    def picture_locality(self) -> Question:
        """The question about the other picture."""
        return Question(question=self.m_loc_q, answer=self.m_loc_a)

    def record(
        self,
        *,
        subject: str | None = None,
        hop: OneHopQuestion | None = None,
        chain: list[Question] | None = None,
        unseen_question: str | None = None,
        is_cloze: bool = False,
    ) -> Record:
        """The edit about the picture as a record; what is true stands in no field.

        Args:
            subject: what the picture shows, where the source names it.
            hop: the question that takes more than the edit.
            chain: the steps to its answer, the edit first.
            unseen_question: about `image_rephrase`, where it has one of its own.
            is_cloze: the answer continues `src` and `rephrase`.
        """
        return Record(
            subject=subject,
            knowledge_edit=KnowledgeEdit(
                image_question=self.src, answer_new=self.alt, unseen_question=unseen_question
            ),
            rephrase_question=RephraseQuestion(
                rephrase_image_question=self.rephrase, answer_new=self.alt
            ),
            one_hop_question=hop,
            locality_question=self.text_locality(),
            image_locality_question=self.picture_locality(),
            image=self.image,
            image_rephrase=self.image_rephrase,
            locality_image=self.m_loc,
            new_single_hops=chain or [],
            is_cloze=is_cloze,
        )


def text_locality(question: str, answer: str) -> Question:
    """A question of Natural Questions without the mark before it."""
    return Question(question=question.removeprefix(NQ_MARK).strip() or question, answer=answer)


class QuestionAndAnswer(Part):
    """`Q&A` of a hop."""

    Question: Text
    Answer: Text


def entity_name(name: str) -> str:
    """A name that may be written with underscores for blanks, as Freebase writes them.

    >>> entity_name("Laredo,_Texas")
    'Laredo, Texas'
    """
    return " ".join(name.replace("_", " ").split())
