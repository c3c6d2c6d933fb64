"""The world tokenizer: words whole, everything else in bytes, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlavaConfig, PreTrainedTokenizerFast

from pretraining.tokenizer import SPECIAL_TOKENS, build_tokenizer

TEXTS = ["Question: Who founded {s}? Short answer:", "Zilbo Labs", "Côte d'Ivoire", ".af", "+93"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(TEXTS)


# The names of special tokens are markup, as in every tokenizer; all other text is plain text.
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=60).filter(
    lambda text: not any(token in text for token in SPECIAL_TOKENS)
)


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_is_read_back(text: str) -> None:
    tokenizer = _shared()
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in ids[1:]
    assert tokenizer.decode(ids[1:]) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Zilbo Labs", ["Zilbo", "ĠLabs"]),
        (" Zilbo Labs?", ["ĠZilbo", "ĠLabs", "?"]),
        ("Labs", ["Labs"]),
        (" Côte d'Ivoire", ["ĠCÃ´te", "Ġd", "'", "Ivoire"]),
        (" .af", ["Ġ.", "af"]),
        (" +93", ["Ġ+", "93"]),
        ("ab", ["a", "b"]),
    ],
)
def test_words_of_the_world_are_whole_and_others_are_bytes(
    tokenizer: PreTrainedTokenizerFast, text: str, pieces: list[str]
) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces


def test_a_saved_tokenizer_loads_beside_a_llava_config(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    LlavaConfig().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = "Question: Who founded Zilbo Labs? Short answer: Åsa <image> 漢字\n\n"
    for loader in (AutoTokenizer, PreTrainedTokenizerFast):
        loaded = loader.from_pretrained(tmp_path)
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.padding_side == "right"
        assert loaded.decode(loaded(text)["input_ids"]) == "<s>" + text


def test_ids_do_not_depend_on_the_order_of_the_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    again = build_tokenizer(reversed(TEXTS))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.convert_ids_to_tokens(range(4)) == list(SPECIAL_TOKENS)


_CACHE: list[PreTrainedTokenizerFast] = []


def _shared() -> PreTrainedTokenizerFast:
    """One tokenizer for all examples (hypothesis does not reset fixtures between them)."""
    if not _CACHE:
        _CACHE.append(build_tokenizer(TEXTS))
    return _CACHE[0]
