"""The questions that a language model is asked about a row (paper, Tables 7, 8 and 9).

Each is a system message that says what to do and works one example, George Rankin, and a user
message with the lines `Subject:` and `Question:`. The paper's tables fix the example and the lines;
the sentences around them are ours, and so is the fourth question, which joins two facts into one
question for Portability. Answers come as JSON. `VERSION` is a hash of all that is sent, so that
answers to other wordings are never mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from construction.replies import (
    EntityType,
    Form,
    OneHopQuestion,
    Paraphrase,
    SameTypeEntity,
    schema_of,
)
from construction.rows import Row

Message = dict[str, str]
_RANKIN = Row(
    id="example",
    subject="George Rankin",
    question="What is George Rankin's occupation?",
    answer_true="politician",
    answer_new="painter",
    hop_question="What tool does a painter work with?",
    hop_answer="brush",
)
_JSON = "Answer with one JSON object and nothing else."


@dataclass(frozen=True)
class Prompt:
    """One question.

    Attributes:
        name: of the field of `construction.answers.Answers` that it fills first.
        title: for people.
        task: what the model is told to do.
        lines: the user message of a row: label -> text.
        example: the answer to the worked example.
        is_needed: whether a row needs it.
    """

    name: str
    title: str
    task: str
    lines: Callable[[Row], dict[str, str]]
    example: Form
    is_needed: Callable[[Row], bool] = lambda row: True

    @property
    def form(self) -> type[Form]:
        """What an answer has to be."""
        return type(self.example)

    @property
    def system(self) -> str:
        """The system message."""
        answer = self.example.model_dump_json()
        return f"{self.task} {_JSON}\n\nExample\n{self.user(_RANKIN)}\nAnswer: {answer}"

    def user(self, row: Row) -> str:
        """The user message about a row; a line break inside a text would look like another line."""
        return "\n".join(f"{name}: {' '.join(t.split())}" for name, t in self.lines(row).items())

    def messages(self, row: Row) -> list[Message]:
        """What is sent about a row."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self.user(row)},
        ]

    def repair(self, content: str, mistakes: Sequence[str]) -> list[Message]:
        """What is sent after an answer that cannot be used: the answer, and why it cannot."""
        why = "\n".join(f"- {mistake}" for mistake in mistakes)
        return [
            {"role": "assistant", "content": content},
            {"role": "user", "content": f"That cannot be used:\n{why}\nAnswer again. {_JSON}"},
        ]

    def response_format(self, kind: str) -> dict[str, Any] | None:
        """How the form of the answer is asked for.

        Args:
            kind: `json_schema`, `json_object`, or `text`, where the messages alone say it.
        """
        if kind == "json_schema":
            schema = {"name": self.name, "strict": True, "schema": schema_of(self.form)}
            return {"type": "json_schema", "json_schema": schema}
        return {"type": kind} if kind == "json_object" else None


def _fact(row: Row) -> dict[str, str]:
    return {"Subject": row.subject, "Question": row.question}


def _two_facts(row: Row) -> dict[str, str]:
    return {
        **_fact(row),
        "Answer": row.answer_new,
        "Second question": row.hop_question or "",
    }


PROMPTS = (
    Prompt(
        name="entity_type",
        title="entity type (Table 7)",
        task=(
            "You are given a subject and a question about it. Say what type of entity the subject "
            "is, in one to three words, in lower case and without an article, as they stand in "
            '"the ... in the image".'
        ),
        lines=_fact,
        example=EntityType(entity_type="person"),
        is_needed=lambda row: row.entity_type is None,
    ),
    Prompt(
        name="paraphrase",
        title="paraphrase (Table 8)",
        task=(
            "You are given a subject and a question about it. Write a question that means the same "
            "in other words. It names the subject exactly as it is given, and does not say the "
            "answer."
        ),
        lines=_fact,
        example=Paraphrase(paraphrase="What does George Rankin do for a living?"),
    ),
    Prompt(
        name="same_type_entity",
        title="another subject of the type (Table 9)",
        task=(
            "You are given a subject and a question about it. Name another well-known entity of "
            "the same type as the subject, and give the true and short answer to the same question "
            "about that entity."
        ),
        lines=_fact,
        example=SameTypeEntity(
            same_type_entity="Leo Messi", same_type_answer="Professional footballer"
        ),
    ),
    Prompt(
        name="one_hop_question",
        title="question over two facts",
        task=(
            "You are given a subject, a question about it with its answer, and a second question "
            "about that answer. Join both questions into one: it names the subject exactly as it "
            "is given, describes the answer through the subject in place of naming it, and asks "
            "what the second question asks."
        ),
        lines=_two_facts,
        example=OneHopQuestion(
            one_hop_question="What tool does someone with George Rankin's occupation work with?"
        ),
        is_needed=lambda row: row.hop_question is not None,
    ),
)


def _digest_of_all() -> str:
    sent = [[p.name, p.messages(_RANKIN), p.repair("", [""]), schema_of(p.form)] for p in PROMPTS]
    return hashlib.sha256(json.dumps(sent).encode()).hexdigest()[:12]


VERSION = _digest_of_all()
