"""`python -m construction` and signals: what was paid for is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.construction_words import load_construction_config
from construction.journal import Journal
from construction.run import header_of
from tests.construction_plans import good
from tests.e2e.commands import interruptible
from tests.openai_calls import OpenAIStandIn
from tests.openai_stand_in import serving
from tests.unit.construction.test_command import FACTS
from tests.unit.construction.test_rows import as_lines
from tests.unit.test_imports import ROOT

pytestmark = pytest.mark.e2e
AT_ONCE = 4


def words(server: OpenAIStandIn, path: Path) -> list[str]:
    facts = as_lines(path / "facts.jsonl", [{**fact, "image": None} for fact in FACTS])
    return [
        f"rows={facts}", f"output_dir={path / 'out'}", f"endpoint.base_url={server.url}",
        f"endpoint.concurrency={AT_ONCE}",
    ]  # fmt: skip


@contextmanager
def started(server: OpenAIStandIn, path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, when its first requests are at the server."""
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, "-m", "construction", *words(server, path)], cwd=ROOT, text=True,
            env={**os.environ, **server.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    with process:
        try:
            while server.open_now < AT_ONCE and process.poll() is None:
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def journal(server: OpenAIStandIn, path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    config = load_construction_config(words(server, path))
    book = Journal(path / "out" / "journal.jsonl", header_of(config))
    book.read()
    return book


def test_a_second_signal_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(good, delay=30.0) as server:
        with started(server, tmp_path) as process:
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=20)[1]
        assert process.returncode == 128 + signal.SIGINT
        assert f"{AT_ONCE} requests are under way and waited for; a second signal" in errors
        assert "Traceback" not in errors
        book = journal(server, tmp_path, monkeypatch)
        assert (len(book.replies), len(book.lost)) == (0, AT_ONCE)
