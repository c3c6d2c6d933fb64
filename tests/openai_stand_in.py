"""A stand-in of an OpenAI-compatible server on loopback: chat completions, files and batches.

It checks what the real one checks (key, JSON, schemas of structured outputs), replies as a plan
says, and counts requests by what they ask: a test can say which was paid twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.openai_batches import CALLS as BATCH_CALLS
from tests.openai_calls import Call, OpenAIStandIn
from tests.openai_replies import (
    Answer,
    Failure,
    Hang,
    Page,
    Plan,
    Reply,
    Request,
    completion_of,
)
from tests.stand_in_server import listening

MODEL = "gpt-4o"


@contextmanager
def serving(plan: Plan, *, delay: float = 0.0) -> Iterator[OpenAIStandIn]:
    """The stand-in, which listens until the block ends."""
    stand_in = OpenAIStandIn(plan, delay=delay)
    members = {"stand_in": stand_in, "routes": {**_CALLS, **BATCH_CALLS}}
    with listening(type("Handler", (Call,), members)) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield stand_in
        finally:
            stand_in.closing.set()
    if stand_in.mistakes:
        raise stand_in.mistakes[0]


def _chat(call: Call) -> None:
    try:
        body = json.loads(call.body)
    except ValueError:
        call.fail(Failure(400, "We could not parse the JSON body of your request."))
        return
    stand_in = call.stand_in
    with stand_in.lock:
        stand_in.open_now += 1
        stand_in.most_at_once = max(stand_in.most_at_once, stand_in.open_now)
    try:
        request, reply = stand_in.take(body)
        stand_in.closing.wait(stand_in.delay)
        _reply(call, request, reply)
    except OSError:  # the client is gone
        call.close_connection = True
    except Exception as error:  # of the plan, or an answer that does not fit its schema
        stand_in.mistakes.append(error)
        call.fail(Failure(500, str(error)))
    finally:
        with stand_in.lock:
            stand_in.open_now -= 1


def _reply(call: Call, request: Request, reply: Reply) -> None:
    if isinstance(reply, Answer):
        call.json(completion_of(request, reply))
    elif isinstance(reply, Failure):
        call.fail(reply)
    elif isinstance(reply, Page):
        call.send(reply.html.encode(), reply.status, {"Content-Type": reply.kind})
    elif isinstance(reply, Hang):
        call.stand_in.closing.wait(reply.seconds)
        call.close_connection = True
    elif reply.is_headers_sent:
        content = json.dumps(completion_of(request, Answer("cut"))).encode()
        call.send(content, 200, {"Content-Type": "application/json"}, until=len(content) // 2)
    else:
        call.close_connection = True


def _models(call: Call) -> None:
    model = {"id": MODEL, "object": "model", "created": 1715367049, "owned_by": "system"}
    call.json({"object": "list", "data": [model]})


_CALLS: dict[str, Callable[..., None]] = {
    r"POST /v1/chat/completions": _chat,
    r"GET /v1/models": _models,
}
