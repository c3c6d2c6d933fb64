"""How much memory a device has, and how much of it is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

GB = 1e9


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a device, in bytes."""

    name: str
    total: int
    free: int


def device_memory(device: torch.device) -> DeviceMemory:
    """Total and free memory of a device."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        index = torch.cuda.current_device() if device.index is None else device.index
        return DeviceMemory(f"cuda:{index}", total, free)
    total, free = machine_memory()
    return DeviceMemory(device.type, total, free)


def machine_memory(
    proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int]:
    """Total and free bytes of the machine, or of the container that this process runs in.

    Args:
        proc: where the kernel tells about memory.
        cgroup: where it tells about the container, in version 2 or 1.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = _read_table(proc / "meminfo", ":")
    total = meminfo.get("MemTotal", total // 1024) * 1024
    free = meminfo.get("MemAvailable", total // 1024) * 1024
    for folder, limit_file, used_file in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _read_number(folder / limit_file), _read_number(folder / used_file)
        if limit is None or limit >= total:
            continue
        # Pages of files that were read count as used and are given up when they are needed.
        pages = _read_table(folder / "memory.stat", " ").get("inactive_file", 0)
        total, free = limit, min(free, limit - max(0, (used or 0) - pages))
    return total, max(0, free)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _read_table(path: Path, separator: str) -> dict[str, int]:
    """Lines such as `MemTotal: 8 kB` or `inactive_file 4096`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.split(separator, 1) for line in lines if separator in line]
    return {key: int(value.split()[0]) for key, value in pairs if value.split()[0].isdigit()}
