"""What a sweep saves: the same evaluations as one command, and as a command each.

    python -m benchmarks.sweep                          6 jobs on a tiny twin
    python -m benchmarks.sweep model=smollm_llava editor=ft,ft_l scenario=unimodal,transitive

Whole commands are timed: Python's start and imports, configuration, loading, work and results. The
cache is off, so that neither side finds what the other has computed; what is drawn or downloaded
once for all is there, since one job runs before. The numbers of each job are compared.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from configs.overrides import parse_words
from results.files import EDITS
from results.screen import screen

ROOT = Path(__file__).parents[1]
GRID = ("editor=none,ft,ike", "scenario=unimodal,transitive", "data.limit=10")
SHARED = ("experiment=demo", "cache=off", "logger=none", "trainer.enable_progress_bar=false")
_OURS = ("output_dir", "cache", "hydra.sweep.dir")


@dataclass(frozen=True)
class Cost:
    """Of some commands, in seconds.

    Attributes:
        wall: that have passed.
        cpu: of all of their processes' cores.
    """

    wall: float
    cpu: float

    def least(self, other: Cost) -> Cost:
        """The smaller of both, of each kind."""
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu))


def jobs_of(words: Sequence[str]) -> list[list[str]]:
    """The words of each job of a sweep, in the order of its numbers.

    Raises:
        ValueError: a word cannot be read, or they are those of a single job.
    """
    line = parse_words(words)
    if line.problems:
        raise ValueError(" ".join(line.problems))
    if taken := [key for key in _OURS if key in line.keys]:
        raise ValueError(f"{taken[0]} is set by the benchmark: leave it out")
    values = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in line.overrides
    ]
    jobs = [list(job) for job in itertools.product(*values)]
    if len(jobs) == 1:
        raise ValueError("a sweep has a key with several values, such as editor=none,ft")
    return jobs


def compare(swept: Path, single: Path) -> None:
    """Compares what a job of a sweep and the same command alone have written.

    Raises:
        AssertionError: their numbers differ.
    """
    ours, theirs = (
        pd.read_parquet(folder / EDITS).drop(columns="seconds") for folder in (swept, single)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def run(words: Sequence[str], turns: int, folder: Path) -> tuple[Cost, Cost]:
    """Costs of one sweep and of its jobs as commands of their own, the best of some turns.

    Args:
        words: those of the sweep.
        turns: of each side.
        folder: where results go; empty.

    Raises:
        AssertionError: the numbers of a job differ.
        subprocess.CalledProcessError: a command failed; what it said was printed.
    """
    jobs = jobs_of(words)
    measured([["evaluate.py", *SHARED, *jobs[0], f"output_dir={folder}/before"]])
    swept = single = Cost(math.inf, math.inf)
    for turn in range(turns):
        one, many = folder / f"sweep-{turn}", folder / f"single-{turn}"
        alone = [
            ["evaluate.py", *SHARED, *job, f"output_dir={many / str(number)}"]
            for number, job in enumerate(jobs)
        ]
        together = ["evaluate.py", "-m", *SHARED, *words, f"output_dir={one}"]
        swept = swept.least(measured([together]))
        single = single.least(measured(alone))
        for number in map(str, range(len(jobs))):
            compare(one / number, many / number)
    return swept, single


def measured(commands: Sequence[Sequence[str]]) -> Cost:
    """Runs commands one after the other.

    Raises:
        subprocess.CalledProcessError: one failed; what it said has been printed.
    """
    before, started = _cpu(), time.perf_counter()
    for words in commands:
        ended = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=os.environ | {"COLUMNS": "200"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            print(ended.stdout, ended.stderr, sep="\n", file=sys.stderr)
        ended.check_returncode()
    return Cost(time.perf_counter() - started, _cpu() - before)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what both sides took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", help=f"of the sweep (default: {' '.join(GRID)})")
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args(arguments)
    words = options.words or list(GRID)
    if options.turns < 1:
        parser.error("--turns is 1 or more")
    try:
        n_jobs = len(jobs_of(words))
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        try:
            swept, single = run(words, options.turns, Path(folder))
        except subprocess.CalledProcessError as error:
            sys.exit(f"a command ended with status {error.returncode}; what it said stands above")
    saved = (single.wall - swept.wall) / (n_jobs - 1)
    screen().print(
        f"{' '.join(words)}\n"
        f"{n_jobs} jobs          seconds   of CPU\n"
        f"one sweep      {swept.wall:9.1f} {swept.cpu:8.1f}\n"
        f"commands alone {single.wall:9.1f} {single.cpu:8.1f}\n"
        f"ratio          {single.wall / swept.wall:9.2f} {single.cpu / swept.cpu:8.2f}\n"
        f"a job after the first saves {saved:.1f} seconds; the numbers are equal"
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
