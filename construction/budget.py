"""What was spent, what a request may cost at most, and whether that is still allowed.

    dollars = (input tokens * prices.input + output tokens * prices.output) / 10^6

and a batch costs `prices.batch` of it. A request is admitted only if everything that was spent,
everything under way at its most, and itself at its most stay within the budget: so the budget is
never passed. What counts afterwards is what the endpoint says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from configs.construction import BudgetOptions, PriceOptions
from construction.replies import Reply
from construction.requests import TOKEN_LIMITS, Request

# Bytes of UTF-8 for a token: of English with GPT-4o's tokenizer about 4.5, of most scripts more
# than 2. OpenAI's tokenizer has to be downloaded, so tokens are estimated where none are counted.
_BYTES, _FEWEST_BYTES = 4.0, 2.0
_OF_A_MESSAGE = 4  # tokens that stand around each
_MILLION = 1e6


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more requests."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return self + Usage(-other.calls, -other.input_tokens, -other.output_tokens)

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens


class Spent(NamedTuple):
    """Usage in single requests and in batches."""

    single: Usage = Usage()
    batched: Usage = Usage()

    @property
    def total(self) -> Usage:
        """Both."""
        return self.single + self.batched

    def dollars(self, prices: PriceOptions) -> float:
        """Their price."""
        return price(self.single, prices) + prices.batch * price(self.batched, prices)


def price(usage: Usage, prices: PriceOptions) -> float:
    """Dollars of single requests."""
    return (usage.input_tokens * prices.input + usage.output_tokens * prices.output) / _MILLION


def estimated(request: Request, answer_tokens: int) -> Usage:
    """About what a request takes, with an answer of so many tokens."""
    return Usage(1, math.ceil(_bytes(request) / _BYTES) + _around(request), answer_tokens)


def most(request: Request) -> Usage:
    """What a request takes at most."""
    limit = next(int(request.body[key]) for key in TOKEN_LIMITS if key in request.body)
    return Usage(1, math.ceil(_bytes(request) / _FEWEST_BYTES) + _around(request), limit)


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return math.ceil(len(text.encode()) / _BYTES)


def _bytes(request: Request) -> int:
    schema = str(request.body.get("response_format") or "")
    texts = [message["content"] for message in request.body["messages"]]
    return sum(len(text.encode()) for text in [*texts, schema])


def _around(request: Request) -> int:
    return _OF_A_MESSAGE * len(request.body["messages"])


def usage_of(reply: Reply) -> Usage:
    """What a reply took."""
    return Usage(1, reply.input_tokens or 0, reply.output_tokens or 0)


class Budget:
    """What may be spent, and what has been.

    Args:
        limits: of all that is spent in one output folder.
        prices: of the model.
        in_batches: whether requests go out in batches, at their price.
        single, batched: replies that were paid for before.

    Attributes:
        spent: so far.
    """

    def __init__(
        self, limits: BudgetOptions, prices: PriceOptions, *, in_batches: bool = False,
        single: Iterable[Reply] = (), batched: Iterable[Reply] = (),
    ) -> None:  # fmt: skip
        self._limits, self._prices, self._in_batches = limits, prices, in_batches
        self.spent = Spent(
            sum(map(usage_of, single), Usage()), sum(map(usage_of, batched), Usage())
        )
        self._reserved: dict[str, Usage] = {}
        self._reserved_in_all = Usage()  # thousands are, before a batch goes out

    def admit(self, request: Request) -> bool:
        """Reserves what a request takes at most, if that is allowed."""
        wanted = most(request)
        if not self._allows(self._reserved_in_all + wanted):
            return False
        self._reserved[request.key] = wanted
        self._reserved_in_all += wanted
        return True

    @property
    def has_reserved(self) -> bool:
        """Whether anything is under way that may take less than its most."""
        return bool(self._reserved)

    def settle(self, key: str, reply: Reply | None) -> None:
        """Takes a reservation back; what the reply took is spent."""
        self._reserved_in_all -= self._reserved.pop(key, Usage())
        if reply is None:
            return
        single, batched = self.spent
        if self._in_batches:
            self.spent = Spent(single, batched + usage_of(reply))
        else:
            self.spent = Spent(single + usage_of(reply), batched)

    def refusal(self, request: Request) -> str:
        """Why a request is not admitted, and what to do."""
        wanted, total = most(request), self.spent.total
        if not self._allows_dollars(wanted):
            spent, limit = self.spent.dollars(self._prices), self._limits.dollars
            share = self._prices.batch if self._in_batches else 1.0
            least = price(wanted, self._prices) * share
            return (
                f"budget.dollars={limit} is reached: {spent:.4f} are spent, and the next request "
                f"may take {least:.4f}. The same command with a larger budget goes on"
            )
        return (
            f"budget.tokens={self._limits.tokens} is reached: {total.tokens} are spent, and the "
            f"next request may take {wanted.tokens}. The same command with a larger budget goes on"
        )

    def _allows(self, wanted: Usage) -> bool:
        limit = self._limits.tokens
        has_tokens = limit is None or self.spent.total.tokens + wanted.tokens <= limit
        return has_tokens and self._allows_dollars(wanted)

    def _allows_dollars(self, wanted: Usage) -> bool:
        if self._limits.dollars is None:
            return True
        share = self._prices.batch if self._in_batches else 1.0
        spent = self.spent.dollars(self._prices)
        return spent + share * price(wanted, self._prices) <= self._limits.dollars
