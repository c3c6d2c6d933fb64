"""The command line of `python -m construction`, checked as those of the other commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from configs import schema
from configs.check import numbered, type_sections
from configs.composing import CONFIG_DIR, compose_plain, hydra_ready
from configs.construction import JOURNAL
from configs.overrides import check_words
from configs.rules import Sections
from configs.words import quote_words
from errors import ConfigError
from results.files import why_unwritable

KEY, ADDRESS = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
_COMMAND = "construction"
_PRICED = ("endpoint", "prices", "budget")


def load_construction_config(words: Sequence[str]) -> schema.ConstructionConfig:
    """The configuration that some words make; a dry run needs no folder and no key.

    `endpoint.base_url` and `pictures` are filled in.

    Raises:
        ConfigError: all mistakes in one message.
    """
    words = quote_words(words)
    with hydra_ready():
        line = check_words(_COMMAND, words)
        problems = list(line.problems)
        refused = line.unread | {key for key in _typed(words) if key not in line.keys}
        plain = _filled_in(compose_plain(_COMMAND, [str(o.input_line) for o in line.overrides]))
        sections, mistakes = type_sections(_COMMAND, plain, refused)
    problems += mistakes + _rule_problems(sections)
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigError(
            f"the construction did not start, its command line has {count}:{numbered(problems)}\n"
            "Nothing was sent or written. `python -m construction --help` explains all keys."
        )
    return schema.ConstructionConfig(**sections)


def construction_help() -> str:
    """The YAML file: examples, and every key with its value and meaning."""
    text = (CONFIG_DIR / f"{_COMMAND}.yaml").read_text(encoding="utf-8")
    head, _, keys = text.partition("defaults:\n  - _self_\n")
    plain = [line.removeprefix("#").removeprefix(" ") for line in head.splitlines()]
    return "\n".join(
        [*plain, "", "Keys, as KEY=VALUE, with what they are where none is typed:", keys]
    )


def _typed(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words]


def _filled_in(plain: dict[str, Any]) -> dict[str, Any]:
    """With what follows from the surroundings: an address, a folder of pictures."""
    endpoint, rows = plain.get("endpoint"), plain.get("rows")
    if isinstance(endpoint, dict) and endpoint.get("base_url") is None:
        endpoint["base_url"] = os.environ.get(ADDRESS) or OPENAI
    if plain.get("pictures") is None and isinstance(rows, str) and rows != "???":
        plain["pictures"] = str(Path(rows).parent / "images")
    if plain.get("dry_run") is True and plain.get("output_dir") == "???":
        plain["output_dir"] = "."
    return plain


def _rule_problems(sections: Sections) -> list[str]:
    """What keeps keys from running that are sound one by one; a key that is not is absent."""
    problems = []
    rows, output = sections.get("rows"), sections.get("output_dir")
    if rows is not None and not Path(rows).is_file():
        problems.append(f"rows={rows}: there is no such file")
    if (decisions := sections.get("decisions")) is not None and not Path(decisions).is_file():
        problems.append(
            f"decisions={decisions}: there is no such file; the review page saves it with "
            '"Save decisions"'
        )
    endpoint, prices, budget = (cast("Any", sections.get(name)) for name in _PRICED)
    are_sound = endpoint is not None and prices is not None and budget is not None
    if are_sound and budget.dollars is not None and not prices.are_of(endpoint.model):
        problems.append(
            f"budget.dollars={budget.dollars}: prices.* are those of {prices.model}, and "
            f"endpoint.model={endpoint.model} is asked: type prices.model={endpoint.model} and its "
            "prices.input and prices.output, or set budget.tokens"
        )
    if sections.get("dry_run"):
        return problems
    if output is not None and (reason := why_unwritable(Path(output))):
        problems.append(f"output_dir={output} cannot be written ({reason})")
    is_begun = output is not None and (Path(output) / JOURNAL).is_file()
    problems += [] if is_begun else key_problem()  # a journal may have all answers
    return problems


def key_problem() -> list[str]:
    """A sentence where no key is set."""
    if os.environ.get(KEY, "").strip():
        return []
    return [
        f"{KEY} is not set, and the key is read from there alone: type `export {KEY}=...` first, "
        "or dry_run=true, which needs none. A server that asks for no key takes any text"
    ]


def require_key() -> None:
    """Makes sure that a key is set.

    Raises:
        ConfigError: none is.
    """
    for problem in key_problem():
        raise ConfigError(f"{problem}.")
