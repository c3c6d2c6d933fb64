"""What a verb of the Makefile would run: shown by echo in the place of Python."""

from __future__ import annotations

import os
import subprocess
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands_of(verb: str, *variables: str) -> list[list[str]]:
    """The words of every command, a sweep's values still together."""
    # `make test ARGS=...` hands its own words on to every make that it starts.
    outside = {k: v for k, v in os.environ.items() if k not in ("ARGS", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "--silent", verb, "PY=echo", "READY=", *variables],
        cwd=ROOT, capture_output=True, text=True, check=True, env=outside,
    )  # fmt: skip
    return [line.split() for line in done.stdout.splitlines()]


def settings(command: list[str]) -> tuple[list[str], list[list[str]]]:
    """The keys of a command and the values of each."""
    words = [word.split("=", 1) for word in command[1:] if "=" in word]
    keys = [key for key, _ in words]
    return keys, [v.split(",") if k in ("editor", "scenario") else [v] for k, v in words]


def jobs(command: list[str]) -> list[dict[str, str]]:
    """The settings of a sweep's jobs."""
    keys, values = settings(command)
    return [dict(zip(keys, one, strict=True)) for one in product(*values)]


def some_jobs(command: list[str]) -> list[dict[str, str]]:
    """So many of them that each value is in one."""
    keys, values = settings(command)
    return [
        {key: each[number % len(each)] for key, each in zip(keys, values, strict=True)}
        for number in range(max(map(len, values)))
    ]
