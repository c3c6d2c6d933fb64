"""Free answers: where they end, whatever model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lightning_modules.generation import Generator
from models.rows import RowText

END = 0


class Letters:
    """A tokenizer of one token a letter; token 0 ends."""

    eos_token_id = END

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        assert skip_special_tokens
        return "".join(chr(token) for token in ids if token != END)


@dataclass(frozen=True)
class Says(Generator):
    """Goes on with a text, whatever is asked."""

    text: str = ""

    def _is_draft(self, text: Any) -> bool:
        return True

    def _room(self, edit: Any, rows: Any) -> list[int]:
        return [10_000]

    def _next_tokens(self, edit: Any, rows: Any, unfinished: Any, answers: Any) -> list[int]:
        said = [*map(ord, self.text), END]
        return [said[len(answers[row])] for row in unfinished]


def matched(said: str, target: str, *aliases: str) -> tuple[float, str]:
    """Whether an answer matches, and what it was, from the model's first token on."""
    tokens = [ord(letter) for letter in target]
    best = [ord(s) if s else END for s in said.ljust(len(target), "\0")[: len(target)]]
    comparison = SimpleNamespace(
        at=SimpleNamespace(
            row=torch.zeros(len(tokens), dtype=torch.long), target=torch.tensor(tokens)
        ),
        post=SimpleNamespace(best=torch.tensor(best)),
    )
    encoder = SimpleNamespace(
        tokenizer=Letters(),
        end_id=Letters.eos_token_id,
        decode=lambda ids: Letters().decode(ids.tolist()).strip(),
        encode=lambda answer, **row: SimpleNamespace(answer=[False, *[True] * len(answer)]),
    )
    anything: Any = None
    model: Any = SimpleNamespace(hf=None)
    said_by = Says(model, cast(Any, encoder), 0, 16, anything, said)
    values, texts = said_by.matches(
        anything,
        cast(Any, _Rows((RowText("", target, aliases=aliases),))),
        torch.tensor([0]),
        cast(Any, comparison),
    )
    return values.item(), texts[0]


@dataclass(frozen=True)
class _Rows:
    texts: tuple[RowText, ...]

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("said", "target", "expected"),
    [
        ("red\nblue", "red\nblue", 1),
        ("red\nBlue.\nQuestion: who", "red\nblue", 1),
        ("red", "red\nblue", 0),
        ("red\ngreen", "red\nblue", 0),
        ("red\nblue", "red", 1),
        ("\nred", "red", 0),
    ],
)
def test_an_answer_has_as_many_lines_as_its_target(said: str, target: str, expected: int) -> None:
    match, text = matched(said, target)
    assert match == expected
    assert text.count("\n") <= target.count("\n")
    assert text == "\n".join(said.split("\n")[: 1 + target.count("\n")]).strip()


def test_another_name_of_the_target_is_accepted_however_long_it_is() -> None:
    target, alias = "Ida", "Ida Moor of the northern hills"
    assert len(alias) > 16  # tokens of these letters that an answer may have
    assert matched(alias, target, "Una", alias) == (1, alias)
    assert matched("Ida", target, alias) == (1, "Ida")
    assert matched(alias, target)[0] == 0
    assert matched("Ida Moor", target, alias)[0] == 0
