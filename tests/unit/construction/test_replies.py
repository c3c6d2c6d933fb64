"""What a language model may answer."""

from __future__ import annotations

import json

import pytest

from construction.prompts import PROMPTS
from construction.replies import EntityType, Judgement, Reply, judged, schema_of
from construction.rows import Row
from tests.unit.construction.test_rows import WOMAN

FORMS = {prompt.name: prompt.form for prompt in PROMPTS}
ROW = Row.model_validate(
    {**WOMAN, "hop_question": "Where was Soren Kierkegaard born?", "hop_answer": "Copenhagen"}
)
GOOD = {
    "entity_type": {"entity_type": "novel"},
    "paraphrase": {"paraphrase": "Who wrote The French Lieutenant's Woman?"},
    "same_type_entity": {"same_type_entity": "Middlemarch", "same_type_answer": "George Eliot"},
    "one_hop_question": {
        "one_hop_question": "Where was the author of The French Lieutenant's Woman born?"
    },
}


def reply(content: object, refusal: str | None = None, finish: str = "stop") -> Reply:
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    return Reply(text, refusal, finish, 10, 5, "gpt-4o")


def answer(name: str, content: object) -> Judgement:
    return judged(reply(content), FORMS[name], ROW)


@pytest.mark.parametrize("name", FORMS)
def test_a_good_answer(name: str) -> None:
    form, mistakes = answer(name, GOOD[name])
    assert form is not None
    assert (form.model_dump(), mistakes) == (GOOD[name], ())


@pytest.mark.parametrize(
    "content",
    ['```json\n{"entity_type": "novel"}\n```', 'Sure! {"entity_type": "novel"} Anything else?'],
)
def test_words_around_an_answer_are_passed_over(content: str) -> None:
    assert answer("entity_type", content)[0] == EntityType(entity_type="novel")


@pytest.mark.parametrize("typed", ["a novel", "The novel.", " an  novel"])
def test_a_type_has_no_article(typed: str) -> None:
    form, _ = answer("entity_type", {"entity_type": typed})
    assert form is not None
    assert form.model_dump() == {"entity_type": "novel"}


@pytest.mark.parametrize(
    ("name", "content", "mistake"),
    [
        ("entity_type", {"entity_type": "The French Lieutenant's Woman"}, "is the subject itself"),
        ("entity_type", {"entity_type": "a book that John Fowles wrote in 1969"}, "longer than 5"),
        ("entity_type", {"entity_type": " "}, "nothing that can be seen"),
        ("entity_type", {"type": "novel"}, "entity_type: Field required"),
        ("entity_type", {"entity_type": 3}, "a text is needed"),
        ("entity_type", {"entity_type": "novel", "x": "y"}, "x: Extra inputs"),
        ("entity_type", '{"entity_type": "no', "no JSON"),
        ("entity_type", "", "it is nothing"),
        ("entity_type", None, "it is nothing"),
        ("entity_type", "[1]", "it is not an entity type"),
        ("paraphrase", {"paraphrase": "Who wrote this novel?"}, "does not name the subject"),
        ("paraphrase", {"paraphrase": f"{WOMAN['question']} "}, "is the question itself"),
        (
            "paraphrase",
            {"paraphrase": "Did John Fowles write The French Lieutenant's Woman?"},
            "says an answer, 'John Fowles'",
        ),
        (
            "same_type_entity",
            {"same_type_entity": "the french lieutenant's woman", "same_type_answer": "X"},
            "is the subject itself",
        ),
        (
            "same_type_entity",
            {"same_type_entity": "Either/Or", "same_type_answer": "soren kierkegaard"},
            "another one than 'Soren Kierkegaard'",
        ),
        (
            "same_type_entity",
            {"same_type_entity": "Emma", "same_type_answer": "Emma"},
            "repeats same_type_entity",
        ),
        (
            "one_hop_question",
            {"one_hop_question": "Where was Soren Kierkegaard born?"},
            "does not name the subject",
        ),
        (
            "one_hop_question",
            {
                "one_hop_question": "Where was Soren Kierkegaard, author of The French "
                "Lieutenant's Woman, born?"
            },
            "names 'Soren Kierkegaard'",
        ),
        (
            "one_hop_question",
            {
                "one_hop_question": "Was the author of The French Lieutenant's Woman born in "
                "Copenhagen?"
            },
            "names 'Copenhagen'",
        ),
    ],
)
def test_an_answer_of_no_use(name: str, content: object, mistake: str) -> None:
    form, mistakes = answer(name, content)
    assert form is None
    assert any(mistake in one for one in mistakes), mistakes


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        (reply(None, refusal="I can't\nhelp"), "the model refused: I can't help"),
        (reply('{"entity_type": "nov', finish="length"), "cut at endpoint.max_tokens"),
        (reply(None, finish="content_filter"), "content filter"),
    ],
)
def test_no_answer_at_all(given: Reply, mistake: str) -> None:
    form, mistakes = judged(given, FORMS["entity_type"], ROW)
    assert form is None
    assert mistake in mistakes[0]


@pytest.mark.parametrize("name", FORMS)
def test_schemas_are_those_that_strict_outputs_take(name: str) -> None:
    schema = schema_of(FORMS[name])
    assert schema["required"] == list(GOOD[name])
    assert schema["additionalProperties"] is False
