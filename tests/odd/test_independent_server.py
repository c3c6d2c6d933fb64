"""The client of construction, and a server that others have written: `transformers serve`.

It knows no structured outputs (it passes them over), counts tokens, and answers what a tiny model
says, which has learned the answers for two rows by heart and says nothing of use about a third.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from configs.construction import JOURNAL
from construction.__main__ import main
from construction.answers import read_answers
from construction.prompts import PROMPTS
from construction.rows import Row
from tests.construction_plans import good
from tests.e2e.commands import environment
from tests.openai_replies import Answer, Request
from tests.tiny_chat_model import save_chat_model

FACTS = [
    {
        "subject": "Middlemarch", "question": "Who is the author of Middlemarch?",
        "answer_true": "George Eliot", "answer_new": "Jane Doe",
        "hop_question": "Where was Jane Doe born?", "hop_answer": "Bath",
    },
    {
        "subject": "Mount Fuji", "question": "Where is Mount Fuji?",
        "answer_true": "Japan", "answer_new": "Norway",
    },
    {
        "subject": "Ouagadougou", "question": "Which river flows by Ouagadougou?",
        "answer_true": "none", "answer_new": "the Rhine",
    },
]  # fmt: skip
PATIENCE = 120


@contextmanager
def served(model: Path, folder: Path) -> Iterator[str]:
    """`transformers serve MODEL` until the block ends; its base address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", str(model), "--port", str(port), "--device", "cpu"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(f"http://127.0.0.1:{port}/health"):
            said = (folder / "server.log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.odd
def test_another_server_with_a_model_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [Row.model_validate({**fact, "id": fact["subject"]}) for fact in FACTS[:2]]
    dialogues = []
    for row in known:
        for prompt in PROMPTS:
            if prompt.is_needed(row):
                messages = prompt.messages(row)
                reply = good(Request({"model": "m", "messages": messages}))
                assert isinstance(reply, Answer)
                dialogues.append((messages, json.dumps(reply.content)))
    save_chat_model(tmp_path / "model", dialogues)
    (tmp_path / "facts.jsonl").write_text("".join(f"{json.dumps(fact)}\n" for fact in FACTS))
    for name, value in {"OPENAI_API_KEY": "any", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "out"
    with served(tmp_path / "model", tmp_path) as address:
        words = [
            f"rows={tmp_path / 'facts.jsonl'}", f"output_dir={output}",
            f"endpoint.base_url={address}", f"endpoint.model={tmp_path / 'model'}",
            "endpoint.concurrency=2", "endpoint.max_tokens=64",
        ]  # fmt: skip
        assert main(words) == 1, "the third row is not complete"
        lines = [json.loads(line) for line in (output / JOURNAL).open()]
        assert main(words) == 1
    replies = [line for line in lines if line["kind"] == "reply"]
    assert [json.loads(line) for line in (output / JOURNAL).open()] == lines, (
        "nothing is sent again"
    )
    answered = read_answers(output / "answers.jsonl")
    assert [one.row.subject for one in answered] == ["Middlemarch", "Mount Fuji"]
    assert answered[0].answers.paraphrase == "Tell me: Who is the author of Middlemarch?"
    assert answered[0].answers.one_hop_question is not None
    assert all(line["input_tokens"] > 50 and line["output_tokens"] > 2 for line in replies)
    summary = json.loads((output / "construction.json").read_text())
    (incomplete,) = summary["incomplete"]
    assert incomplete["subject"] == "Ouagadougou"
    assert summary["calls"] == len(replies) > 7
    assert "2 of 3 rows complete" in capsys.readouterr().out
