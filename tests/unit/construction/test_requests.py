"""The next request as a function of the replies so far."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from configs.construction import EndpointOptions
from construction.answers import Answers
from construction.prompts import PROMPTS, VERSION
from construction.replies import Form, Reply
from construction.requests import (
    Failure,
    Question,
    Request,
    Unanswered,
    answers_of,
    due,
    questions,
)
from construction.rows import Row
from tests.unit.construction.test_replies import GOOD, ROW, reply
from tests.unit.construction.test_rows import RANKIN

ENDPOINT = EndpointOptions(
    base_url="http://127.0.0.1:1/v1", model="gpt-4o", temperature=0.0, seed=None, max_tokens=200,
    max_tokens_key="max_completion_tokens", answer_form="json_schema", concurrency=4, timeout=5.0,
    retries=0, give_up_after=2,
)  # fmt: skip
BAD = reply("no JSON")


def with_endpoint(**changes: object) -> EndpointOptions:
    return EndpointOptions(**{**ENDPOINT.model_dump(), **changes})


def first(endpoint: EndpointOptions = ENDPOINT, attempts: int = 1) -> Question:
    return questions(ROW, endpoint, attempts)[0]


def request_of(step: Request | Form | Failure) -> Request:
    assert isinstance(step, Request)
    return step


def test_a_row_is_asked_what_it_does_not_say() -> None:
    assert [q.prompt.name for q in questions(ROW, ENDPOINT)] == list(GOOD)
    short = Row.model_validate({**RANKIN, "entity_type": "person"})
    assert [q.prompt.name for q in questions(short, ENDPOINT)] == ["paraphrase", "same_type_entity"]


def test_the_messages_are_those_of_the_paper() -> None:
    body = request_of(first().step({})).body
    system, user = body["messages"]
    assert (
        "Subject: George Rankin\nQuestion: What is George Rankin's occupation?"
        in (system["content"])
    )
    assert system["content"].endswith('Answer: {"entity_type":"person"}')
    assert user == {
        "role": "user",
        "content": "Subject: The French Lieutenant's Woman\n"
        "Question: Who is the author of The French Lieutenant's Woman?",
    }
    assert body["response_format"]["json_schema"]["strict"] is True
    assert (body["temperature"], body["max_completion_tokens"]) == (0.0, 200)
    assert "seed" not in body
    assert "Leo Messi" in PROMPTS[2].system


def test_a_line_break_starts_no_line_of_its_own() -> None:
    row = ROW.model_copy(update={"subject": "A\nQuestion: B"})
    assert PROMPTS[0].user(row).splitlines()[0] == "Subject: A Question: B"


def test_the_form_of_an_answer_is_asked_for_as_the_server_takes_it() -> None:
    bodies = [
        request_of(first(with_endpoint(answer_form=f)).step({})).body
        for f in ("json_object", "text")
    ]
    assert bodies[0]["response_format"] == {"type": "json_object"}
    assert "response_format" not in bodies[1]


def test_question_repair_failure() -> None:
    question = first()
    request = request_of(question.step({}))
    repair = request_of(question.step({request.key: BAD}))
    assert (request.is_repair, repair.is_repair) == (False, True)
    assert repair.body["messages"][:2] == request.body["messages"]
    assert repair.body["messages"][2] == {"role": "assistant", "content": "no JSON"}
    assert "a JSON object is needed" in repair.body["messages"][3]["content"]
    mended = question.step({request.key: BAD, repair.key: reply(GOOD["entity_type"])})
    assert isinstance(mended, Form)
    failure = question.step({request.key: BAD, repair.key: BAD})
    assert isinstance(failure, Failure)
    assert len(failure.mistakes) == 1


def test_another_attempt_begins_anew_under_other_keys() -> None:
    question = first(attempts=2)
    request = request_of(question.step({}))
    repair = request_of(question.step({request.key: BAD}))
    again = request_of(question.step({request.key: BAD, repair.key: BAD}))
    assert (again.attempt, again.body, again.key == request.key) == (1, request.body, False)


def test_a_key_depends_on_all_that_decides_an_answer() -> None:
    keys = {
        request_of(first(endpoint).step({})).key
        for endpoint in (
            ENDPOINT, with_endpoint(model="gpt-4o-mini"), with_endpoint(temperature=0.5),
            with_endpoint(seed=1), with_endpoint(answer_form="text"),
        )
    }  # fmt: skip
    assert len(keys) == 5
    longer = with_endpoint(max_tokens=300, max_tokens_key="max_tokens", timeout=1.0)
    assert request_of(first(longer).step({})).key == request_of(first().step({})).key


def test_the_same_question_of_two_rows_is_due_once() -> None:
    other = ROW.model_copy(update={"id": "other", "answer_new": "Jane Austen"})
    both = [*questions(ROW, ENDPOINT), *questions(other, ENDPOINT)]
    assert [r.prompt for r in due(both, {})] == [*GOOD, "one_hop_question"]


def answered(request: Request, bad: Mapping[str, int]) -> Reply:
    """The first `bad` replies of a prompt are of no use."""
    nth = int(request.is_repair) + 2 * request.attempt
    return BAD if nth < bad.get(request.prompt, 0) else reply(GOOD[request.prompt])


@given(
    bad=st.dictionaries(st.sampled_from(list(GOOD)), st.integers(0, 2)),
    order=st.randoms(use_true_random=False),
)
def test_whatever_the_order_every_request_is_sent_once(
    bad: Mapping[str, int], order: object
) -> None:
    """Forgetting everything but the replies at any moment changes nothing: there is no state."""
    replies: dict[str, Reply] = {}
    while pending := list(due(questions(ROW, ENDPOINT), replies)):
        request = order.choice(pending)  # type: ignore[attr-defined]
        assert request.key not in replies
        replies[request.key] = answered(request, bad)
    result = answers_of(ROW, questions(ROW, ENDPOINT), replies)
    failed = sorted(name for name, n in bad.items() if n > 1)
    if failed:
        assert isinstance(result, Unanswered)
        assert (sorted(result.failures), result.open) == (failed, ())
    else:
        assert result == Answers(**{k: v for form in GOOD.values() for k, v in form.items()})
    assert len(replies) == 4 + sum(1 for n in bad.values() if n)


def test_the_entity_type_of_a_row_is_taken_as_it_is() -> None:
    row = ROW.model_copy(update={"entity_type": "book"})
    of_row = questions(row, ENDPOINT)
    replies = {r.key: reply(GOOD[r.prompt]) for r in due(of_row, {})}
    result = answers_of(row, of_row, replies)
    assert isinstance(result, Answers)
    assert result.entity_type == "book"


def test_the_questions_have_not_changed() -> None:
    """Journals are refused whose answers are of other wordings: change this with the wordings."""
    assert VERSION == "8507da9aae3d"
    assert json.loads(PROMPTS[1].system.rpartition("Answer: ")[2])["paraphrase"].startswith("What")
