"""The state of the OpenAI stand-in, and one call of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from tests.openai_replies import (
    Answer,
    Cut,
    Failure,
    Json,
    Plan,
    Reply,
    Request,
    error_of,
    mistake_of,
)

KEY = "sk-stand-in"


@dataclass
class OpenAIStandIn:
    """The server.

    Attributes:
        plan: request -> reply.
        url: base address, with its `/v1`.
        delay: seconds that an answer takes.
        requests: chat completions that came, in order; those of batches too.
        sent: digest -> how often it came.
        paid: digest -> how often an answer was made for it, sent or not.
        calls: every call, such as `POST /v1/files`.
        most_at_once: how many chat completions were open at one time.
        polls: how often a batch is looked at until it is done.
        files: id -> content.
        batches: id -> its state.
        faults: call, such as `POST /v1/batches` -> what comes of the next ones in place of a reply:
            a `Failure` before anything is done, a `Cut` after it.
        result: what becomes of the file of a batch's answers.
        mistakes: of the plan; `serving` raises the first one when it ends.
    """

    plan: Plan
    url: str = ""
    delay: float = 0.0
    requests: list[Request] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    calls: list[str] = field(default_factory=list)
    most_at_once: int = 0
    polls: int = 2
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Json] = field(default_factory=dict)
    result: Callable[[bytes], bytes] = bytes
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    mistakes: list[Exception] = field(default_factory=list)
    closing: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)
    open_now: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    @property
    def paid_twice(self) -> dict[str, int]:
        """Digest -> how often, of the requests that were paid more than once."""
        return {digest: n for digest, n in self.paid.items() if n > 1}

    def take(self, body: Json, *, is_in_batch: bool = False) -> tuple[Request, Reply]:
        """A request is counted, and the plan says what comes of it.

        A cut connection comes after the answer was made: it is paid.
        """
        with self.lock:
            digest = Request(body).digest
            request = Request(body, self.sent[digest], len(self.requests), is_in_batch)
            self.sent[digest] += 1
            self.requests.append(request)
        reply = mistake_of(body) or self.plan(request)
        if isinstance(reply, Answer | Cut):
            with self.lock:
                self.paid[request.digest] += 1
        return request, reply


class Call(BaseHTTPRequestHandler):
    """One connection of a client."""

    stand_in: OpenAIStandIn
    routes: dict[str, Callable[..., None]]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.stand_in.calls.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self.fail(Failure(401, "Incorrect API key provided.", "invalid_api_key"))
            return
        for pattern, answer in self.routes.items():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                self._answer(partial(answer, self, *match.groups()), f"{self.command} {path}")
                return
        self.fail(Failure(404, f"Invalid URL ({self.command} {path})"))

    do_POST = do_GET  # noqa: N815

    def _answer(self, answer: Callable[[], None], call: str) -> None:
        """Answers, or does what is to come of this call in place of that."""
        faults = self.stand_in.faults.get(call)
        fault = faults.pop(0) if faults else None
        if isinstance(fault, Failure):
            self.fail(fault)
        elif isinstance(fault, Cut):
            connection, self.wfile = self.wfile, BytesIO()
            answer()
            self.wfile, self.close_connection = connection, True
        else:
            answer()

    def json(self, content: object, status: int = 200, headers: Json | None = None) -> None:
        data = json.dumps(content).encode()
        self.send(data, status, {"Content-Type": "application/json", **(headers or {})})

    def fail(self, failure: Failure) -> None:
        self.json(error_of(failure), failure.status, dict(failure.headers))

    def send(self, content: bytes, status: int, headers: Json, *, until: int | None = None) -> None:
        """A reply; with `until`, the connection ends after so many bytes of it."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:until])
        self.close_connection = self.close_connection or until is not None
