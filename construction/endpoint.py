"""An endpoint that speaks OpenAI's protocol, asked with OpenAI's own client.

The client retries, with backoff and by Retry-After. What is left is told apart here: a request
that failed for good (`RequestError`; others may succeed) and an endpoint that cannot be used at
all (`EndpointError`, with what to do). The key is read from the environment and goes nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from configs.construction import EndpointOptions
from configs.construction_words import KEY
from construction.budget import estimated, tokens_of
from construction.replies import Reply
from construction.requests import Request
from errors import ConfigError, TmkeError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_SHOWN = 200  # characters of what an endpoint says
_PASSING = {408, 409, 429}  # statuses that the client tries again, besides those from 500 on
_UNWANTED = {"content_filter", "content_policy_violation", "invalid_prompt"}
_OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}


class EndpointError(TmkeError):
    """The endpoint cannot be used: every other request would end in the same way."""


class RequestError(Exception):
    """One request failed for good, after all retries.

    Attributes:
        is_of_content: whether the endpoint does not want what it says, and would take others.
    """

    def __init__(self, why: str, *, is_of_content: bool = False) -> None:
        super().__init__(why)
        self.is_of_content = is_of_content


def require_client() -> None:
    """Makes sure that OpenAI's client is there.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("openai") is None:
        raise ConfigError("the package openai is missing: pip install -e '.[construction]'")


@asynccontextmanager
async def connected(options: EndpointOptions) -> AsyncIterator[AsyncOpenAI]:
    """A client of the endpoint."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(
        api_key=os.environ.get(KEY, "").strip(), base_url=options.base_url,
        timeout=options.timeout, max_retries=options.retries,
    ) as client:  # fmt: skip
        yield client


async def complete(client: AsyncOpenAI, request: Request) -> Reply:
    """Sends one request.

    Raises:
        RequestError: it failed for good.
        EndpointError: so would every other.
    """
    try:
        completion: Any = await client.chat.completions.create(**request.body)
    except Exception as error:
        raise explained(error, client) from error
    if isinstance(completion, str):
        raise web_page(completion, client)
    reply = reply_of(
        completion.model_dump(warnings=False) if hasattr(completion, "model_dump") else completion
    )
    if reply.input_tokens is None or reply.output_tokens is None:  # a server that counts nothing
        about = estimated(request, tokens_of(reply.content or reply.refusal or ""))
        reply = reply._replace(input_tokens=about.input_tokens, output_tokens=about.output_tokens)
    return reply


def reply_of(completion: Any) -> Reply:
    """What is kept of a chat completion, whatever a server makes of one.

    Raises:
        RequestError: it holds no choice.
    """
    whole = fields_of(completion)
    choices, usage = whole.get("choices"), fields_of(whole.get("usage"))
    if not isinstance(choices, list) or not choices:
        raise RequestError(f"the endpoint answered without a choice: {_short(str(completion))}")
    choice = fields_of(choices[0])
    message = fields_of(choice.get("message"))
    return Reply(
        content=_text(message.get("content")),
        refusal=_text(message.get("refusal")),
        finish_reason=str(choice.get("finish_reason")),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        model=_text(whole.get("model")) or "unknown",
    )


def fields_of(value: Any) -> Mapping[str, Any]:
    """An object; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    """A text that can be written: parts are joined, what is no text stands as JSON.

    Half a character (a lone surrogate) becomes a question mark.
    """
    if value is None:
        return None
    if isinstance(value, list):
        parts = [fields_of(part).get("text") for part in value]
        value = "".join(map(str, parts)) if all(isinstance(p, str) for p in parts) else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    return text.encode("utf-8", "replace").decode()


def _count(value: Any) -> int | None:
    """A number of tokens; None where it is no such number."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and value >= 0 else None


def explained(error: Exception, client: AsyncOpenAI) -> Exception:
    """What an error of the client means; one that it does not know is given back."""
    import openai

    at = f"endpoint.base_url={client.base_url}"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return EndpointError(
            f"{at} does not accept the key in {KEY} ({_said(error)}). Set the key of that endpoint."
        )
    if isinstance(error, openai.NotFoundError):
        return EndpointError(
            f"{at} has no such model or address ({_said(error)}). Check endpoint.model and "
            "endpoint.base_url, which mostly ends in /v1."
        )
    if isinstance(error, openai.APIStatusError):
        if error.code in _OUT_OF_MONEY:
            return EndpointError(f"{at} says that the account is out of money ({_said(error)}).")
        wait = error.response.headers.get("retry-after")
        asks = f"; it asks to wait: Retry-After: {wait}" if wait else ""
        why = f"status {error.status_code}: {_said(error)}{asks}"
        return RequestError(why, is_of_content=error.code in _UNWANTED)
    if isinstance(error, openai.APITimeoutError):
        return RequestError(
            f"no answer within endpoint.timeout={client.timeout} seconds, in "
            f"{client.max_retries + 1} tries"
        )
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return RequestError(
            f"{at} cannot be reached ({type(cause).__name__}: {_short(str(cause))}), in "
            f"{client.max_retries + 1} tries"
        )
    if isinstance(error, openai.OpenAIError | ValueError):
        return RequestError(f"the answer cannot be read ({_short(str(error))})")
    return error


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later, or has succeeded although its reply was lost."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in _PASSING or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def web_page(text: str, client: AsyncOpenAI) -> EndpointError:
    """The error where a text came in place of JSON."""
    kind = "a web page" if _is_page(text) else "no JSON"
    return EndpointError(
        f"endpoint.base_url={client.base_url} answers {kind} ({_short(text)!r}): it is no address "
        "of an API, which mostly ends in /v1, or a proxy or a sign-in page stands before it."
    )


def _said(error: Any) -> str:
    """What the endpoint says about an error, without a web page's markup."""
    body = error.body if isinstance(error.body, dict) else {}
    text = str(body.get("message") or error.body or error.message)
    return "it answers a web page" if _is_page(text) else _short(text)


def _is_page(text: str) -> bool:
    return "<html" in text.lower() or "<!doctype" in text.lower()


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
