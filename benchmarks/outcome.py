"""What a benchmark came to: a table for people, a line of JSON for later."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from rich.table import Table

from benchmarks.floor import Floor
from benchmarks.setting import Setting
from results.files import replacing
from results.screen import screen

RESULTS = Path(__file__).parent / "results"
_NARROWEST = 132  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Line:
    """Times are of one edit, in seconds; memory is beyond the model, in GB.

    Attributes:
        name: of the benchmark.
        brief: what an edit is here.
        unit: seconds of the bare forward pass.
        arithmetic: seconds of the operations that cannot be avoided.
        traffic: seconds of the bytes that cannot.
        operations: of one edit by part of the work.
        compared: whether the numbers of both sides were compared.
        engine_peak: of the engine with all edits of the batch side by side.
        engine_peak_alone: of the engine with one edit.
        reference_peak: of the reference.
        least_memory: what both hold at least: an editor's weights, their gradients and Adam's
            moments; None where nothing is counted.
        parts: part of the work -> measured seconds.
    """

    name: str
    brief: str
    unit: float
    engine: float
    reference: float
    arithmetic: float
    traffic: float
    operations: Mapping[str, float]
    compared: bool
    engine_peak: float | None = None
    engine_peak_alone: float | None = None
    reference_peak: float | None = None
    least_memory: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as long the reference takes."""
        return self.reference / self.engine

    @property
    def floor(self) -> float:
        """Seconds below which the present plan cannot go."""
        return max(self.arithmetic, self.traffic)

    @property
    def bound(self) -> str:
        """What holds it there."""
        return "arithmetic" if self.arithmetic >= self.traffic else "memory"


def of_one_edit(floor: Floor) -> dict[str, float]:
    """Operations by part, of one of the edits."""
    return {part: count / floor.edits for part, count in floor.operations.items()}


def about(setting: Setting, rate: float) -> dict[str, object]:
    """Where and with what the lines were measured."""
    device = setting.device
    cuda = device.type == "cuda"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "model": setting.name,
        "dtype": str(setting.model.dtype).removeprefix("torch."),
        "batch": setting.batch_size,
        "gflops": round(rate / 1e9, 1),
    }


def show(lines: Sequence[Line]) -> None:
    """Prints two tables: times in bare forward passes with memory, and the floor by part."""
    times = _table(
        "engine", "reference", "ratio", "floor", "bound by", "engine / floor",
        "GB, batch", "GB, one", "GB, ref.", "GB, floor",
    )  # fmt: skip
    for line in lines:
        times.add_row(
            line.name if line.compared else f"{line.name} (not compared)",
            f"{line.engine / line.unit:.2f}",
            f"{line.reference / line.unit:.2f}",
            f"{line.ratio:.1f}",
            f"{line.floor / line.unit:.2f}",
            line.bound,
            f"{line.engine / line.floor:.2f}",
            *map(
                _gb,
                (
                    line.engine_peak,
                    line.engine_peak_alone,
                    line.reference_peak,
                    line.least_memory,
                ),
            ),
        )
    names = list(dict.fromkeys(name for line in lines for name in line.operations))
    by_part = _table(*names, "GFLOP an edit")
    for line in lines:
        counts = [line.operations.get(name, 0.0) / 1e9 for name in names]
        by_part.add_row(line.name, *(f"{n:.2f}" for n in counts), f"{sum(counts):.2f}")
    console = screen(narrowest=_NARROWEST)
    console.print(times)
    console.print(by_part)


def keep(lines: Sequence[Line], conditions: Mapping[str, object], folder: Path = RESULTS) -> None:
    """Adds a line to the file of each benchmark; one that is cut off leaves the file as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines:
        path = folder / f"{line.name}.jsonl"
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        values = {**conditions, **asdict(line), "ratio": round(line.ratio, 2), "bound": line.bound}
        with replacing(path) as temporary:
            temporary.write_text(f"{earlier}{json.dumps(values)}\n", encoding="utf-8")


def kept(folder: Path = RESULTS) -> list[Line]:
    """The newest line of each benchmark."""
    names = set(Line.__dataclass_fields__)
    lines = []
    for path in sorted(folder.glob("*.jsonl")):
        values = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        lines.append(Line(**{name: value for name, value in values.items() if name in names}))
    return lines


def _table(*names: str) -> Table:
    table = Table("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def _gb(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
