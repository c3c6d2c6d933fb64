"""Engine against reference and against the floor, on the mid-size model, for equal work.

    python -m benchmarks.run                       everything
    python -m benchmarks.run mend_text ft_evaluation --turns 5 --batch 16
    python -m benchmarks.run --keep                adds a line to benchmarks/results/NAME.jsonl

`engine` and `reference` are seconds of one edit, in bare forward passes of a question about a
picture, 92 tokens long. `floor` is the time of the operations that cannot be avoided, at the
machine's own rate of matrix products. Both sides give the same numbers, which is checked before
anything is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from rich.table import Table

from benchmarks import cases, measure, mid_size
from benchmarks.cases import Case
from results.screen import screen

RESULTS = Path(__file__).parent / "results"
PICTURES = Path("runs/benchmarks/pictures")
_NARROWEST = 80  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Line:
    """What one benchmark came to; times are of one edit, in seconds.

    Attributes:
        unit: seconds of the bare forward pass.
        floor: seconds, from the count of operations.
    """

    name: str
    unit: float
    engine: float
    reference: float
    floor: float

    @property
    def ratio(self) -> float:
        """How many times as long the reference takes."""
        return self.reference / self.engine


def run(
    make: Callable[[cases.Setting], Case], setting: cases.Setting, turns: int, rate: float
) -> Line:
    """Checks that both sides agree, then times them.

    Raises:
        AssertionError: their numbers differ.
    """
    case = make(setting)
    case.check()
    works = [setting.unit, case.engine, case.reference]
    unit, engine, reference = measure.in_turns(works, turns, torch.device("cpu"))
    return Line(
        case.name,
        unit,
        engine / case.engine_edits,
        reference / case.reference_edits,
        case.floor / rate / case.engine_edits,
    )


def show(lines: Sequence[Line]) -> None:
    """Prints a table."""
    table = Table()
    for name in ("", "engine", "reference", "ratio", "floor", "engine / floor"):
        table.add_column(name, justify="left" if not name else "right")
    for line in lines:
        of_unit = (line.engine / line.unit, line.reference / line.unit)
        table.add_row(
            line.name,
            f"{of_unit[0]:.2f}",
            f"{of_unit[1]:.2f}",
            f"{line.ratio:.1f}",
            f"{line.floor / line.unit:.2f}",
            f"{line.engine / line.floor:.2f}",
        )
    screen(narrowest=_NARROWEST).print(table)


def keep(lines: Sequence[Line], setting: cases.Setting, rate: float) -> None:
    """Adds a line to the file of each benchmark."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "batch": setting.batch_size,
        "gflops": round(rate / 1e9, 1),
    }
    for line in lines:
        with (RESULTS / f"{line.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(about | vars(line) | {"ratio": round(line.ratio, 2)}) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks that are named, all where none is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(cases.CASES))
    parser.add_argument("--batch", type=int, default=16, help="edits side by side in the engine")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(cases.CASES)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(cases.CASES)}")
    setting = cases.Setting.open(mid_size.shared_folder(), PICTURES, options.batch)
    rate = measure.matmul_rate(torch.device("cpu"))
    print(
        f"{datetime.now(UTC).date()}, torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" {rate / 1e9:.0f} GFLOP/s in matrix products"
    )
    names = options.names or list(cases.CASES)
    lines = [run(cases.CASES[name], setting, options.turns, rate) for name in names]
    show(lines)
    if options.keep:
        keep(lines, setting, rate)


if __name__ == "__main__":
    main()
