"""What a language model may answer: one form a question, and the rules that an answer has to keep.

The forms go to the server as JSON schemas (structured outputs), so their fields are plain texts; a
server may ignore that, so every answer is validated here. The rules are those that make a record:
a paraphrase names the subject, or no question about a picture can be made of it; what is true of
another entity is not what the edit teaches, or a leak would look like stability.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from construction.rows import Row
from datamodules.mentions import mentions
from datamodules.records import field_errors, name_key, visible

LONGEST_TYPE = 5  # words of an entity type
_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)
_HALF = re.compile(r"[\ud800-\udfff]")  # a surrogate without the other one
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)  # what models that reason say before
_FENCE = re.compile(r"^```\w*\s*(.*?)\s*```$", re.DOTALL)


class Form(BaseModel):
    """Base of the forms: every text is one line that shows something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: ClassVar[str]  # of the form, in a message

    @field_validator("*", mode="after")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if _HALF.search(value):
            raise ValueError("the text holds half a character")
        return visible(" ".join(value.split()))

    def mistakes(self, row: Row) -> Iterator[str]:
        """A sentence for each rule that the answer breaks."""
        raise NotImplementedError


class EntityType(Form):
    """Answer of Table 7."""

    summary = "an entity type"

    entity_type: str

    @field_validator("entity_type")
    @classmethod
    def _bare(cls, value: str) -> str:
        return _ARTICLE.sub("", value.strip().rstrip("."))

    def mistakes(self, row: Row) -> Iterator[str]:
        """It is a type that stands in "the ... in the image"."""
        subject = _ARTICLE.sub("", row.subject)
        if mentions(self.entity_type, subject):
            yield f"entity_type {self.entity_type!r} is the subject itself and not its type"
        if len(self.entity_type.split()) > LONGEST_TYPE:
            yield f"entity_type {self.entity_type!r} is longer than {LONGEST_TYPE} words"


class Paraphrase(Form):
    """Answer of Table 8."""

    summary = "a paraphrase"

    paraphrase: str

    def mistakes(self, row: Row) -> Iterator[str]:
        """It is another question about the subject, by name, that says no answer."""
        yield from _asks_of_the_subject("paraphrase", self.paraphrase, row)
        for name in ("answer_true", "answer_new"):
            answer = getattr(row, name)
            if mentions(self.paraphrase, answer) and not mentions(row.question, answer):
                yield f"paraphrase says an answer, {answer!r}, and should only ask"


class SameTypeEntity(Form):
    """Answer of Table 9."""

    summary = "another entity with its answer"

    same_type_entity: str
    same_type_answer: str

    def mistakes(self, row: Row) -> Iterator[str]:
        """It is another entity, whose answer is not what the edit teaches."""
        if name_key(self.same_type_entity) == name_key(row.subject):
            yield f"same_type_entity {self.same_type_entity!r} is the subject itself: name another"
        if name_key(self.same_type_answer) == name_key(row.answer_new):
            yield (
                f"same_type_answer {self.same_type_answer!r} is an answer that cannot be used "
                f"here: name an entity with another one than {row.answer_new!r}"
            )
        if name_key(self.same_type_answer) == name_key(self.same_type_entity):
            yield "same_type_answer repeats same_type_entity in place of answering about it"


class OneHopQuestion(Form):
    """Answer of the fourth question, which joins two facts."""

    summary = "a question that joins two facts"

    one_hop_question: str

    def mistakes(self, row: Row) -> Iterator[str]:
        """It leads from the subject over the edited fact to the second one, and names neither."""
        yield from _asks_of_the_subject("one_hop_question", self.one_hop_question, row)
        for name in ("answer_new", "answer_true", "hop_answer", "hop_answer_true"):
            answer = getattr(row, name)
            if answer is not None and mentions(self.one_hop_question, answer):
                if mentions(row.question, answer):  # the first question says it already
                    continue
                yield f"one_hop_question names {answer!r}: describe it through the subject instead"


def _asks_of_the_subject(field: str, question: str, row: Row) -> Iterator[str]:
    if not mentions(question, row.subject):
        yield f"{field} {question!r} does not name the subject {row.subject!r} as it is written"
    if name_key(question) == name_key(row.question):
        yield f"{field} is the question itself: other words are needed"


class Reply(NamedTuple):
    """What an endpoint has answered to one request.

    Attributes:
        content: the text; None where there is none.
        refusal: why the model does not answer, in its words.
        finish_reason: `stop` where the answer is whole.
        input_tokens, output_tokens: as the endpoint counts them; an estimate where it does not.
        model: that answered, with its version.
    """

    content: str | None
    refusal: str | None
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    model: str


class Judgement(NamedTuple):
    """The answer that a reply holds, if it can be used; else a sentence for each mistake in it."""

    answer: Form | None
    mistakes: tuple[str, ...] = ()


@lru_cache(maxsize=2**16)  # a run looks at the same replies several times
def judged(reply: Reply, form: type[Form], row: Row) -> Judgement:
    """What is in a reply about a row."""
    if reply.refusal:
        return Judgement(None, (f"the model refused: {' '.join(reply.refusal.split())}",))
    if reply.finish_reason == "length":
        cut = "the answer was cut at endpoint.max_tokens: answer in fewer words"
        return Judgement(None, (cut,))
    if reply.finish_reason == "content_filter":
        return Judgement(None, ("the answer was held back by the endpoint's content filter",))
    try:
        answer = form.model_validate(json.loads(_json_of(reply.content or "")))
    except ValidationError as error:
        return Judgement(None, (f"it is not {form.summary}: {field_errors(error)}",))
    except RecursionError:
        return Judgement(None, ("it is nested too deep; one JSON object of texts is needed",))
    except ValueError as error:
        what = "nothing" if not (reply.content or "").strip() else f"no JSON ({error})"
        return Judgement(None, (f"it is {what}; a JSON object is needed and nothing else",))
    mistakes = tuple(answer.mistakes(row))
    return Judgement(None if mistakes else answer, mistakes)


def _json_of(text: str) -> str:
    """The object in a text: servers without structured outputs put words or a fence around it."""
    text = _THOUGHT.sub("", text).strip()
    if fenced := _FENCE.match(text):
        text = fenced[1]
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def schema_of(form: type[Form]) -> dict[str, Any]:
    """The JSON schema of a form, as strict structured outputs take it."""
    properties = {name: {"type": "string"} for name in form.model_fields}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
