"""The commands that are killed, and the moments, drawn from a seed.

One kind of moment is as likely as another, however many events it has.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.doomed import plain
from tests.faults.harness import Blow, Command, Start

CATCHABLE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
BETWEEN_EVENTS, LONGEST_DELAY = 0.3, 0.4  # share of the blows; seconds
MOMENTS = (
    "loading", "the folder", "a step", "validation", "a batch on disk", "curves", "a checkpoint",
    "the files of the result", "sending", "the end",
)  # fmt: skip
_BACK_TO_STEPS = ("tmke.step on_train_batch_end", "tmke.step on_validation_end")


@dataclass(frozen=True)
class Case:
    """One run of a command under some blows, one for each start."""

    name: str
    command: Command
    blows: tuple[Blow, ...]


def moment_of(event: str) -> str | None:
    """Which of `MOMENTS` an event belongs to; None: that of the event before it."""
    kind, _, what = event.partition(" ")
    if kind == "tmke.step":
        return "validation" if "validation" in what else "the end" if "end" in what else "a step"
    by_part = {
        "/wandb": "sending", "/partial": "a batch on disk", "/checkpoints": "a checkpoint",
        "/metrics.csv": "curves", "/.metrics": "curves", "/config.yaml": "the folder",
        "/.config": "the folder", "/log.txt": "the folder", "lock": "the folder",
    }  # fmt: skip
    for part, moment in by_part.items():
        if part in what:
            return moment
    names = ("edits", "probes", "curve", "summary", "table")
    if any(f"/{dot}{name}" in what for dot in ("", ".") for name in names):
        return "the files of the result"
    return None


def moments(events: Sequence[str]) -> dict[str, list[int]]:
    """Events of a start by moment, counted from 1."""
    found: dict[str, list[int]] = {}
    moment = "loading"
    for number, event in enumerate(events, start=1):
        after_a_phase = event.startswith(_BACK_TO_STEPS)
        reads_a_picture = moment != "loading" and event.startswith("open ") and ".png" in event
        moment = "a step" if after_a_phase or reads_a_picture else moment_of(event) or moment
        found.setdefault(moment, []).append(number)
    return found


def draw_case(seed: int, name: str, number: int, command: Command, unbroken: Start) -> Case:
    """One case, which depends on the seed, its name and its number alone.

    Every third one is struck a second time, on its way on.

    Args:
        seed: of all draws.
        name: of the command.
        number: of the case among those of its command.
        command: the command.
        unbroken: a start of it that nothing befell.
    """
    draw = random.Random(f"{seed} {name} {number}")
    blows = [draw_blow(draw, command, unbroken, again=again) for again in (False, True)]
    return Case(f"{name} #{number}", command, tuple(blows if number % 3 == 2 else blows[:1]))


def draw_blow(
    draw: random.Random, command: Command, unbroken: Start, *, again: bool = False
) -> Blow:
    """A signal, whom it hits and when: at an event, or some time after one.

    Args:
        draw: the generator.
        command: the command.
        unbroken: a start of it that nothing befell.
        again: it hits a start that goes on.
    """
    # Half of all signals ask nobody; the others may be caught.
    number = signal.SIGKILL if draw.random() < 0.5 else draw.choice(CATCHABLE)
    rank = draw.randrange(command.processes)
    targets = ("self", "self", "other", "all") if command.processes > 1 else ("self",)
    by_moment = moments(unbroken.events[rank])
    nth = draw.choice(by_moment[draw.choice(sorted(by_moment))])
    # A start that goes on has fewer events: there it is the first one of the same name.
    what = plain(unbroken.events[rank][nth - 1]) if again else None
    delay = draw.uniform(0.0, LONGEST_DELAY) if draw.random() < BETWEEN_EVENTS else None
    return Blow(number, 1 if again else nth, what, rank, draw.choice(targets), delay)


def commands(world: Path, root: Path) -> dict[str, Command]:
    """What is killed: both commands, in one process and in two, started in every way there is."""
    reads = (str(world), str(root / "models" / "pretrained"))
    common = (
        "experiment=demo", "data=folder", f"data.root={world}", "data.filter_known=none",
        "data.limit=12", "trainer.enable_progress_bar=false",
    )  # fmt: skip
    evaluate = (
        *common, "editor=ft", "editor.steps=5", "scenario=transitive", "evaluate.batch_size=2",
    )  # fmt: skip
    train = (
        *common, "editor=mend", "trainer.max_steps=10", "trainer.val_every=4",
        "trainer.save_every=2", "trainer.log_every_n_steps=1",
    )  # fmt: skip
    two, sent = ("trainer=ddp_cpu", "logger=csv"), ("logger.table_edits=2",)
    return {
        "evaluate": Command("evaluate", (*evaluate, "logger=none"), reads=reads),
        "evaluate, W&B": Command("evaluate", (*evaluate, *sent), reads=reads),
        "evaluate, one after the other": Command(
            "evaluate",
            (*evaluate, "protocol=sequential", "protocol.n=[1,3,6]", "logger=none"),
            reads=reads,
        ),
        "evaluate, SLURM": Command("evaluate", (*evaluate, "logger=none"), 1, "slurm", reads),
        "evaluate, torchrun": Command("evaluate", (*evaluate, *two), 2, "torchrun", reads),
        "evaluate, srun": Command("evaluate", (*evaluate, *two), 2, "slurm", reads),
        "evaluate, ddp": Command("evaluate", (*evaluate, *two), 2, None, reads),
        "train": Command("train", (*train, "logger=csv"), reads=reads),
        "train, W&B": Command("train", train, reads=reads),
        "train, SLURM": Command("train", (*train, "logger=csv"), 1, "slurm", reads),
        "train, torchrun": Command("train", (*train, *two), 2, "torchrun", reads),
        "train, srun": Command("train", (*train, *two), 2, "slurm", reads),
        "train, ddp": Command("train", (*train, *two), 2, None, reads),
    }
