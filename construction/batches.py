"""The same requests by the Batch API: files of them, answered within a day for half the price.

    upload DIR's requests -> make a batch of the file -> look until it has ended -> replies, by key

The journal has the id of the file before a batch is made of it, and that of the batch before it is
waited for. So a run that was killed goes on with the batches that are there: none is made twice.
Repairs of answers of no use are a second batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal

from configs.schema import ConstructionConfig
from construction.asking import Outcome
from construction.budget import Budget
from construction.endpoint import (
    EndpointError,
    RequestError,
    connected,
    explained,
    fields_of,
    may_pass,
    reply_of,
)
from construction.journal import Journal
from construction.requests import Question, Request, due

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_LEFT_OVER = {"batch_expired", "batch_cancelled"}  # why a line was not asked: it is due again
_ENDED = {"completed", "failed", "expired", "cancelled"}
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between two tries, as the client has them
_LISTED = 100  # batches that are looked through for one whose id was not noted


def ask_in_batches(
    questions: Sequence[Question], config: ConstructionConfig, journal: Journal, budget: Budget,
    say: Callable[[str], None],
) -> Outcome:  # fmt: skip
    """As `construction.asking.ask`, by the Batch API.

    Args:
        questions: of all rows, in their order.
        config: who is asked.
        journal: open.
        budget: knows what was spent before.
        say: gets a line whenever a batch changes.
    """
    return asyncio.run(_Batches(questions, config, journal, budget, say).run())


class _Batches:
    def __init__(
        self, questions: Sequence[Question], config: ConstructionConfig, journal: Journal,
        budget: Budget, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._questions, self._options, self._journal = questions, config, journal
        self._budget, self._say = budget, say
        self._requests: dict[str, Request] = {}
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        async with connected(self._options.endpoint) as client:
            try:
                await self._run(client)
            except EndpointError as error:
                self.outcome.error, self.outcome.halted = error, "the endpoint cannot be used"
        return self.outcome

    async def _run(self, client: AsyncOpenAI) -> None:
        for file in list(self._journal.uploads):
            await self._make(client, file)
        while True:
            for batch in list(self._journal.open_batches):
                await self._finish(client, batch)
            waiting = list(islice(self._due(), self._options.batch.size))
            chunk = list(takewhile(self._budget.admit, waiting))
            if not chunk:
                if waiting:
                    self.outcome.halted = self._budget.refusal(waiting[0])
                return
            await self._make(client, await self._upload(client, chunk))

    def _due(self) -> Iterator[Request]:
        """Requests that are to go out and have not failed in this run."""
        for request in due(self._questions, self._journal.replies):
            self._requests[request.key] = request
            if (request.row, request.prompt) not in self.outcome.failed:
                yield request

    async def _upload(self, client: AsyncOpenAI, requests: Sequence[Request]) -> str:
        lines = "".join(
            json.dumps(
                {"custom_id": r.key, "method": "POST", "url": _CHAT, "body": dict(r.body)},
                ensure_ascii=False,
            )
            + "\n"
            for r in requests
        )
        content = ("requests.jsonl", lines.encode())
        file = await _called(client, client.files.create(file=content, purpose="batch"))
        self._journal.upload(file.id, [request.key for request in requests])
        return str(file.id)

    async def _make(self, client: AsyncOpenAI, file: str) -> None:
        """Makes a batch of a file, unless there is one whose id was not noted.

        The client would repeat a call whose reply was lost, and the batch would be there twice. So
        it makes one try, and before another one it is looked whether the batch is there.
        """
        made, waits = await self._made_of(client, file), self._waits()
        while made is None:
            try:
                made = await client.with_options(max_retries=0).batches.create(
                    input_file_id=file, endpoint=_CHAT, completion_window="24h"
                )
            except Exception as error:
                wait = next(waits, None)
                if wait is None or not may_pass(error):
                    raise _without_batches(error, client) from error
                await asyncio.sleep(wait)
                made = await self._made_of(client, file)
        count = len(self._journal.uploads[file])
        self._journal.batch(made.id, file)
        self.outcome.sent += count
        self._say(f"batch {made.id}: {count} requests")

    def _waits(self) -> Iterator[float]:
        """Seconds before each further try."""
        return (min(FIRST_WAIT * 2**n, LONGEST_WAIT) for n in range(self._options.endpoint.retries))

    async def _made_of(self, client: AsyncOpenAI, file: str) -> Any:
        page = await _called(client, client.batches.list(limit=_LISTED))
        return next((batch for batch in page.data if batch.input_file_id == file), None)

    async def _finish(self, client: AsyncOpenAI, batch_id: str) -> None:
        """Waits for a batch and takes its replies into the journal."""
        keys = set(self._journal.open_batches[batch_id])
        batch = await self._wait(client, batch_id)
        replies, failed_before = 0, len(self.outcome.failed)
        missing = {key for key in keys if key not in self._journal.replies}
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = await _called(client, client.files.content(file))
            for line in _lines(content.text, batch_id):
                replies += line["custom_id"] in keys and self._take(line)
                missing.discard(line["custom_id"])
        if batch.status == "completed":  # asked again by this run, they might be without end
            for key in missing:
                self._fail(key, f"the batch {batch_id} has completed without a line about it")
        self._journal.ended(batch_id, batch.status)
        for key in keys:
            self._budget.settle(key, None)
        self._say(f"batch {batch_id}: {batch.status}, {replies} of {len(keys)} answered")
        failed = len(self.outcome.failed) - failed_before
        if not replies and (batch.status != "completed" or not failed):
            errors = [error.message for error in (batch.errors.data or [])] if batch.errors else []
            why = f" ({'; '.join(filter(None, errors[:3]))})" if errors else ""
            raise EndpointError(
                f"the batch {batch_id} at {client.base_url} has {batch.status}{why} without an "
                "answer. The same command makes a new one of its requests."
            )

    async def _wait(self, client: AsyncOpenAI, batch_id: str) -> Any:
        before = None
        while True:
            batch = await _called(client, client.batches.retrieve(batch_id))
            counts = batch.request_counts
            now = f"{batch.status}, {counts.completed}/{counts.total}" if counts else batch.status
            if batch.status in _ENDED:
                return batch
            if now != before:
                self._say(f"batch {batch_id}: {now}")
            before = now
            await asyncio.sleep(self._options.batch.poll)

    def _take(self, line: dict[str, Any]) -> bool:
        """Takes one line of a batch's result; whether it is an answer."""
        key, response = line["custom_id"], fields_of(line.get("response"))
        error = fields_of(line.get("error") or fields_of(response.get("body")).get("error"))
        if error.get("code") in _LEFT_OVER:
            return False
        try:
            if response.get("status_code") != 200:
                raise RequestError(
                    f"status {response.get('status_code')}: {error.get('message', 'no reason')}"
                )
            reply = reply_of(response.get("body"))
        except RequestError as error:
            self._fail(key, str(error))
            return False
        if key not in self._journal.replies:
            self._journal.reply(key, reply, in_batch=True)
            self._budget.settle(key, reply)
        return True

    def _fail(self, key: str, why: str) -> None:
        """Notes why a request has no answer, the first reason of several."""
        request = self._requests.get(key)
        if request is None:  # of an earlier run
            request = next(
                (r for r in due(self._questions, self._journal.replies) if r.key == key), None
            )
        if request is not None:
            self.outcome.failed.setdefault((request.row, request.prompt), why)


def _lines(text: str, batch_id: str) -> list[dict[str, Any]]:
    """The lines of a result.

    Raises:
        EndpointError: they are none.
    """
    try:
        lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        return [{**line, "custom_id": str(line["custom_id"])} for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise EndpointError(
            f"the result of the batch {batch_id} cannot be read ({type(error).__name__}: {error}). "
            "The same command fetches it again."
        ) from error


async def _called(client: AsyncOpenAI, call: Any) -> Any:
    """The result of a call that every batch needs.

    Raises:
        EndpointError: it failed for good.
    """
    try:
        return await call
    except Exception as error:
        raise _without_batches(error, client) from error


def _without_batches(error: Exception, client: AsyncOpenAI) -> Exception:
    meaning = explained(error, client)
    if isinstance(meaning, RequestError):
        return EndpointError(f"the Batch API cannot be used: {meaning}.")
    return meaning
