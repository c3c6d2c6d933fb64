"""How far asking has come: a bar on a terminal, a line every minute in a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs.construction import PriceOptions
from construction.budget import Budget
from construction.journal import Journal
from construction.requests import Question, due

EVERY = 60.0  # seconds between two lines


@contextmanager
def shown(
    questions: Sequence[Question], journal: Journal, budget: Budget, prices: PriceOptions,
    console: Console,
) -> Iterator[Callable[[], None]]:  # fmt: skip
    """Shows how many of the requests that are due have come back; repairs make them more.

    Yields:
        What is to be called after each reply.
    """
    before, last = len(journal.replies), time.monotonic()
    waiting = sum(1 for _ in due(questions, journal.replies))
    columns = (
        TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )  # fmt: skip
    is_terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not is_terminal) as bar:
        task = bar.add_task("asking", total=waiting, spent="")

        def advance() -> None:
            nonlocal last
            done = len(journal.replies) - before
            total = max(waiting, done)
            spent = f"{budget.spent.total.tokens} tokens, ${budget.spent.dollars(prices):.4f}"
            if is_terminal:
                bar.update(task, completed=done, total=total, spent=spent)
            elif time.monotonic() - last >= EVERY:
                last = time.monotonic()
                console.print(f"{done} of {total} answered, {spent}", soft_wrap=True)

        yield advance
