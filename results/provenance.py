"""What a result must say about how it came to be."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

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


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
