"""Disks that fail: what the kernel answers where a file may not grow; small disks in memory."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes; more is `EFBIG`, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def disk_in_memory(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system on a new folder, or again with other options; gone after the block.

    Yields:
        From options of mount to the folder; skips the test where nothing can be mounted.
    """
    folder.mkdir()
    is_mounted = False

    def mount(options: str) -> Path:
        nonlocal is_mounted
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        is_mounted = True
        return folder

    try:
        yield mount
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
