"""A construction that ends at any moment is gone on with, and what was paid is not paid again.

A journal that was cut after each of its lines is what a kill leaves behind, and the server knows
all that it was asked before. `tests/e2e/test_construction.py` kills processes.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from configs.construction import JOURNAL
from construction.__main__ import main
from construction.answers import read_answers
from tests.construction_plans import good, prompt_name
from tests.openai_calls import OpenAIStandIn
from tests.openai_replies import Answer, Cut, Failure, Hang, Reply, Request, faults_first
from tests.openai_stand_in import serving
from tests.unit.construction.test_rows import as_lines

FACTS = [
    {
        "subject": f"Town {number}", "question": f"Who is the mayor of Town {number}?",
        "answer_true": f"Ann {number}", "answer_new": f"Bob {number}", "entity_type": "town",
    }
    for number in range(2)
]  # fmt: skip
PAST = "Thu, 01 Jan 1970 00:00:00 GMT"


def repaired(request: Request) -> Reply:
    """One paraphrase is of no use at first."""
    is_first = len(request.body["messages"]) == 2
    if prompt_name(request) == "paraphrase" and request.line("Subject") == "Town 1" and is_first:
        return Answer({"paraphrase": "Who rules it?"})
    return good(request)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("construction.batches.FIRST_WAIT", 0.01)


class Command:
    """The command on two facts in this process."""

    def __init__(
        self, server: OpenAIStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        self.output = folder / "out"
        self.output.mkdir(parents=True)
        as_lines(folder / "facts.jsonl", FACTS)
        self._words = [
            f"rows={folder / 'facts.jsonl'}", f"output_dir={self.output}",
            f"endpoint.base_url={server.url}", "batch.poll=0.01",
        ]  # fmt: skip

    def run(self, *words: str) -> int:
        return main([*self._words, *words])

    def complete(self) -> int:
        return len(read_answers(self.output / "answers.jsonl"))


@pytest.mark.parametrize("by", ["single", "batch"])
def test_a_journal_that_ends_after_any_line(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["batch.use=true"] if by == "batch" else []
    with serving(repaired) as server:
        whole = Command(server, tmp_path, monkeypatch)
        assert whole.run(*words) == 0
        lines = (whole.output / JOURNAL).read_bytes().splitlines(keepends=True)
        once = server.paid.copy()
        assert set(once.values()) == {1}
        assert len(once) == 5
        for end in range(len(lines) + 1):
            kept = [json.loads(line) for line in lines[:end]]
            replies = {line["request"] for line in kept if line["kind"] == "reply"}
            files = sum(line["kind"] == "upload" for line in kept)
            command = Command(server, tmp_path / str(end), monkeypatch)
            (command.output / JOURNAL).write_bytes(b"".join(lines[:end]))
            server.paid.clear()
            assert command.run(*words) == 0
            assert command.complete() == len(FACTS)
            if by == "single":
                assert server.paid.total() == len(once) - len(replies)
            else:  # two answers a row, then a repair; what the journal has a file of is there
                assert server.paid.total() == (5, 1, 0)[files]
            assert not server.paid_twice


@pytest.mark.parametrize(
    "fault",
    [
        Failure(429, headers=(("Retry-After", "0.01"),)),
        Failure(429, headers=(("Retry-After", PAST),)),
        Failure(500), Cut(), Cut(is_headers_sent=False), Hang(),
    ],
    ids=["429", "429-date", "500", "cut", "cut-early", "hang"],
)  # fmt: skip
def test_what_passes_is_asked_again_and_journalled_once(
    fault: Reply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(faults_first(fault, then=good)) as server:
        command = Command(server, tmp_path, monkeypatch)
        timeout = 1.5 if isinstance(fault, Hang) else 60
        assert command.run(f"endpoint.timeout={timeout}") == 0
        assert command.complete() == len(FACTS)
        assert set(server.sent.values()) == {2}
        lines = [json.loads(line) for line in (command.output / JOURNAL).open()]
        replies = Counter(line["request"] for line in lines if line["kind"] == "reply")
        assert set(replies.values()) == {1}
        assert len(replies) == len(server.sent)


@pytest.mark.parametrize("fault", [Failure(500), Cut(is_headers_sent=False)], ids=["500", "cut"])
@pytest.mark.parametrize("call", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/batch_0"])
def test_no_batch_is_made_twice(
    call: str, fault: Reply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(good) as server:
        server.faults[call] = [fault]
        command = Command(server, tmp_path, monkeypatch)
        assert command.run("batch.use=true") == 0
        assert command.complete() == len(FACTS)
        assert not server.faults[call], "it happened"
        assert len(server.batches) == 1
        assert not server.paid_twice
