"""The stand-in of an OpenAI-compatible server, asked by OpenAI's own client."""

import io
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from threading import Barrier

import openai
import pytest
from openai.types.chat import ParsedChatCompletion
from pydantic import BaseModel, ConfigDict

from tests.openai_calls import KEY, OpenAIStandIn
from tests.openai_replies import (
    Answer,
    Cut,
    Failure,
    Hang,
    Page,
    Plan,
    Reply,
    Request,
    faults_first,
)
from tests.openai_stand_in import serving
from tests.stand_in_server import StandInServer


class Kind(BaseModel):
    model_config = ConfigDict(extra="forbid")
    entity_type: str


def typed(request: Request) -> Reply:
    return Answer({"entity_type": f"type of {request.line('Subject')}"})


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def asked() -> Iterator[Callable[..., tuple[OpenAIStandIn, openai.OpenAI]]]:
    """A server with this plan, and a client of it."""
    blocks = []

    def start(plan: Plan, **client: object) -> tuple[OpenAIStandIn, openai.OpenAI]:
        blocks.append(serving(plan))
        server = blocks[-1].__enter__()
        settings = {"base_url": server.url, "api_key": KEY, **client}
        return server, openai.OpenAI(**settings)

    yield start
    for block in blocks:
        block.__exit__(None, None, None)


def ask(client: openai.OpenAI, subject: str = "Alan Turing") -> ParsedChatCompletion[Kind]:
    messages = [
        {"role": "system", "content": "Say the entity type, as JSON."},
        {"role": "user", "content": f"Subject: {subject}\nQuestion: Who was {subject}?"},
    ]
    return client.chat.completions.parse(model="gpt-4o", messages=messages, response_format=Kind)


Asked = Callable[..., tuple[OpenAIStandIn, openai.OpenAI]]


def test_a_good_answer_is_parsed_and_counted(asked: Asked) -> None:
    server, client = asked(typed)
    said = ask(client)
    assert said.choices[0].message.parsed == Kind(entity_type="type of Alan Turing")
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens > 9
    assert [*server.paid.values()] == [1]
    assert server.requests[0].line("Question") == "Who was Alan Turing?"
    ask(client)
    assert [*server.paid_twice.values()] == [2]
    assert [request.nth for request in server.requests] == [0, 1]


@pytest.mark.parametrize(
    "fault",
    [
        Failure(429, headers=(("Retry-After", "0.01"),)), Failure(500), Failure(503),
        Failure(429, headers=(("Retry-After", formatdate(time.time() - 5, usegmt=True)),)),
        Cut(), Cut(is_headers_sent=False), Hang(0.05),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(fault, 'status', '')}",
)  # fmt: skip
def test_what_passes_is_tried_again(asked: Asked, fault: Reply) -> None:
    server, client = asked(faults_first(fault, then=typed))
    assert ask(client).choices[0].message.parsed is not None
    assert [*server.sent.values()] == [2]
    assert [*server.paid.values()] == [2 if isinstance(fault, Cut) else 1]


def test_a_hang_ends_by_the_time_out_of_the_client(asked: Asked) -> None:
    server, client = asked(lambda _: Hang(), timeout=1.0, max_retries=1)
    with pytest.raises(openai.APITimeoutError):
        ask(client)
    assert [*server.sent.values()] == [2]
    assert not server.paid


def test_a_retry_date_is_what_openai_waits_for(asked: Asked) -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    server, client = asked(lambda _: Failure(429, headers=(("Retry-After", date),)))
    with pytest.raises(openai.RateLimitError) as error:
        ask(client)
    assert error.value.response.headers["retry-after"] == date
    assert len(server.requests) == 1, "an hour is longer than the client waits"


def test_what_does_not_pass(asked: Asked) -> None:
    plans: dict[type[Exception], Reply] = {
        openai.RateLimitError: Failure(429, "You exceeded your quota", "insufficient_quota"),
        openai.BadRequestError: Failure(400),
        openai.NotFoundError: Failure(404, code="model_not_found"),
        openai.LengthFinishReasonError: Answer('{"entity_ty', finish_reason="length"),
        ValueError: Answer("It is a person."),
    }
    for error, reply in plans.items():
        _, client = asked(lambda _, reply=reply: reply, max_retries=0)
        with pytest.raises(error):
            ask(client)


def test_a_refusal_is_no_answer(asked: Asked) -> None:
    _, client = asked(lambda _: Answer(None, refusal="I'm sorry, I can't help with that."))
    message = ask(client).choices[0].message
    assert (message.parsed, message.refusal) == (None, "I'm sorry, I can't help with that.")


def test_a_page_is_no_completion(asked: Asked) -> None:
    _, client = asked(lambda _: Page())
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert isinstance(said, str), "OpenAI's client hands a page on as text"
    assert said.startswith("<!doctype html>")


def test_another_key_is_refused_and_pays_nothing(asked: Asked) -> None:
    server, client = asked(typed, api_key="sk-other")
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        ask(client)
    assert not server.requests


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "additionalProperties"),
        ({"type": "object", "properties": {"a": {"type": "string"}},
          "additionalProperties": False}, "'required'"),
        ({"type": "object", "properties": {"a": {"type": "string", "default": ""}},
          "required": ["a"], "additionalProperties": False}, "'default'"),
        ({"type": "array", "items": {"type": "string"}}, "type: \"object\""),
    ],
)  # fmt: skip
def test_strict_schemas_are_held_to_what_openai_takes(
    asked: Asked, schema: dict, said: str
) -> None:
    server, client = asked(typed)
    form = {"name": "kind", "strict": True, "schema": schema}
    with pytest.raises(openai.BadRequestError, match=said):
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "?"}],
            response_format={"type": "json_schema", "json_schema": form},
        )  # fmt: skip
    assert not server.paid


def test_how_many_were_open_at_once() -> None:
    all_there = Barrier(4)

    def plan(request: Request) -> Reply:
        all_there.wait(timeout=60)
        return typed(request)

    with serving(plan) as server, ThreadPoolExecutor(4) as pool:
        client = openai.OpenAI(base_url=server.url, api_key=KEY)
        [*pool.map(lambda n: ask(client, f"Subject {n}"), range(4))]
    assert server.most_at_once == 4


def test_a_mistake_of_the_plan_is_no_fault_of_the_server() -> None:
    with pytest.raises(KeyError, match="no plan"):
        ask_without_a_plan()


def ask_without_a_plan() -> None:
    with serving(no_plan) as server:
        client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
        with pytest.raises(openai.InternalServerError):
            ask(client)


def no_plan(request: Request) -> Reply:
    raise KeyError("no plan")


def batch_lines(*names: str) -> list[dict]:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Subject: A"}]}
    return [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for name in names
    ]


def send(client: openai.OpenAI, lines: list[dict]) -> str:
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = client.files.create(file=("lines.jsonl", io.BytesIO(content)), purpose="batch")
    assert client.files.content(file.id).content == content
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id


def test_a_batch_is_sent_looked_at_and_fetched(asked: Asked) -> None:
    def plan(request: Request) -> Reply:
        return Failure(400, "refused") if request.nth == 1 else Answer("said")

    server, client = asked(plan)
    name = send(client, batch_lines("a", "b", "c"))
    states = [client.batches.retrieve(name).status for _ in range(3)]
    assert states == ["in_progress", "finalizing", "completed"]
    batch = client.batches.retrieve(name)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    lines = [json.loads(x) for x in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["c", "a"], "not the order they were sent in"
    said = lines[0]["response"]["body"]["choices"][0]["message"]["content"]
    (failed,) = client.files.content(batch.error_file_id).text.splitlines()
    assert (said, json.loads(failed)["response"]["status_code"]) == ("said", 400)
    assert server.paid.total() == 2
    assert all(request.is_in_batch for request in server.requests)


def test_a_batch_of_wrong_lines_fails(asked: Asked) -> None:
    server, client = asked(typed)
    batch = client.batches.retrieve(send(client, batch_lines("a", "a")))
    assert batch.status == "failed"
    assert [error.code for error in batch.errors.data] == ["duplicate_custom_id"]
    assert not server.paid


def test_a_client_that_is_gone_leaves_nothing_in_the_output_of_a_test(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its thread may come to it while another test looks at what was printed."""
    with StandInServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(b"POST /v1/chat")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.process_request_thread(*server.get_request())
    assert capsys.readouterr().err == ""
