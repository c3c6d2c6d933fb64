"""What an OpenAI-compatible server is asked and replies: values, and what OpenAI itself refuses."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a model says; a dictionary is sent as JSON, and has to fit the schema that was sent."""

    content: str | Json | None
    refusal: str | None = None
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Failure:
    """A status that is no success, as JSON like OpenAI's."""

    status: int
    message: str = "the stand-in fails as told"
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """What is no chat completion: the web page of a proxy or a login, or another server's JSON."""

    html: str = "<!doctype html><html><title>Sign in</title><p>Please sign in</html>"
    status: int = 200
    kind: str = "text/html"


@dataclass(frozen=True)
class Hang:
    """No reply for so long; then, or where the server ends, the connection ends."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Cut:
    """The answer is made, and the connection ends before the reply or in the middle of it."""

    is_headers_sent: bool = True


Reply = Answer | Failure | Page | Hang | Cut


@dataclass(frozen=True)
class Request:
    """A chat completion that was asked for.

    Attributes:
        body: its JSON.
        nth: how often the same one came before.
        number: how many came before, of any kind.
        is_in_batch: it is a line of a batch.
    """

    body: Json
    nth: int = 0
    number: int = 0
    is_in_batch: bool = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is asked."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()

    @property
    def schema(self) -> Json | None:
        form = self.body.get("response_format") or {}
        return form["json_schema"]["schema"] if form.get("type") == "json_schema" else None

    def text(self, role: str) -> str:
        """All that is said in one role."""
        said = [turn["content"] for turn in self.body["messages"] if turn["role"] == role]
        return "\n".join(said)

    def line(self, name: str) -> str:
        """Value of the first line `name: value` of the user; empty where there is none."""
        match = re.search(rf"^{name}: *(.+)$", self.text("user"), re.MULTILINE)
        return match[1].strip() if match else ""


Plan = Callable[[Request], Reply]


def faults_first(*faults: Reply, then: Plan) -> Plan:
    """Each request gets these, one each time that it comes, and then what the other plan says."""
    return lambda request: faults[request.nth] if request.nth < len(faults) else then(request)


def error_of(failure: Failure) -> Json:
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    kind = "insufficient_quota" if failure.code == "insufficient_quota" else kind
    said = {"message": failure.message, "type": kind, "param": None, "code": failure.code}
    return {"error": said}


def completion_of(request: Request, answer: Answer) -> Json:
    """A chat completion, with tokens counted as four letters each."""
    content = answer.content
    if isinstance(content, dict):
        jsonschema.validate(content, request.schema or {})
        content = json.dumps(content, ensure_ascii=False)
    prompt = sum(_tokens(turn["content"]) for turn in request.body["messages"])
    said = _tokens(content or answer.refusal or "")
    message = {"role": "assistant", "content": content, "refusal": answer.refusal}
    return {
        "id": f"chatcmpl-{request.number}", "object": "chat.completion",
        "created": int(time.time()), "model": f"{request.body['model']}-2024-08-06",
        "system_fingerprint": "fp_stand_in",
        "choices": [{
            "index": 0, "message": message, "logprobs": None,
            "finish_reason": answer.finish_reason,
        }],
        "usage": {
            "prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said,
        },
    }  # fmt: skip


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def mistake_of(body: Json) -> Failure | None:
    """What OpenAI answers with status 400 before any model is asked; None: all is well."""
    form = body.get("response_format") or {}
    if not body.get("messages") or not isinstance(body.get("model"), str):
        return Failure(400, "you must provide a model and messages")
    if form.get("type") == "json_object":
        if "json" not in json.dumps(body["messages"]).lower():
            return Failure(400, "'messages' must contain the word 'json' in some form")
    elif form.get("type") == "json_schema":
        given = form.get("json_schema") or {}
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", given.get("name", "")):
            return Failure(400, "Invalid 'response_format.json_schema.name'")
        wrong = _wrong_in_schema(given.get("schema") or {}) if given.get("strict") else None
        if wrong:
            return Failure(400, f"Invalid schema for response_format '{given['name']}': {wrong}")
    return None


def _wrong_in_schema(schema: Json) -> str | None:
    """Why strict structured outputs refuse a schema; None: they take it."""
    if schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'"
    for part in _parts(schema):
        if refused := {"default", "minLength", "maxLength", "allOf", "not", "if"} & part.keys():
            return f"{sorted(refused)} is not permitted"
        if part.get("type") == "object" or "properties" in part:
            if part.get("additionalProperties") is not False:
                return "'additionalProperties' is required to be supplied and to be false"
            if set(part.get("required", [])) != set(part.get("properties", {})):
                return "'required' is required to be an array including every key in properties"
    return None


def _parts(schema: Json) -> Iterator[Json]:
    """A schema and those inside it."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inner += [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]
    for part in inner:
        yield from _parts(part)
