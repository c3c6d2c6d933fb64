"""What a run would ask and cost, without sending anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from configs.schema import ConstructionConfig
from construction.budget import Usage, estimated, most, price, tokens_of
from construction.journal import Journal
from construction.prompts import PROMPTS
from construction.requests import Question, Request, due
from results.screen import screen

_KEY = (
    "Tokens are estimated: 4 bytes of UTF-8 for one, and answers as long as the worked example's. "
    "'at most' is every answer at endpoint.max_tokens and every question repaired once."
)
_NARROWEST = 100


class Forecast(NamedTuple):
    """Requests of one prompt that a run would send.

    Attributes:
        title: of the prompt.
        about: what they take, by estimate.
        at_most: what they take if every answer is as long as it may be, and has to be repaired.
    """

    title: str
    about: Usage
    at_most: Usage


def forecast(questions: Sequence[Question], journal: Journal) -> list[Forecast]:
    """What a run would send, by prompt; what the journal answers is not sent again."""
    requests = list(due(questions, journal.replies))
    return [
        Forecast(
            prompt.title,
            sum((estimated(r, tokens_of(answer)) for r in of_prompt), Usage()),
            sum((_with_repair(r) for r in of_prompt), Usage()),
        )
        for prompt in PROMPTS
        for answer in (prompt.example.model_dump_json(),)
        for of_prompt in ([r for r in requests if r.prompt == prompt.name],)
    ]


def _with_repair(request: Request) -> Usage:
    """The most of a request and of its repair, which repeats it with the answer and the reasons."""
    first = most(request)
    if request.is_repair:
        return first
    repeated = first.input_tokens + 3 * first.output_tokens
    return first + Usage(1, repeated, first.output_tokens)


def show_forecast(forecasts: Sequence[Forecast], config: ConstructionConfig) -> None:
    """Prints a line for each prompt, and their sum."""
    prices, is_priced = config.prices, config.prices.are_of(config.endpoint.model)
    share = prices.batch if config.batch.use else 1.0
    table = Table(
        title=f"{config.endpoint.model} at {config.endpoint.base_url}: nothing was sent",
        caption=_KEY, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("question")
    for heading in ("requests", "tokens in", "tokens out", "dollars", "at most"):
        table.add_column(heading, justify="right")
    total = Forecast(
        "all",
        sum((one.about for one in forecasts), Usage()),
        sum((one.at_most for one in forecasts), Usage()),
    )
    for one in (*forecasts, total):
        if one is total:
            table.add_section()
        dollars = [f"{share * price(usage, prices):.4f}" for usage in (one.about, one.at_most)]
        table.add_row(
            one.title, str(one.about.calls), str(one.about.input_tokens),
            str(one.about.output_tokens), *(dollars if is_priced else ("unknown", "unknown")),
        )  # fmt: skip
    console = screen(highlight=False, narrowest=_NARROWEST)
    console.print(table)
    if not is_priced:
        console.print(
            f"prices.* are those of {prices.model}: type prices.model={config.endpoint.model} with "
            "its prices.input and prices.output for dollars.",
            soft_wrap=True,
        )
