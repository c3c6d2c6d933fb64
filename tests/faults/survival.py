"""One case from its first start to its end: what was promised of it and did not hold."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cases import Case
from tests.faults.doomed import plain
from tests.faults.harness import Blow, Command, Start, start
from tests.faults.sameness import (
    contents,
    evaluation_differences,
    training_differences,
    unfinished,
)

HOW_TO_GO_ON = (
    "resume=true",
    "in the queue again",
)  # one of them is in what a command says when it is stopped
# A command's last line. While Python shuts down after it, a signal may still end the process.
LAST_LINE = re.compile(r"^last \S+last\.ckpt$|Written to |inished already", re.MULTILINE)
_NOTE = "a file of somebody else\n"


@dataclass
class Outcome:
    """What became of a case.

    Attributes:
        starts: the first one, and those that went on.
        wrong: what must not be, a line each.
    """

    case: Case
    starts: list[Start] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def moments(self) -> list[str]:
        """What was about to happen when each signal came."""
        return [one.moment for one in self.starts if one.moment is not None]

    def line(self) -> str:
        """A line of the table."""
        pairs = zip(self.case.blows, self.starts, strict=False)
        blows = [f"{blow}: {plain(one.moment or 'ended before')}" for blow, one in pairs]
        seconds = sum(one.seconds for one in self.starts)
        return (
            f"{self.case.name:28} {' | '.join(blows)}; {len(self.starts) - 1} restarts, "
            f"{seconds:.0f} s: {'; '.join(self.wrong) or 'same end'}"
        )


def unbroken_run(command: Command, folder: Path) -> Start:
    """A start that nothing befalls, beside which the others are held.

    Raises:
        AssertionError: it failed.
    """
    run = folder / "run"
    run.mkdir(parents=True)
    (run / "notes.txt").write_text(_NOTE)
    done = start(command, run, folder / "notes")
    assert done.status == 0, done.printed
    assert not done.left, done.left
    return done


def survive(case: Case, folder: Path, unbroken: Path) -> Outcome:
    """Plays a case through: each start gets its blow, the last ones none, until the end comes.

    Args:
        case: what happens to which command.
        folder: an empty folder for it.
        unbroken: the output folder of the unbroken run.
    """
    outcome, run = Outcome(case), folder / "run"
    run.mkdir(parents=True)
    (run / "notes.txt").write_text(_NOTE)
    before = contents(unbroken)
    blows: list[Blow | None] = [*case.blows, None, None]
    for number, blow in enumerate(blows):
        one = start(case.command, run, folder / "notes", blow, requeued=number)
        outcome.starts.append(one)
        begun = (run / "config.yaml").exists()
        outcome.wrong += _wrong_in(one, blow if one.moment else None, begun=begun)
        if one.moment and (one.status == 0 or _is_done(one, blow)):
            wrong = _wrong_at_the_end(case.command, run, unbroken)
            outcome.wrong += [f"ended well after {one.moment}, but {what}" for what in wrong]
        if one.hung or (one.status == 0 and blow is None):
            break
        if blow is None:
            outcome.wrong.append(f"start {number} ended with {one.status}: {_tail(one.printed)}")
    outcome.wrong += _wrong_at_the_end(case.command, run, unbroken)
    if contents(unbroken) != before:
        outcome.wrong.append("files of another run changed")
    return outcome


def _wrong_in(one: Start, blow: Blow | None, *, begun: bool) -> list[str]:
    """What must not be in one start, which has begun the run if config.yaml is there after it."""
    wrong = []
    if one.hung:
        wrong.append(f"did not end: {_tail(one.printed)}")
    if one.left:
        wrong.append(f"left behind: {one.left}")
    if "Traceback" in one.printed:
        wrong.append(f"traceback: {_tail(one.printed)}")
    if blow is None or one.hung or blow.signal == signal.SIGKILL or _is_done(one, blow):
        return wrong
    statuses = {*one.statuses.values()} or {one.status}
    if not statuses <= {128 + blow.signal, 0}:
        wrong.append(f"{blow.signal.name}: status {statuses}: {_tail(one.printed)}")
    elif begun and statuses != {0} and not any(words in one.printed for words in HOW_TO_GO_ON):
        wrong.append(f"{blow.signal.name}: not a word on how to go on: {_tail(one.printed)}")
    return wrong


def _is_done(one: Start, blow: Blow | None) -> bool:
    """Whether a signal that can be caught has only met the shutting down of Python."""
    met = blow is not None and blow.signal != signal.SIGKILL and one.status == -blow.signal
    return met and LAST_LINE.search(one.printed) is not None


def _wrong_at_the_end(command: Command, run: Path, unbroken: Path) -> list[str]:
    wrong = [f"{name} was never finished" for name in unfinished(run)]
    if (run / "notes.txt").read_text() != _NOTE:
        wrong.append("notes.txt, which is not ours, changed")
    differences = evaluation_differences if command.script == "evaluate" else training_differences
    return [*wrong, *differences(run, unbroken)]


def _tail(printed: str) -> str:
    return " ".join(printed.split())[-400:]
