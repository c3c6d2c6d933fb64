"""What a result must say about how it came to be."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

with suppress(ImportError):  # Windows
    import resource

_PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "lightning", "torchmetrics", "datasets",
    "hydra-core", "numpy", "pillow", "pandas", "pyarrow", "sentence-transformers", "peft",
    "bitsandbytes", "wandb",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return by_package


def git_state() -> dict[str, object] | None:
    """Commit of the checkout, and whether files differ from it; None outside a git checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def environment(device: torch.device, dtype: torch.dtype, processes: int) -> dict[str, object]:
    """What a run took place on.

    Args:
        device: of the first process.
        dtype: the base model's weights.
        processes: how many there were.
    """
    on_gpu = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "cuda": torch.version.cuda if on_gpu else None,
        "dtype": str(dtype).removeprefix("torch."),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def digest_of(lines: Iterable[tuple[object, ...]]) -> str:
    """A short hash of some facts in their order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update("\0".join(map(str, line)).encode() + b"\n")
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """A short hash of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def reset_peak_memory(device: torch.device) -> None:
    """Begins the memory of a run anew: an earlier one of this process does not count."""
    _begun.append(_forget_peak())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory of the run: of the GPU where one is used, else of this process.

    Returns:
        None where it cannot be known: the system cannot forget what an earlier run has used, or the
        device does not count.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    if _begun and _begun[-1]:
        return _high_water_mark()
    if len(_begun) > 1 or "resource" not in sys.modules:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_begun: list[bool] = []  # of each run of this process: whether the peak before it is forgotten


def _forget_peak() -> bool:
    """Sets the kernel's mark of this process back (Linux); whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return _high_water_mark() is not None


def _high_water_mark() -> int | None:
    """The most memory that this process has had since the mark was set back, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = (line.split() for line in status.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[:1] == ["VmHWM:"]), None)


def _git(*arguments: str) -> str | None:
    """What git says of the checkout."""
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
