"""Which probes stop being valid once other edits are in place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

from datamodules.collate import Collator, RowTable
from datamodules.contradicted import contradicted, superseded
from datamodules.images import ImageStore
from datamodules.records import OneHopQuestion, Question, Record
from datamodules.scenarios import SCENARIOS, training_scenario
from tests.serac_cases import inputs
from tests.serac_cases import record as worded_record

HOP = OneHopQuestion(
    one_hop_question="Who invented what the pilot uses?",
    one_hop_image_question="Who invented what the person uses?",
    answer_new="Wright",
    answer_true="Ash",
)


def worded(*numbers: int, **changed: Any) -> list[Record]:
    """Records that ask nothing of each other's subjects."""
    records = []
    for number in numbers:
        record = worded_record(number)
        same = record.same_type_entity_question.model_copy(
            update={"same_type_entity": f"Nobody {number}"}
        )
        pictures = {"image": f"{number}.a", "image_rephrase": f"{number}.b"}
        records.append(record.model_copy(update={"same_type_entity_question": same} | pictures))
    return [record.model_copy(update=changed) for record in records]


def test_records_that_have_nothing_in_common_contradict_nothing() -> None:
    for scenario in SCENARIOS.values():
        assert contradicted(worded(0, 1, 2), scenario) == {}


def test_of_two_edits_of_a_fact_the_later_one_counts() -> None:
    records = [*worded(0, 1), *taught_otherwise(worded(0))]
    fact = Question(question=records[0].knowledge_edit.question, answer="pilot")
    hops = {"new_single_hops": [fact], "one_hop_question": HOP}
    records = [record.model_copy(update=hops) for record in records]
    contradictions = contradicted(records, SCENARIOS["unimodal"])
    of_the_edit = {key: other for key, other in contradictions.items() if key[0] == 0}
    probes = ("reliability", "generality", "portability")
    assert [of_the_edit[0, probe] for probe in probes] == [2, 2, 2]
    assert not [key for key in contradictions if key[0] == 2 and key[1] in probes]


def test_questions_of_training_about_an_edit_that_is_taken_back_are_not_asked() -> None:
    probes = {"reliability_s", "generality_u", "named_s", "named_u", "stability_same_t"}
    scenario = training_scenario("transitive", "transitive", probes)
    records = [*worded(0), *taught_otherwise(worded(0))]
    assert all(make_prompt(records[0]) for make_prompt in scenario.probes.values())
    about_it = probes - {"stability_same_t"}
    assert contradicted(records, scenario) == {(0, probe): 1 for probe in about_it}


def test_the_same_answer_again_takes_nothing_back() -> None:
    first, again = *worded(0), *worded(0)
    answer = first.knowledge_edit.answer_new
    again = again.model_copy(
        update={"knowledge_edit": again.knowledge_edit.model_copy(
            update={"answer_new": f" {answer.upper()}"})}
    )  # fmt: skip
    assert superseded([first, again]) == {}
    assert contradicted([first, again], SCENARIOS["unimodal"]) == {}


def test_the_next_edit_with_another_answer_takes_an_edit_back() -> None:
    one, other = worded(0), taught_otherwise(worded(0))
    assert superseded([*one, *worded(1), *one, *other, *one]) == {0: 3, 2: 3, 3: 4}


def taught_otherwise(records: list[Record]) -> list[Record]:
    edits = [
        record.knowledge_edit.model_copy(update={"answer_new": "somebody else"})
        for record in records
    ]
    return [
        record.model_copy(update={"knowledge_edit": edit})
        for record, edit in zip(records, edits, strict=True)
    ]


def test_what_a_picture_shows_is_compared_in_words() -> None:
    first, second = worded(0, 1)
    same = first.same_type_entity_question.model_copy(update={"same_type_entity": second.subject})
    first = first.model_copy(update={"same_type_entity_question": same})
    for name in ("transitive", "multimodal"):
        contradictions = contradicted([first, second], SCENARIOS[name])
        assert contradictions == {(0, "stability_same"): 1, (0, "leak_same"): 1}


def test_the_same_picture_and_question_are_the_same_fact() -> None:
    first, second = worded(0, 1)
    seen = first.image_locality_question.model_copy(
        update={"question": second.knowledge_edit.image_question}
    )
    first = first.model_copy(update={"image_locality_question": seen, "locality_image": "1.b"})
    contradictions = contradicted([first, second], SCENARIOS["multimodal"])
    assert contradictions == {(0, "locality_i_far"): 1}
    assert contradicted([first, second], SCENARIOS["unimodal"]) == {}


def test_a_step_of_a_one_hop_question_may_be_edited() -> None:
    first, second = worded(0, 1)
    step = first.locality_question.model_copy(
        update={"question": second.knowledge_edit.question, "answer": "cook"}
    )
    fact = step.model_copy(update={"question": first.knowledge_edit.question})
    first = first.model_copy(update={"new_single_hops": [fact, step]})
    assert contradicted([first, second], SCENARIOS["unimodal"]) == {}, "it is not asked"
    first = first.model_copy(update={"one_hop_question": HOP})
    contradictions = contradicted([first, second], SCENARIOS["unimodal"])
    assert contradictions == {(0, "portability"): 1}


def test_an_edit_of_another_relation_contradicts_its_questions_alone() -> None:
    first, second = worded(0, 1)
    extra = first.extra_locality[0].model_copy(update={"question": second.knowledge_edit.question})
    first = first.model_copy(update={"extra_locality": [extra]})
    assert contradicted([first, second], SCENARIOS["unimodal"]) == {(0, "locality_subject"): 1}
    transitive = contradicted([first, second], SCENARIOS["transitive"])
    assert transitive == {(0, "locality_t_subject"): 1, (0, "locality_i_subject"): 1}


def test_edits_are_contradicted_in_the_order_in_which_they_are_made() -> None:
    """Of five edits in two updates the fifth is made before the fourth, which takes it back."""
    records = worded(0, 1, 2, 3)
    edit = records[3].knowledge_edit
    again = {"knowledge_edit": edit.model_copy(update={"answer_new": "another answer"})}
    records.append(records[3].model_copy(update=again))
    unread: Any = Mock()
    encoder = inputs().encoder
    kept = {}
    for n_updates in (1, 2):
        batch = Collator(
            lambda: RowTable(encoder, ImageStore(unread), unread, plain_locality=False),
            replace(SCENARIOS["unimodal"], n_updates=n_updates),
        )(list(enumerate(records)))
        kept[n_updates] = batch.rows.edit_index[batch.probes["reliability"]].tolist()
    assert kept == {1: [0, 1, 2, 4], 2: [0, 1, 2, 3]}


def test_a_batch_of_edits_in_place_together_asks_no_contradicted_probe() -> None:
    """Single edits of the same batch are asked all of them."""
    first, second = worded(0, 1)
    extra = first.extra_locality[0].model_copy(update={"question": second.knowledge_edit.question})
    first = first.model_copy(update={"extra_locality": [extra]})
    unread: Any = Mock()  # no question of the scenario shows a picture
    encoder = inputs().encoder
    batches = [
        Collator(
            lambda: RowTable(encoder, ImageStore(unread), unread, plain_locality=False),
            replace(SCENARIOS["unimodal"], n_updates=n_updates),
        )([(7, first), (8, second)])
        for n_updates in (0, 1)
    ]
    single, at_once = batches
    assert single.probes.keys() == at_once.probes.keys()
    for name, rows in single.probes.items():
        edits = single.rows.edit_index[rows].tolist()
        left = at_once.rows.edit_index[at_once.probes[name]].tolist()
        assert left == ([1] if name == "locality_subject" else edits), name
    assert len(at_once.rows) == len(single.rows) - 1, "what no probe asks is no row"
