"""Whatever a server makes of a chat completion, a row is complete or listed, and others go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.construction import JOURNAL
from construction.__main__ import main
from construction.answers import read_answers
from tests.construction_plans import good, prompt_name
from tests.openai_replies import Page, Reply, Request
from tests.openai_stand_in import serving
from tests.unit.construction.test_rows import as_lines

ANSWER = '{"entity_type": "town"}'
NUMBERS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def page(content: str) -> Page:
    return Page(content, kind="application/json")


def completion(content: Any = ANSWER, usage: Any = NUMBERS, **changes: Any) -> Page:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    whole = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [choice | {"finish_reason": "stop"}],
    }  # fmt: skip
    return page(json.dumps(whole | changes))


# A piece of why a row is not complete -> replies; empty: it is complete.
ODD: dict[str, dict[str, Page]] = {
    "": {
        "no usage": completion(usage=None),
        "usage of texts": completion(usage={"prompt_tokens": "3", "completion_tokens": "x"}),
        "usage below zero": completion(usage={"prompt_tokens": -3, "completion_tokens": -3}),
        "parts of text": completion([{"type": "text", "text": ANSWER[:5]},
                                     {"type": "text", "text": ANSWER[5:]}]),
        "an object": completion(json.loads(ANSWER)),
        "a thought before": completion(f'<think>a {{"place"}}?</think>\n{ANSWER}'),
        "no model": completion(model=None),
    },
    "without a choice": {
        "a list": page("[1]"), "a number": page("7"), "null": page("null"),
        "an error": page('{"error": {"message": "overloaded"}}'),
        "no choices": completion(choices=[]), "choices of another kind": completion(choices={}),
    },
    "it is nothing": {
        "null content": completion(None), "no message": completion(choices=[{"index": 0}]),
        "a choice that is none": completion(choices=[7]),
    },
    "entity_type: Field required": {"an object of others": completion('{"type": "town"}')},
    "it is no JSON": {
        "half a character": completion("\ud83d"), "a number in it": completion("{7}"),
    },
    "valid dictionary": {"a number as content": completion(7)},
    "half a character": {"half a character inside": completion('{"entity_type": "to\\ud83dwn"}')},
    "nested too deep": {"an object in objects": completion('{"a":' * 20_000 + "1" + "}" * 20_000)},
}  # fmt: skip
CASES = [(name, reply, why) for why, replies in ODD.items() for name, reply in replies.items()]


def test_no_reply_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = {name: reply for name, reply, _ in CASES}
    rows = [
        {"subject": name, "question": f"Where is {name}?", "answer_true": "A", "answer_new": "B"}
        for name in replies
    ]

    def plan(request: Request) -> Reply:
        is_type = prompt_name(request) == "entity_type"
        return replies[request.line("Subject")] if is_type else good(request)

    with serving(plan) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        words = [
            f"rows={as_lines(tmp_path / 'facts.jsonl', rows)}", f"output_dir={tmp_path / 'out'}",
            f"endpoint.base_url={server.url}", "endpoint.retries=0",
            f"endpoint.give_up_after={len(CASES)}",
        ]  # fmt: skip
        assert main(words) == 1
        journal = (tmp_path / "out" / JOURNAL).read_text("utf-8").splitlines()
        replied = sum(json.loads(line)["kind"] == "reply" for line in journal)
        sent = len(server.requests)
        assert main(words) == 1, "what is in the journal ends no later run"
        assert len(server.requests) == sent + len(ODD["without a choice"])
    assert replied == sent - len(ODD["without a choice"])
    summary = json.loads((tmp_path / "out" / "construction.json").read_text())
    reasons = {one["subject"]: one["failed"]["entity_type"] for one in summary["incomplete"]}
    assert [name for name, _, why in CASES if why and why not in reasons[name]] == []
    complete = {one.row.subject for one in read_answers(tmp_path / "out" / "answers.jsonl")}
    assert complete == ODD[""].keys()
    assert not complete & reasons.keys()
