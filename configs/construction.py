"""Sections of `python -m construction`; configs/construction.yaml has their values."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from options import Options, Seed, TypedPath, TypedText

JOURNAL = "journal.jsonl"  # in the output folder: what was sent and answered


def _is_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address is needed, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "an address alone is needed, without user, password or anything after a ? or #: it is "
            "written into files, and the key comes from OPENAI_API_KEY"
        )
    return address.rstrip("/")


Address = Annotated[TypedText, AfterValidator(_is_address)]


class EndpointOptions(Options):
    """Section `endpoint`: who is asked, and how."""

    base_url: Address | None
    model: TypedText = Field(min_length=1)
    temperature: float | None = Field(ge=0, le=2)
    seed: Seed | None
    max_tokens: int = Field(ge=16)
    max_tokens_key: Literal["max_completion_tokens", "max_tokens"]
    answer_form: Literal["json_schema", "json_object", "text"]
    concurrency: int = Field(ge=1, le=256)
    timeout: float = Field(gt=0)
    retries: int = Field(ge=0, le=100)
    give_up_after: int = Field(ge=1)


class PriceOptions(Options):
    """Section `prices`: dollars for a million tokens of one model."""

    model: TypedText
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    batch: float = Field(ge=0, le=1)

    def are_of(self, model: str) -> bool:
        """Whether they are of a model, or of a dated version of it: gpt-4o-2024-08-06."""
        version = model.removeprefix(self.model)
        return model.startswith(self.model) and (not version or version[1:2].isdigit())


class BudgetOptions(Options):
    """Section `budget`: what may be spent in one output_dir, by all of its runs."""

    dollars: float | None = Field(gt=0)
    tokens: int | None = Field(ge=1)


class BatchOptions(Options):
    """Section `batch`: the Batch API."""

    use: bool
    size: int = Field(ge=1, le=50_000)
    poll: float = Field(gt=0)


class RecordsOptions(Options):
    """Section `records`: how records are made of rows and answers."""

    seed: Seed
    stand_ins: bool
    kin: list[TypedText]
    entity_pictures: TypedPath | None
    locality: TypedPath | None
    licence: TypedText | None
