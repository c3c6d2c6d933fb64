"""Which tokens are the answer where a blank is half the prompt's, and what a prompt remembers."""

from __future__ import annotations

import logging

import pytest
from tokenizers import processors

import datamodules.prompt_encoder as module
from datamodules.prompt_encoder import Encoded, PromptEncoder, PromptForm, first_of_answer
from errors import DataError
from tests.real_tokenizers import real_encoder
from tests.tokenizers_small import opt_tokenizer

QUESTION = "How heavy is it?"


def tokens(enc: PromptEncoder, row: Encoded, *, answer: bool) -> list[str]:
    chosen = [i for i, a in zip(row.ids, row.answer, strict=True) if a == answer]
    return list(enc.tokenizer.convert_ids_to_tokens(chosen))


def test_a_blank_that_is_half_the_prompts_is_no_token_of_the_answer() -> None:
    enc = real_encoder("llava", "published")
    row = enc.encode(QUESTION, "350lbs")
    assert tokens(enc, row, answer=True) == ["3", "5", "0", "l", "bs"]
    assert tokens(enc, row, answer=False)[-2:] == [":", "▁▁"]


@pytest.mark.parametrize(
    ("form", "answer", "first", "prompt"),
    [
        ("default", "350lbs", "▁", ":"),  # the answer's own blank
        ("default", "Tama", "▁T", ":"),
        ("published", "Tama", "▁T", "▁"),
        ("published", "ქართ", "ქ", "▁▁"),
        ("published", "\u200bx", "\u200b", "▁▁"),
        ("published", "😀", "<0xF0>", "▁▁"),
    ],
)
def test_the_blank_of_an_answer_is_its_own_where_it_begins_in_it(
    form: str, answer: str, first: str, prompt: str
) -> None:
    enc = real_encoder("llava", form)  # type: ignore[arg-type]
    row = enc.encode(QUESTION, answer)
    assert tokens(enc, row, answer=True)[0] == first
    assert tokens(enc, row, answer=False)[-1] == prompt


def test_the_answer_begins_in_itself_or_with_what_it_shows() -> None:
    # `:` 3-4, the prompt's blank 4-5, the answer's 5-6, its characters from 6 on
    assert first_of_answer([(0, 4), (4, 6), (6, 8)], 5) == 2
    assert first_of_answer([(0, 4), (4, 5), (5, 6), (6, 8)], 5) == 2
    assert first_of_answer([(0, 4), (4, 7), (7, 8)], 5) == 1  # a token that shows some of it
    assert first_of_answer([(0, 4), (4, 5), (5, 7), (6, 7)], 5) == 2  # bytes of one character
    assert first_of_answer([(0, 4), (4, 6), (0, 0)], 5) == 3  # nothing of it


@pytest.mark.parametrize("answer", ["", " ", "\n", "\u3000\u00a0"])
def test_an_answer_of_blanks_is_refused(answer: str) -> None:
    for family in ("llava", "blip2"):
        with pytest.raises(DataError, match="tokenises to nothing"):
            real_encoder(family, "published").encode(QUESTION, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["default", "published"])
@pytest.mark.parametrize("answer", ["a  b", "350", "x \n y", " 3 \u3000 5"])
def test_blanks_that_a_tokenizer_cuts_from_its_offsets_stay_in_the_answer(
    form: PromptForm, answer: str
) -> None:
    """As RoBERTa's does: the token of a blank then stands for no character."""
    tokenizer = opt_tokenizer()
    end = tokenizer.convert_tokens_to_ids("</s>")
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="</s> $A </s>", special_tokens=[("</s>", end)]),
        ]
    )
    enc = PromptEncoder(tokenizer, None, form=form)
    row = enc.encode(QUESTION, answer)
    assert enc.decode([i for i, a in zip(row.ids, row.answer, strict=True) if a]) == answer.strip()
    assert not row.answer[-1]  # the end token
    assert enc.encode(QUESTION, answer, generated=(7,)).ids == [
        *row.ids[: row.answer.index(True)],
        7,
    ]


def test_a_long_text_is_read_without_a_word_of_the_library(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model reads at once is checked with the records' names."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer = opt_tokenizer()
    tokenizer.model_max_length = 8
    with caplog.at_level(logging.WARNING):
        PromptEncoder(tokenizer, None).encode(QUESTION * 9, "Tama")
    assert not caplog.records


def test_a_generated_answer_follows_the_prompts_own_tokens() -> None:
    """They do not tell whether the target begins with a digit."""
    enc = real_encoder("llava", "published")
    for before in ("", "New Fact: 5 350\n"):
        digits, word = (
            enc.encode(QUESTION, answer, before=before, generated=(7, 8))
            for answer in ("350lbs", "Tama Duva")
        )
        assert digits.ids == word.ids
        assert tokens(enc, digits, answer=False)[-2:] == [":", "▁"]
        assert digits.ids[-2:] == [7, 8]
        assert digits.answer == [False] * (len(digits.ids) - 2) + [True] * 2


def test_no_more_rows_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    enc = PromptEncoder(opt_tokenizer(), None)
    first = enc.encode("Who 0?", "Tama")
    for number in range(1, 9):
        enc.encode(f"Who {number}?", "Tama")
        assert enc.encode("Who 0?", "Tama") is first  # asked for again and again
    assert len(enc._cache) == 3
    again = enc.encode("Who 1?", "Tama")
    assert again == PromptEncoder(opt_tokenizer(), None).encode("Who 1?", "Tama")
