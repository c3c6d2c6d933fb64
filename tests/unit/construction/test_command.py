"""`python -m construction` against a server on loopback, in this process."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from construction.__main__ import main
from construction.answers import read_answers
from construction.journal import Journal
from results.lock import locked
from tests.construction_plans import good, prompt_name
from tests.openai_calls import OpenAIStandIn
from tests.openai_replies import Answer, Failure, Page, Plan, Reply, Request
from tests.openai_stand_in import serving
from tests.unit.construction.test_rows import RANKIN, WOMAN, as_lines

MIDDLEMARCH = {
    "subject": "Middlemarch",
    "question": "Who is the author of Middlemarch?",
    "answer_true": "George Eliot",
    "answer_new": "Jane Doe",
    "hop_question": "Where was Jane Doe born?",
    "hop_answer": "Bath",
}
FACTS: list[dict[str, Any]] = [WOMAN, {**RANKIN, "image": None}, MIDDLEMARCH]  # ten requests


class Construction:
    """The command on three facts, and the server that it asks."""

    def __init__(self, server: OpenAIStandIn, path: Path) -> None:
        self.server, self.path = server, path
        self.output = path / "out"

    def run(self, *words: str) -> int:
        return main(
            [
                f"rows={self.path / 'facts.jsonl'}", f"output_dir={self.output}",
                f"endpoint.base_url={self.server.url}", "endpoint.retries=0", *words,
            ]
        )  # fmt: skip

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.output / "construction.json").read_text()))


Started = Callable[..., Construction]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    with ExitStack() as servers:

        def start(plan: Plan = good, delay: float = 0.0) -> Construction:
            server = servers.enter_context(serving(plan, delay=delay))
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            as_lines(tmp_path / "facts.jsonl", FACTS)
            return Construction(server, tmp_path)

        yield start


def instead(name: str, *replies: Reply, subject: str = "") -> Plan:
    """The first replies to one question, about one subject or all; otherwise good ones."""
    seen: Counter[str] = Counter()

    def plan(request: Request) -> Reply:
        about = request.text("user").splitlines()[0].removeprefix("Subject: ")
        if prompt_name(request) != name or subject not in about:
            return good(request)
        seen[about] += 1
        return replies[seen[about] - 1] if seen[about] <= len(replies) else good(request)

    return plan


def test_every_row_is_complete_and_nothing_is_paid_twice(started: Started) -> None:
    construction = started()
    assert construction.run() == 0
    answered = read_answers(construction.output / "answers.jsonl")
    assert [one.row.subject for one in answered] == [fact["subject"] for fact in FACTS]
    assert [one.answers.one_hop_question is not None for one in answered] == [False, False, True]
    assert len(construction.server.requests) == 10
    assert construction.run() == 0
    assert len(construction.server.requests) == 10
    assert (construction.summary["calls"], construction.summary["complete"]) == (10, 3)


def test_no_key_is_needed_where_the_journal_answers(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    assert construction.run("limit=2") == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    assert construction.run("limit=2") == 0
    assert construction.summary["answered_by"] == ["gpt-4o-2024-08-06"]
    assert construction.run() == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_requests_are_under_way_at_one_time(started: Started) -> None:
    construction = started(delay=0.1)
    assert construction.run("endpoint.concurrency=3") == 0
    assert construction.server.most_at_once == 3


def test_a_dry_run_sends_and_writes_nothing(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    assert construction.run("dry_run=true") == 0
    assert not construction.server.requests
    assert not construction.output.exists()
    shown = capsys.readouterr().out
    assert "question over two facts" in shown
    assert " 10 " in shown


def test_a_dry_run_counts_what_is_left(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    assert construction.run("limit=2") == 0
    capsys.readouterr()
    assert construction.run("dry_run=true") == 0
    assert " 4 " in capsys.readouterr().out


def test_an_answer_of_no_use_is_repaired_once(started: Started) -> None:
    bad = Answer({"paraphrase": "What is it?"})
    construction = started(instead("paraphrase", bad))
    assert construction.run() == 0
    assert len(construction.server.requests) == 13
    repairs = [r for r in construction.server.requests if len(r.body["messages"]) == 4]
    assert len(repairs) == 3
    assert "does not name the subject" in repairs[0].text("user")


def test_a_row_that_fails_twice_is_listed_and_the_others_go_on(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = Answer(None, refusal="I can't help with that.")
    construction = started(instead("entity_type", refusal, refusal, subject="Rankin"))
    assert construction.run() == 1
    shown = capsys.readouterr().out
    assert "2 of 3 rows complete" in shown
    assert "no answer for 'George Rankin'" in shown
    assert "the model refused: I can't help with that." in shown
    assert [list(one["failed"]) for one in construction.summary["incomplete"]] == [["entity_type"]]
    assert construction.run() == 1
    assert len(construction.server.requests) == 11
    assert construction.run("attempts=2") == 0
    assert len(construction.server.requests) == 12


def test_a_failed_request_is_sent_again_by_the_next_run(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started(instead("paraphrase", Failure(500), subject="Middlemarch"))
    assert construction.run() == 1
    assert construction.run() == 0
    assert "under way" not in capsys.readouterr().err
    assert len(construction.server.requests) == 11
    assert not construction.server.paid_twice


def test_the_same_question_of_two_rows_is_paid_once(started: Started) -> None:
    construction = started(delay=0.05)
    again = [{**WOMAN, "answer_new": name} for name in ("Jane Austen", "Emily Bronte")]
    as_lines(construction.path / "facts.jsonl", [WOMAN, *again])
    assert construction.run() == 0
    assert len(construction.server.requests) == 3
    assert len(read_answers(construction.output / "answers.jsonl")) == 3


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started(delay=0.02)
    assert construction.run("budget.dollars=0.006") == 1
    shown = capsys.readouterr().out
    assert "stopped: budget.dollars=0.006 is reached" in shown
    assert 0.002 < construction.summary["dollars"] <= 0.006
    assert 0 < len(construction.server.requests) < 10
    assert construction.run("budget.dollars=1") == 0
    assert len(construction.server.requests) == 10


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Page(), "answers a web page"),
        (Page(status=404), "no such model or address (it answers a web page)"),
        (Failure(401, "Incorrect API key"), "does not accept the key in OPENAI_API_KEY"),
        (Failure(404, "no model gpt-4o"), "no such model or address (no model gpt-4o)"),
        (Failure(429, "no money", "insufficient_quota"), "is out of money"),
    ],
)
def test_an_endpoint_that_cannot_be_used_ends_the_run(
    started: Started, capsys: pytest.CaptureFixture[str], reply: Reply, message: str
) -> None:
    construction = started(lambda request: reply)
    assert construction.run("endpoint.concurrency=1") == 2
    assert message in capsys.readouterr().err
    assert len(construction.server.requests) == 1


def test_failures_that_are_not_in_a_row_end_no_run(started: Started) -> None:
    construction = started(instead("entity_type", Failure(500)))
    assert construction.run("endpoint.concurrency=1", "endpoint.give_up_after=2") == 1
    assert construction.summary["halted"] is None
    assert len(construction.server.requests) == 10


def test_a_server_here_may_move_to_another_port(started: Started) -> None:
    assert started().run() == 0
    moved = started()
    assert moved.run() == 0
    assert not moved.server.requests


def test_single_requests_do_not_pay_for_what_a_batch_is_asked(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    construction = started()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "ended", _fail)
        with pytest.raises(ZeroDivisionError):
            construction.run("batch.use=true", "batch.poll=0.01")
    assert construction.run() == 2
    assert "has 1 batches under way (batch_0)" in capsys.readouterr().err
    assert construction.run("batch.use=true", "batch.poll=0.01") == 0
    assert construction.run() == 0
    assert not construction.server.paid_twice


def _fail(*arguments: object) -> None:
    raise ZeroDivisionError


def test_rows_whose_content_is_not_wanted_end_no_run(started: Started) -> None:
    unwanted = Failure(400, "your prompt was filtered", "content_filter")
    construction = started(lambda request: unwanted)
    assert construction.run("endpoint.concurrency=1", "endpoint.give_up_after=1") == 1
    assert construction.summary["halted"] is None
    assert len(construction.summary["incomplete"]) == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Failure(500, "overloaded"), "status 500: overloaded"),
        (Page(status=502), "status 502: it answers a web page"),
        (
            Failure(429, "slow down", headers=(("Retry-After", "900"),)),
            "status 429: slow down; it asks to wait: Retry-After: 900",
        ),
    ],
)
def test_failures_in_a_row_end_the_run(
    started: Started, capsys: pytest.CaptureFixture[str], reply: Reply, message: str
) -> None:
    construction = started(lambda request: reply)
    assert construction.run("endpoint.concurrency=1", "endpoint.give_up_after=2") == 1
    shown = capsys.readouterr().out
    assert f"stopped: 2 requests in a row failed for good; the last one: {message}" in shown
    assert "or wait: the same command goes on." in shown
    assert len(construction.server.requests) == 2


def test_a_full_disk_ends_the_run_and_loses_nothing_paid(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    whole, calls = Journal.reply, count(1)

    def full(self: Journal, *arguments: Any, **named: Any) -> None:
        if next(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "reply", full)
        assert construction.run("endpoint.concurrency=1") == 2
    assert "journal.jsonl cannot be written (No space left on device)" in capsys.readouterr().err
    assert len(construction.server.requests) == 5
    assert construction.run() == 0
    assert "1 requests were under way when an earlier run ended" in capsys.readouterr().err
    assert len(construction.server.requests) == 11


def test_one_run_at_a_time_in_a_folder(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    construction.output.mkdir()
    with locked(construction.output):
        assert construction.run() == 2
    assert "is in use" in capsys.readouterr().err
    assert not construction.server.requests


def test_a_pipe_gets_a_line_now_and_then(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("construction.progress.EVERY", 0.0)
    assert started().run() == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("10 of 10 answered, ")


def test_the_key_is_written_nowhere(started: Started) -> None:
    construction = started(instead("paraphrase", Failure(500)))
    construction.run()
    written = b"".join(path.read_bytes() for path in construction.output.iterdir())
    assert b"sk-stand-in" not in written
    assert b"api_key" not in written


def test_a_journal_of_another_model_is_refused_or_put_aside(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    assert construction.run() == 0
    before = (construction.output / "journal.jsonl").read_bytes()
    words = ("endpoint.model=other",)
    assert construction.run(*words) == 2
    assert "endpoint.model was 'gpt-4o' and is 'other'" in capsys.readouterr().err
    assert (construction.output / "journal.jsonl").read_bytes() == before
    assert construction.run(*words, "overwrite=true") == 0
    assert (construction.output / "journal-1.jsonl").read_bytes() == before
    assert len(construction.server.requests) == 20


def test_pictures_have_to_be_there_before_anything_is_paid(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    construction = started()
    as_lines(construction.path / "facts.jsonl", [WOMAN, RANKIN])
    assert construction.run() == 2
    assert "names 1 pictures, and 1 of them is not in pictures=" in capsys.readouterr().err
    assert construction.run("on_error=skip") == 0
    assert len(construction.server.requests) == 3
    assert construction.summary["left_out"]


def test_the_batch_api_gives_the_same_answers_for_half_the_price(started: Started) -> None:
    bad = Answer({"paraphrase": "What is it?"})
    single = started(instead("paraphrase", bad))
    assert single.run() == 0
    batched = started(instead("paraphrase", bad))
    batched.output = batched.path / "batched"
    assert batched.run("batch.use=true", "batch.poll=0.01", "batch.size=8") == 0
    read = [read_answers(one.output / "answers.jsonl") for one in (single, batched)]
    assert read[0] == read[1]
    assert len(batched.server.batches) == 2  # eight, and two with the three repairs
    assert not batched.server.paid_twice
    dollars = [one.summary["dollars"] for one in (single, batched)]
    assert dollars[1] == pytest.approx(dollars[0] / 2, abs=1e-6)
