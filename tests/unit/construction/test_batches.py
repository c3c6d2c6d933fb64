"""The Batch API: nothing is uploaded, made or paid twice, wherever a run has ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.construction import BudgetOptions
from configs.construction_words import load_construction_config
from construction.asking import Outcome
from construction.batches import ask_in_batches
from construction.budget import Budget
from construction.journal import Journal
from construction.requests import Question, questions
from construction.rows import Row
from tests.construction_plans import good
from tests.openai_calls import OpenAIStandIn
from tests.openai_replies import Failure
from tests.openai_stand_in import serving
from tests.unit.construction.test_budget import PRICES
from tests.unit.construction.test_command import FACTS, instead
from tests.unit.construction.test_rows import as_lines


class _KilledError(BaseException):
    """Ends a run where it stands."""


class Batches:
    """Ten questions about three rows, a journal, and the server that they go to."""

    def __init__(self, server: OpenAIStandIn, path: Path) -> None:
        self.server = server
        self.config = load_construction_config(
            [
                f"rows={as_lines(path / 'facts.jsonl', FACTS)}", f"output_dir={path}",
                f"endpoint.base_url={server.url}", "endpoint.retries=0", "batch.use=true",
                "batch.size=10", "batch.poll=0.01",
            ]
        )  # fmt: skip
        rows = [Row.model_validate({**fact, "image": None}) for fact in FACTS]
        self.questions: list[Question] = [
            question for row in rows for question in questions(row, self.config.endpoint)
        ]

    def run(
        self, say: Callable[[str], None] = lambda line: None, dollars: float | None = None
    ) -> Outcome:
        journal = self.journal
        with journal.opened():
            limits = BudgetOptions(dollars=dollars, tokens=None)
            spent = Budget(limits, PRICES, in_batches=True)
            return ask_in_batches(self.questions, self.config, journal, spent, say)

    @property
    def journal(self) -> Journal:
        return Journal(Path(self.config.output_dir) / "journal.jsonl", {})

    @property
    def replies(self) -> int:
        journal = self.journal
        journal.read()
        return len(journal.replies)

    def made(self, what: str) -> int:
        return self.server.calls.count(f"POST /v1/{what}")


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    with serving(good) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield Batches(server, tmp_path)


def kill_at(monkeypatch: pytest.MonkeyPatch, method: str, *, before: bool) -> None:
    """The next call of a method of the journal ends the run, before or after its line is there."""
    whole = getattr(Journal, method)

    def killed(self: Journal, *arguments: object, **named: object) -> None:
        if not before:
            whole(self, *arguments, **named)
        raise _KilledError

    monkeypatch.setattr(Journal, method, killed)


@pytest.mark.parametrize(
    ("method", "before", "uploads"),
    [
        ("upload", True, 2),  # its id is known to nobody: the file lies there unused
        ("upload", False, 1),
        ("batch", True, 1),  # the batch is looked up by its file
        ("batch", False, 1),
        ("reply", True, 1),
        ("reply", False, 1),
        ("ended", True, 1),
        ("ended", False, 1),
    ],
)
def test_a_run_that_was_killed_goes_on_with_its_batch(
    batches: Batches, method: str, before: bool, uploads: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, method, before=before)
        with pytest.raises(_KilledError):
            batches.run()
    assert batches.run().failed == {}
    assert batches.replies == 10
    assert (batches.made("files"), batches.made("batches")) == (uploads, 1)
    assert not batches.server.paid_twice
    assert batches.journal.path.read_text().count('"kind": "reply"') == 10


def test_lines_that_fail_are_listed_and_sent_again_by_the_next_run(batches: Batches) -> None:
    batches.server.plan = instead("paraphrase", Failure(500, "overloaded"), subject="Rankin")
    ((row, prompt),) = (outcome := batches.run()).failed
    assert (prompt, row) == ("paraphrase", batches.questions[4].row.id)
    assert "status 500: overloaded" in outcome.failed[row, prompt]
    assert batches.replies == 9
    assert batches.run().failed == {}
    assert (batches.replies, batches.server.paid_twice) == (10, {})


def test_a_batch_that_is_refused_is_an_error(batches: Batches) -> None:
    refused = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}

    def fail(line: str) -> None:
        if line.endswith("10 requests"):
            (batch,) = batches.server.batches.values()
            batch |= {"status": "failed", "errors": {"object": "list", "data": [refused]}}

    error = str(batches.run(fail).error)
    assert "has failed (Enqueued token limit reached)" in error
    assert batches.run().error is None
    assert (batches.replies, batches.server.paid_twice) == (10, {})


def test_a_batch_that_expired_is_made_again_of_what_is_left(batches: Batches) -> None:
    done: list[str] = []

    def expire(line: str) -> None:
        batch = next(iter(batches.server.batches.values()), None)
        if batch is None or done or "in_progress" not in line:
            return
        done.append(line)
        lines = batches.server.files[batch["input_file_id"]].splitlines(True)
        batches.server.files[batch["input_file_id"]] = b"".join(lines[:4])
        expired = {"code": "batch_expired", "message": "could not be executed in time"}
        left = [{**json.loads(line), "response": None, "error": expired} for line in lines[4:]]
        batches.server.files["left"] = "\n".join(map(json.dumps, left)).encode()
        batch["error_file_id"] = "left"
        batches.server.polls = 0

    outcome = batches.run(expire)
    assert (outcome.failed, batches.replies, len(batches.server.batches)) == ({}, 10, 2)
    assert not batches.server.paid_twice


def test_a_result_that_is_no_json_is_an_error_and_is_fetched_again(batches: Batches) -> None:
    files: dict[str, bytes] = {}

    def damage(line: str) -> None:
        batch = next(iter(batches.server.batches.values()), None)
        if batch is not None and "in_progress" in line and not files:
            files["page"] = batches.server.files["page"] = b"<html>Sign in</html>"
            batch["error_file_id"] = "page"

    assert "the result of the batch batch_0 cannot be read" in str(batches.run(damage).error)
    batches.server.files["page"] = b""
    assert batches.run().error is None
    assert (batches.replies, batches.server.paid_twice) == (10, {})


def test_a_batch_of_which_everything_is_left_over_ends_the_run(batches: Batches) -> None:
    def left_over(content: bytes) -> bytes:
        error = {"code": "batch_expired", "message": "could not be executed in time"}
        lines = [json.loads(line) for line in content.splitlines()]
        left = [{**line, "response": None, "error": error} for line in lines]
        return b"".join(json.dumps(line).encode() + b"\n" for line in left)

    batches.server.result = left_over
    assert "has completed without an answer" in str(batches.run().error)
    assert len(batches.server.batches) == 1


def without_response(content: bytes) -> bytes:
    lines = [json.loads(line) for line in content.splitlines()]
    return b"".join(json.dumps({**line, "response": "?"}).encode() + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (lambda content: b"", "has completed without a line about it"),
        (lambda content: content[: content.index(b"\n") + 1], "without a line about it"),
        (lambda content: content.replace(b'"custom_id": "', b'"custom_id": "no'), "without a line"),
        (without_response, "status None: no reason"),
        (lambda content: content.replace(b'"choices"', b'"chosen"'), "without a choice"),
    ],
    ids=["empty", "one line", "other ids", "no response", "no choice"],
)
def test_a_batch_that_brings_nothing_is_not_made_again_and_again(
    batches: Batches, result: Callable[[bytes], bytes], why: str
) -> None:
    """A run that asked anew for what a finished batch does not answer would pay without end."""
    batches.server.result = result
    outcome = batches.run()
    assert len(batches.server.batches) == 1
    assert len(outcome.failed) + batches.replies == 10
    assert len(outcome.failed) in (9, 10)
    assert all(why in reason for reason in outcome.failed.values())
    batches.server.result = bytes
    assert not batches.run().failed
    assert len(batches.server.batches) == 2
    assert batches.replies == 10


def test_a_budget_holds_for_batches(batches: Batches) -> None:
    """Requests are batched again and again, as long as one more is allowed."""
    outcome = batches.run(dollars=0.002)
    assert "budget.dollars=0.002 is reached" in outcome.halted
    assert batches.made("batches") > 1
    assert 0 < batches.replies < 10
    lines = [json.loads(line) for line in batches.journal.path.read_text().splitlines()]
    replies = [line for line in lines if line["kind"] == "reply"]
    tokens = [sum(line[f"{name}_tokens"] for line in replies) for name in ("input", "output")]
    assert 0.5 * (2.5 * tokens[0] + 10 * tokens[1]) / 1e6 <= 0.002


def test_an_endpoint_without_batches_is_an_error(batches: Batches) -> None:
    batches.config = batches.config.model_copy(
        update={
            "endpoint": batches.config.endpoint.model_copy(
                update={"base_url": batches.server.url.replace("/v1", "/v2")}
            )
        }
    )
    assert "no such model or address" in str(batches.run().error)
