"""What a result must say about how it came to be."""

from __future__ import annotations

import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("torch", "transformers", "lightning", "torchmetrics", "datasets", "hydra-core")
_ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Versions of the packages that decide numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_state() -> str | None:
    """Commit of the checkout, with `-dirty` where files differ; None outside a git checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
