"""Engine against reference and against the floor, for equal work.

    python -m benchmarks.run                       all but those of hours, on the mid-size model
    python -m benchmarks.run mend_text ft_evaluation --turns 5 --batch 16
    python -m benchmarks.run --long                FT of 20,000 steps too
    python -m benchmarks.run --keep                adds a line to benchmarks/results/NAME.jsonl
    python -m benchmarks.run --picture FILE        draws where the engine's time goes
    python -m benchmarks.run --device cuda --full-size llava

`engine` and `reference` are times of one edit, in bare forward passes of a question about a
picture, 92 tokens long on the mid-size model. `floor` is the time of the operations that cannot be
avoided, at the machine's own rate of matrix products, or of the bytes, whichever is longer. In
float32 the numbers of both sides are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import measure, mid_size, outcome, where
from benchmarks.cases import CASES, LONG
from benchmarks.floor import Rates
from benchmarks.full_size import FAMILIES
from benchmarks.memory import peak_beyond_model
from benchmarks.outcome import Line
from benchmarks.setting import Setting
from models.loading import torch_dtype

PICTURES = Path("runs/benchmarks/pictures")


def run(name: str, setting: Setting, turns: int, rate: float, *, memory: bool = False) -> Line:
    """Compares both sides, then times them.

    Args:
        name: of the benchmark.
        setting: what it runs on.
        turns: how often each side is measured.
        rate: operations of matrix products a second.
        memory: whether that is measured too.

    Raises:
        AssertionError: their numbers differ.
    """
    case = CASES[name](setting)
    if setting.exact:
        case.check()
    device, floor = setting.device, case.floor()
    turns = 1 if case.once else turns
    works = [case.engine, case.published]
    (unit,) = measure.in_turns([setting.unit()], max(turns, 3), device)
    engine, reference = measure.in_turns(works, turns, device, rehearse=not case.once)
    rates = Rates(rate, measure.copy_rate(device, floor.state))
    arithmetic, traffic = (seconds / floor.edits for seconds in floor.seconds(rates))
    line = Line(
        case.name, case.brief, unit, engine / floor.edits, reference, arithmetic, traffic,
        outcome.of_one_edit(floor), setting.exact,
        least_memory=floor.held / 1e9 if floor.held else None,
        parts={} if case.once else where.parts_of(case),
    )  # fmt: skip
    return _with_memory(line, setting) if memory and not case.once else line


def _with_memory(line: Line, setting: Setting) -> Line:
    peak = partial(peak_beyond_model, setting, line.name)
    return replace(
        line,
        engine_peak=peak("engine", setting.batch_size),
        engine_peak_alone=peak("engine", 1),
        reference_peak=peak("published", 1),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks that are named, all but the longest where none is."""
    options = _options(arguments)
    device = options.device
    if options.full_size:
        setting = Setting.open_full_size(
            options.full_size, mid_size.shared_folder(), PICTURES, options.batch,
            device, torch_dtype("auto", device), tiny=options.tiny,
        )  # fmt: skip
    else:
        setting = Setting.open(mid_size.shared_folder(), PICTURES, options.batch, device=device)
    rate = measure.matmul_rate(device, setting.model.dtype)
    conditions = outcome.about(setting, rate)
    print(", ".join(f"{name} {value}" for name, value in conditions.items()), flush=True)
    names = options.names or [name for name in CASES if options.long or name not in LONG]
    lines = []
    for name in names:
        lines.append(run(name, setting, options.turns, rate, memory=options.memory))
        print(f"{name}: {lines[-1].ratio:.1f} times as fast as the reference", flush=True)
        if options.keep:
            outcome.keep(lines[-1:], conditions)
    outcome.show(lines)
    if options.picture:
        where.draw(lines, options.picture)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--batch", type=int, default=16, help="edits side by side in the engine")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--long", action="store_true", help=f"with {', '.join(LONG)}")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where the time goes")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--full-size", choices=FAMILIES, help="random weights in that size")
    parser.add_argument("--tiny", action="store_true", help="of it a rehearsal at a width of 64")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(CASES)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.batch < 1 or options.turns < 1:
        parser.error("--batch and --turns are 1 or more")
    if options.tiny and not options.full_size:
        parser.error("--tiny belongs to --full-size")
    return options


if __name__ == "__main__":
    main()
