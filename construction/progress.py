"""A bar on stderr while a language model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs.construction import PriceOptions
from construction.budget import Budget
from construction.journal import Journal
from construction.requests import Question, due


@contextmanager
def shown(
    questions: Sequence[Question], journal: Journal, budget: Budget, prices: PriceOptions,
    console: Console,
) -> Iterator[Callable[[], None]]:  # fmt: skip
    """A bar over the requests that are due; repairs make it longer.

    Yields:
        What is to be called after each reply.
    """
    before = len(journal.replies)
    waiting = sum(1 for _ in due(questions, journal.replies))
    columns = (
        TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("asking", total=waiting, spent="")

        def advance() -> None:
            done = len(journal.replies) - before
            spent = f"{budget.spent.total.tokens} tokens, ${budget.spent.dollars(prices):.4f}"
            bar.update(task, completed=done, total=max(waiting, done), spent=spent)

        yield advance
