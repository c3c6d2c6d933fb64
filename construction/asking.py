"""Asks what rows need, several requests at one time, each reply on the disk before the next step.

A worker takes a question through all of its requests (the question, and the repair of an answer of
no use), so the first rows are complete first. The run ends early, without losing a reply, when the
budget is reached, the endpoint cannot be used, several requests in a row have failed for good, or a
signal comes: nothing new is sent then, and what is under way is waited for. A second signal ends
the run at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.schema import ConstructionConfig
from construction.budget import Budget
from construction.endpoint import EndpointError, RequestError, complete, connected
from construction.journal import Journal
from construction.requests import Question, Request, due
from errors import STOPPING, Stopped

if TYPE_CHECKING:
    from openai import AsyncOpenAI


_NOT_SENT = "it was not sent"


@dataclass
class Outcome:
    """How asking has ended.

    Attributes:
        failed: (id of a row, name of a prompt) -> why its request failed for good in this run.
        sent: requests that went out.
        halted: why no more were sent; empty where all were.
        signal: number of the signal that ended it.
        error: what is wrong with the endpoint, where that ended it.
    """

    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    sent: int = 0
    halted: str = ""
    signal: int = 0
    error: EndpointError | None = None


def ask(
    questions: Sequence[Question], config: ConstructionConfig, journal: Journal, budget: Budget,
    progress: Callable[[], None] = lambda: None,
) -> Outcome:  # fmt: skip
    """Asks all questions that the journal does not answer.

    Args:
        questions: of all rows, in their order.
        config: who is asked, and when to give up.
        journal: open; gets what is sent and what comes back.
        budget: knows what was spent before.
        progress: called after each reply.

    Raises:
        Stopped: a second signal came.
    """
    if next(due(questions, journal.replies), None) is None:
        return Outcome()
    return asyncio.run(_Asking(questions, config, journal, budget, progress).run())


class _Asking:
    def __init__(
        self, questions: Sequence[Question], config: ConstructionConfig, journal: Journal,
        budget: Budget, progress: Callable[[], None],
    ) -> None:  # fmt: skip
        self._questions: Iterator[Question] = iter(questions)
        self._endpoint, self._journal, self._budget = config.endpoint, journal, budget
        self._progress = progress
        self._under_way: dict[str, asyncio.Future[str]] = {}
        self._settled = asyncio.Condition()
        self._failures_in_a_row = 0
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        workers = asyncio.TaskGroup()
        try:
            async with connected(self._endpoint) as client, self._stoppable(), workers:
                for _ in range(self._endpoint.concurrency):
                    workers.create_task(self._work(client))
        except BaseExceptionGroup as group:  # a full disk, say: the first one tells it
            raise group.exceptions[0] from group
        return self.outcome

    async def _work(self, client: AsyncOpenAI) -> None:
        for question in self._questions:
            while isinstance(step := question.step(self._journal.replies), Request):
                if self.outcome.halted:
                    return
                why = await self._exchange(client, step)
                if why == _NOT_SENT:
                    return
                if why:
                    self.outcome.failed[step.row, step.prompt] = why
                    break

    async def _exchange(self, client: AsyncOpenAI, request: Request) -> str:
        """Gets the reply of a request into the journal; why there is none otherwise."""
        if (same := self._under_way.get(request.key)) is not None:
            return await asyncio.shield(same)
        done = self._under_way[request.key] = asyncio.get_running_loop().create_future()
        why = _NOT_SENT
        try:
            if await self._admitted(request):
                why = await self._send(client, request)
        finally:
            del self._under_way[request.key]
            done.set_result(why)
            async with self._settled:
                self._settled.notify_all()
        return why

    async def _admitted(self, request: Request) -> bool:
        """Whether the budget allows it, now or after others have come back."""
        async with self._settled:
            while not self.outcome.halted:
                if self._budget.admit(request):
                    return True
                if not self._budget.has_reserved:
                    self._halt(self._budget.refusal(request))
                    break
                await self._settled.wait()
        return False

    async def _send(self, client: AsyncOpenAI, request: Request) -> str:
        self._journal.sent(request)
        self.outcome.sent += 1
        reply = None
        try:
            reply = await complete(client, request)
        except EndpointError as error:
            self._journal.failed(request, str(error))
            self.outcome.error = self.outcome.error or error
            self._halt("the endpoint cannot be used")
            return _NOT_SENT
        except RequestError as error:
            self._journal.failed(request, str(error))
            self._failures_in_a_row += not error.is_of_content
            if self._failures_in_a_row >= self._endpoint.give_up_after:
                self._halt(
                    f"{self._failures_in_a_row} requests in a row failed for good; the last one: "
                    f"{str(error).rstrip('.')}. Check endpoint.base_url, or wait: the same "
                    "command goes on"
                )
            return str(error)
        finally:
            if reply is not None:
                self._journal.reply(request.key, reply)
            self._budget.settle(request.key, reply)
            self._progress()
        self._failures_in_a_row = 0
        return ""

    def _halt(self, why: str) -> None:
        self.outcome.halted = self.outcome.halted or why

    @asynccontextmanager
    async def _stoppable(self) -> AsyncIterator[None]:
        """The first signal ends the run once what is under way is back, the second at once."""
        loop, before = asyncio.get_running_loop(), {}
        task = asyncio.current_task()

        def stop(number: int) -> None:
            if self.outcome.signal and task is not None:
                task.cancel()
                return
            self.outcome.signal = number
            waiting = f"{len(self._under_way)} requests are under way and waited for"
            os.write(2, f"{waiting}; a second signal ends the run at once.\n".encode())
            self._halt(f"{signal.Signals(number).name} came")

        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or another thread
            for number in STOPPING:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    loop.add_signal_handler(number, stop, number)
                    before[number] = handler
        try:
            yield
        except asyncio.CancelledError:
            raise Stopped(self.outcome.signal, "at once") from None
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
