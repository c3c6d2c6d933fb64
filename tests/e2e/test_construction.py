"""`python -m construction` in a process of its own that is killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from configs.construction import JOURNAL
from construction.__main__ import main
from construction.answers import read_answers
from construction.requests import Request as Sent
from datamodules.__main__ import main as check
from tests.construction_plans import good
from tests.e2e.commands import ROOT, environment, interruptible
from tests.openai_calls import OpenAIStandIn
from tests.openai_replies import Answer, Reply, Request
from tests.openai_stand_in import serving

ROWS, AT_ONCE = 200, 8
REQUESTS = 561  # 200 paraphrases, 200 other subjects, 100 types, 50 second facts, 11 repairs
PATIENCE = 60  # seconds in which so many requests come, on a machine that does much else


def facts(path: Path, count: int) -> Path:
    """A table of so many facts, some with their type, some with a second fact."""
    rows = [
        {
            "subject": f"Town {number}", "question": f"Who is the mayor of Town {number}?",
            "answer_true": f"Ann {number}", "answer_new": f"Bob {number}",
            **({"entity_type": "town"} if number % 2 else {}),
            **(
                {} if number % 4 else
                {"hop_question": f"Where was Bob {number} born?", "hop_answer": f"Village {number}"}
            ),
        }
        for number in range(count)
    ]  # fmt: skip
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


class Command:
    """The command on a table, which asks one server."""

    def __init__(self, server: OpenAIStandIn, folder: Path, count: int = ROWS) -> None:
        self.server, self.output = server, folder / "out"
        self._words = [
            f"rows={facts(folder / 'facts.jsonl', count)}", f"output_dir={self.output}",
            f"endpoint.base_url={server.url}", f"endpoint.concurrency={AT_ONCE}",
        ]  # fmt: skip

    def start_until(self, requests: int) -> subprocess.Popen[str]:
        """Starts a process, and waits until the server was asked so often in all."""
        with interruptible():
            process = subprocess.Popen(
                [sys.executable, "-m", "construction", *self._words],
                cwd=ROOT, env=environment() | self.server.environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while len(self.server.requests) < requests:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the requests do not come"
            time.sleep(0.005)
        return process

    def finish(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Runs it to its end, in this process."""
        for name, value in self.server.environment.items():
            monkeypatch.setenv(name, value)
        assert main(self._words) == 0

    def journalled(self) -> list[str]:
        """Keys of the replies that the journal holds, in its order."""
        *lines, last = (self.output / JOURNAL).read_bytes().split(b"\n")
        del last  # empty, or cut short
        read = [json.loads(line) for line in lines]
        return [line["request"] for line in read if line["kind"] == "reply"]


def key(request: Request) -> str:
    """By which the journal knows a request that came."""
    return Sent(request.body, "", "", is_repair=False, attempt=0).key


def first_answer_of_no_use(request: Request) -> Reply:
    """Some paraphrases are repaired, so that a request depends on a reply."""
    is_first = len(request.body["messages"]) == 2
    if is_first and "Town 7" in request.text("user") and "means the same" in request.text("system"):
        return Answer({"paraphrase": "Who rules it?"})
    return good(request)


def test_two_hundred_rows_killed_twice_pay_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(first_answer_of_no_use, delay=0.02) as server:
        command = Command(server, tmp_path)
        kills: list[tuple[int, set[str]]] = []  # requests that had come, and replies on the disk
        for requests in (200, 400):
            process = command.start_until(requests)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills.append((len(server.requests), set(command.journalled())))
        command.finish(monkeypatch)
        keys = [key(request) for request in server.requests]
        sent = Counter(keys)
        assert len(sent) == REQUESTS
        for come, kept in kills:
            assert len(kept) < REQUESTS, "it was killed after its last reply"
            assert not kept & set(keys[come:]), "what is in the journal is not sent again"
        repeated = {k: n - 1 for k, n in sent.items() if n > 1}
        assert 0 < sum(repeated.values()) <= len(kills) * AT_ONCE, "no more than were under way"
        assert all(n <= sum(k not in kept for _, kept in kills) for k, n in repeated.items())
        rows = read_answers(command.output / "answers.jsonl")
        assert [row.row.subject for row in rows] == [f"Town {number}" for number in range(ROWS)]
        journal = command.journalled()
        assert (len(journal), set(journal)) == (len(sent), set(sent)), "one reply for each"
        before = len(server.requests)
        command.finish(monkeypatch)
        assert len(server.requests) == before, "what is complete asks for nothing"
    capsys.readouterr()
    made = f"data.root={command.output / 'records'}"
    assert check(["check", "data=hub", made, "--json", "--strict"]) == 0
    (split,) = json.loads(capsys.readouterr().out)["splits"].values()
    assert split["records"] == split["subjects"] == ROWS


def test_a_signal_waits_for_what_is_under_way(tmp_path: Path) -> None:
    with serving(good, delay=0.05) as server:
        command = Command(server, tmp_path, 20)
        process = command.start_until(AT_ONCE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGINT
        assert "the same command goes on" in err
        assert sorted(command.journalled()) == sorted(key(request) for request in server.requests)
        assert len(server.requests) < 40, "no more were sent"
