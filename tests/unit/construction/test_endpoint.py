"""What is made of an endpoint's replies and errors."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from construction.budget import estimated
from construction.endpoint import RequestError, complete, reply_of
from tests.unit.construction.test_budget import REQUESTS

COMPLETION = {
    "model": "tiny",
    "choices": [{"finish_reason": "stop", "message": {"content": "12345678"}}],
}


def completed(answer: dict[str, Any]) -> Any:
    """The reply of a client that gets this completion."""

    async def create(**body: object) -> Any:
        assert body == dict(REQUESTS[0].body)
        return SimpleNamespace(model_dump=lambda **_: answer)

    client: Any = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    return asyncio.run(complete(client, REQUESTS[0]))


def test_what_a_server_does_not_count_is_estimated() -> None:
    reply = completed(COMPLETION)
    about = estimated(REQUESTS[0], 2)
    assert (reply.input_tokens, reply.output_tokens) == (about.input_tokens, 2)
    counted = {**COMPLETION, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    assert completed(counted)[3:5] == (7, 3)


@pytest.mark.parametrize("choices", [[], None])
def test_a_completion_without_a_choice_is_a_failure(choices: object) -> None:
    with pytest.raises(RequestError, match="without a choice"):
        reply_of({"choices": choices})
