"""SERAC's hard negatives: near the edit, not about it, the same whoever draws."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from editors.encoders import encoder_folder
from editors.serac.negatives import out_of_scope
from tests.serac_cases import (
    RECORDS,
    drawn_from_records,
)


def test_the_pool_is_what_training_edits_must_leave_alone() -> None:
    found = drawn_from_records()
    assert found.pool == sorted({asked for one in RECORDS for asked in out_of_scope(one)})
    assert out_of_scope(RECORDS[0]) == [
        "How old is the river 0?", "What does Person B do?", "How tall is Person A?",
    ]  # fmt: skip


def test_hard_draws_are_near_the_edit_and_not_about_it() -> None:
    """The property of the published sampler: of the `top` nearest, without the first `skip`."""
    found = drawn_from_records(per_edit=4)
    edit = RECORDS[3].knowledge_edit
    others = [place for place, asked in enumerate(found.pool) if RECORDS[3].subject not in asked]
    folder = encoder_folder(found.options.encoder, key="editor.negatives.encoder")
    sentences = SentenceTransformer(str(folder), local_files_only=True)
    embedded = sentences.encode([edit.question, *found.pool], normalize_embeddings=True)
    similarity = embedded[1:] @ embedded[0]
    nearest = sorted(others, key=lambda place: -similarity[place])
    allowed = {found.pool[place] for place in nearest[2:6]}
    drawn = {q for step in range(40) for q in found.draw(step, edit.question, RECORDS[3].subject)}
    assert drawn == allowed
    places, chances = found._nearest(edit.question, RECORDS[3].subject)
    expected = np.exp(similarity[places] / 0.1)
    np.testing.assert_allclose(chances, expected / expected.sum(), rtol=1e-4)


def test_the_share_of_hard_steps_and_uniform_draws() -> None:
    half = drawn_from_records(share=0.5, per_edit=3)
    hard = [step for step in range(400) if half.hard(step)]
    assert 150 < len(hard) < 250
    never = drawn_from_records(share=0.0, per_edit=3)
    edit, subject = RECORDS[3].knowledge_edit.question, RECORDS[3].subject
    drawn = {question for step in range(60) for question in never.draw(step, edit, subject)}
    assert drawn == {question for question in never.pool if subject not in question}


def test_a_draw_depends_on_the_step_and_the_edit_alone() -> None:
    first, again = drawn_from_records(per_edit=2), drawn_from_records(per_edit=2)
    for number in (5, 2):
        asked = RECORDS[number].knowledge_edit.question, RECORDS[number].subject
        assert first.draw(7, *asked) == again.draw(7, *asked)
    asked = RECORDS[5].knowledge_edit.question, RECORDS[5].subject
    assert len({tuple(first.draw(step, *asked)) for step in range(20)}) > 3
    unknown = first.draw(7, "What is new?", "Nobody")
    assert set(unknown) <= set(first.pool)


@pytest.mark.parametrize("subject", ["Łódź Works", "ŁÓDŹ  works", "Ło\u0301dz\u0301 Works"])
def test_a_question_that_names_the_subject_in_another_spelling_is_not_drawn(subject: str) -> None:
    other = RECORDS[2].locality_question.model_copy(update={"question": "How old is Łódź Works?"})
    records = [RECORDS[2].model_copy(update={"locality_question": other})]
    found = drawn_from_records(records, share=0.0, per_edit=9)
    assert "How old is Łódź Works?" in found.pool
    drawn = {question for step in range(9) for question in found.draw(step, "Which?", subject)}
    assert drawn == {question for question in found.pool if "Works" not in question}


def test_a_small_pool_still_draws_and_an_empty_one_does_not() -> None:
    few = drawn_from_records(RECORDS[:1], per_edit=3)
    asked = RECORDS[0].knowledge_edit.question, RECORDS[0].subject
    assert len(few.draw(0, *asked)) == 3
    assert few.draw(0, "Which?", "o") == []  # every question has this letter
