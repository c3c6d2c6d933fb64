"""From rows to requests, and from replies to answers: a pure function of what was answered so far.

    questions(row) -> one `Question` for each prompt that the row needs
    step(question, replies) -> the next `Request`, the `Form` that came of it, or a `Failure`

Nothing here sends anything. A request is known by the hash of its body, which is how a journal
finds its reply; so a run that was killed goes on where the replies end, and the same question of
two rows is sent once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from configs.construction import EndpointOptions
from construction.answers import Answers
from construction.prompts import PROMPTS, Message, Prompt
from construction.replies import Form, Reply, judged
from construction.rows import Row

ROUNDS = ("question", "repair")
TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")  # old and new name of one key


@dataclass(frozen=True)
class Request:
    """One chat completion that is asked for.

    Attributes:
        body: what is sent.
        row: id of the row it is about.
        prompt: name of its prompt.
        is_repair: whether it follows on an answer that could not be used.
        attempt: 0, or how often the same was asked from the start before.
    """

    body: Mapping[str, Any]
    row: str
    prompt: str
    is_repair: bool
    attempt: int

    @cached_property
    def key(self) -> str:
        """Hash of what is sent; of a later attempt at the same, another one.

        The number of tokens that an answer may have is no part of it: it changes no answer but
        those that it cuts.
        """
        sent = {name: value for name, value in self.body.items() if name not in TOKEN_LIMITS}
        text = json.dumps(sent, sort_keys=True, ensure_ascii=False)
        again = f"\nattempt {self.attempt}" if self.attempt else ""
        return hashlib.sha256(f"{text}{again}".encode()).hexdigest()


class Failure(NamedTuple):
    """A question without an answer: what was wrong with each reply, and the last one."""

    mistakes: tuple[str, ...]
    content: str


@dataclass(frozen=True)
class Question:
    """One prompt about one row."""

    row: Row
    prompt: Prompt
    endpoint: EndpointOptions
    attempts: int = 1

    def step(self, replies: Mapping[str, Reply]) -> Request | Form | Failure:
        """What comes next, by what was answered so far.

        Args:
            replies: key of a request -> its reply.
        """
        mistakes: list[str] = []
        content = ""
        for attempt in range(self.attempts):
            messages = self.prompt.messages(self.row)
            for round_ in ROUNDS:
                request = self._request(messages, is_repair=round_ == "repair", attempt=attempt)
                reply = replies.get(request.key)
                if reply is None:
                    return request
                answer, wrong = judged(reply, self.prompt.form, self.row)
                if answer is not None:
                    return answer
                content = reply.content or reply.refusal or ""
                mistakes += wrong
                messages = messages + self.prompt.repair(content, wrong)
        return Failure(tuple(dict.fromkeys(mistakes)), content)

    def _request(self, messages: Sequence[Message], *, is_repair: bool, attempt: int) -> Request:
        options = self.endpoint
        body: dict[str, Any] = {"model": options.model, "messages": list(messages)}
        body |= {options.max_tokens_key: options.max_tokens}
        body |= {} if options.temperature is None else {"temperature": options.temperature}
        body |= {} if options.seed is None else {"seed": options.seed}
        form = self.prompt.response_format(options.answer_form)
        body |= {} if form is None else {"response_format": form}
        return Request(body, self.row.id, self.prompt.name, is_repair, attempt)


def questions(row: Row, endpoint: EndpointOptions, attempts: int = 1) -> list[Question]:
    """What a row needs to be asked."""
    return [Question(row, p, endpoint, attempts) for p in PROMPTS if p.is_needed(row)]


class Unanswered(NamedTuple):
    """Why a row has no answers: the prompts that failed for good, and those not yet answered."""

    failures: Mapping[str, Failure]
    open: tuple[str, ...]


def answers_of(
    row: Row, of_row: Sequence[Question], replies: Mapping[str, Reply]
) -> Answers | Unanswered:
    """What the replies say of a row, once all of its questions are answered."""
    steps = {question.prompt.name: question.step(replies) for question in of_row}
    failures = {name: step for name, step in steps.items() if isinstance(step, Failure)}
    pending = tuple(name for name, step in steps.items() if isinstance(step, Request))
    if failures or pending:
        return Unanswered(failures, pending)
    fields = {} if row.entity_type is None else {"entity_type": row.entity_type}
    for step in steps.values():
        fields |= step.model_dump() if isinstance(step, Form) else {}
    return Answers(**fields)


def due(questions: Sequence[Question], replies: Mapping[str, Reply]) -> Iterator[Request]:
    """The next request of every question that waits for one, each once."""
    seen: set[str] = set()
    for question in questions:
        step = question.step(replies)
        if isinstance(step, Request) and step.key not in seen:
            seen.add(step.key)
            yield step
