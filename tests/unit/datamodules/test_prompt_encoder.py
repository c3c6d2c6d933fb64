"""One function makes tokens, answer mask and picture slots for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.prompt_encoder import PictureLayout, PromptEncoder, locate_phrase
from errors import DataError, ModelError
from models.chat import ChatForm
from tests.tokenizers_small import llama_tokenizer, opt_tokenizer

QUESTION, ANSWER = "Who founded Gofin Works?", "Tama Duva"
TOKENIZERS = {"opt": opt_tokenizer(), "llama": llama_tokenizer()}
BEFORE_BOS = {"opt": True, "llama": False}  # BLIP-2 puts the picture first, LLaVA after BOS


def encoder(kind: str, **options: str) -> PromptEncoder:
    tokenizer = TOKENIZERS[kind]
    layout = PictureLayout(4, tokenizer.convert_tokens_to_ids("<image>"), BEFORE_BOS[kind])
    return PromptEncoder(tokenizer, layout, **options)  # type: ignore[arg-type]


@pytest.fixture(params=sorted(TOKENIZERS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def answer_text(enc: PromptEncoder, ids: list[int], mask: list[bool]) -> str:
    return enc.decode([token for token, is_answer in zip(ids, mask, strict=True) if is_answer])


def test_the_answer_mask_covers_exactly_the_answer(kind: str) -> None:
    enc = encoder(kind)
    row = enc.encode(QUESTION, ANSWER)
    assert answer_text(enc, row.ids, row.answer) == ANSWER
    rest = [not is_answer for is_answer in row.answer]
    assert answer_text(enc, row.ids, rest) == f"Question: {QUESTION} Short answer:"
    assert row.answer[-1]
    assert row.ids[0] == enc.tokenizer.bos_token_id
    assert row.ids == enc.tokenizer(f"Question: {QUESTION} Short answer: {ANSWER}")["input_ids"]


def test_a_picture_adds_slots_and_changes_no_text_token(kind: str) -> None:
    enc = encoder(kind)
    text, picture = enc.encode(QUESTION, ANSWER), enc.encode(QUESTION, ANSWER, picture=True)
    without = [token for token, slot in zip(picture.ids, picture.slots, strict=True) if not slot]
    assert without == text.ids
    assert sum(picture.slots) == 4
    assert not any(a and s for a, s in zip(picture.answer, picture.slots, strict=True))
    assert picture.slots.index(True) == (0 if BEFORE_BOS[kind] else 1)


def test_published_form_has_two_spaces_and_plain_form_no_template(kind: str) -> None:
    published, enc = encoder(kind, form="published"), encoder(kind)
    row = published.encode(QUESTION, ANSWER)
    assert row.ids == enc.tokenizer(f"Question: {QUESTION} Short answer:  {ANSWER}")["input_ids"]
    assert answer_text(enc, row.ids, row.answer) == ANSWER
    plain = enc.encode(QUESTION, ANSWER, plain=True)
    assert plain.ids == enc.tokenizer(f"{QUESTION} {ANSWER}")["input_ids"]
    assert answer_text(enc, plain.ids, plain.answer) == ANSWER


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_moves_rows_without_changing_them(kind: str, side: str) -> None:
    enc = encoder(kind, padding_side=side)
    rows = [
        enc.encode(QUESTION, ANSWER, picture=True),
        enc.encode("Where?", "Lisburg"),
        enc.encode(QUESTION, "the car"),
    ]
    padded = enc.pad(rows)
    for index, row in enumerate(rows):
        real = padded.attention_mask[index]
        assert padded.input_ids[index][real].tolist() == row.ids
        assert padded.answer_mask[index][real].tolist() == row.answer
        assert padded.image_slots[index][real].tolist() == row.slots
        assert not padded.answer_mask[index][~real].any()
    shortest = padded.attention_mask[1]
    assert bool(shortest[0]) == (side == "right")


def test_batch_composition_does_not_change_a_row(kind: str) -> None:
    enc = encoder(kind)
    row, longer = enc.encode("Where?", "Lisburg"), enc.encode(QUESTION, ANSWER, picture=True)
    alone, together = enc.pad([row]), enc.pad([longer, row])
    real = together.attention_mask[1]
    assert together.input_ids[1][real].tolist() == alone.input_ids[0].tolist()


def test_an_answer_that_tokenises_to_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="tokenises to nothing"):
        encoder("opt").encode(QUESTION, "  ")


def test_a_text_only_model_refuses_a_picture() -> None:
    enc = PromptEncoder(TOKENIZERS["opt"], None)
    with pytest.raises(ModelError, match="text-only"):
        enc.encode(QUESTION, ANSWER, picture=True)


@settings(max_examples=60, deadline=None)
@given(
    question=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1),
    answer=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
)
def test_any_text_keeps_its_answer(question: str, answer: str) -> None:
    enc = encoder("opt")
    row = enc.encode(question, answer)
    assert answer_text(enc, row.ids, row.answer) == answer.strip()


LLAVA_CHAT = ChatForm("USER: {question} ASSISTANT:", "USER: {picture}\n{question} ASSISTANT:")
MINIGPT4_CHAT = ChatForm(
    "###Human: {question} ###Assistant:",
    "###Human: <Img>{picture}</Img> {question} ###Assistant:",
)


def native(kind: str, chat: ChatForm, token: int) -> PromptEncoder:
    layout = PictureLayout(4, token)
    return PromptEncoder(TOKENIZERS[kind], layout, form="native", chat=chat)


def test_a_native_picture_stands_where_the_image_token_does(kind: str) -> None:
    """As in transformers' own processor: tokenised with the image token, which is then expanded."""
    tokenizer = TOKENIZERS[kind]
    image = tokenizer.convert_tokens_to_ids("<image>")
    enc = native(kind, LLAVA_CHAT, image)
    row = enc.encode(QUESTION, ANSWER, picture=True)
    written = tokenizer(f"USER: <image>\n{QUESTION} ASSISTANT: {ANSWER}")["input_ids"]
    at = written.index(image)
    assert row.ids == [*written[:at], *[image] * 4, *written[at + 1 :]]
    assert answer_text(enc, row.ids, row.answer) == ANSWER
    text = enc.encode(QUESTION, ANSWER)
    assert text.ids == tokenizer(f"USER: {QUESTION} ASSISTANT: {ANSWER}")["input_ids"]


def test_without_an_image_token_both_sides_of_a_native_picture_are_tokenised_apart(
    kind: str,
) -> None:
    tokenizer = TOKENIZERS[kind]
    enc = native(kind, MINIGPT4_CHAT, -1)
    row = enc.encode(QUESTION, ANSWER, picture=True)
    head = tokenizer("###Human: <Img>")["input_ids"]
    tail = tokenizer(f"</Img> {QUESTION} ###Assistant: {ANSWER}", add_special_tokens=False)
    assert row.ids == [*head, *[-1] * 4, *tail["input_ids"]]
    assert answer_text(enc, row.ids, row.answer) == ANSWER
    first, last = locate_phrase(row, "Gofin Works")
    assert "Gofin" in enc.decode(row.ids[first : last + 1])


def test_a_native_form_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="native"):
        PromptEncoder(TOKENIZERS["opt"], None, form="native")


def test_braces_in_a_question_stay() -> None:
    enc = encoder("opt")
    row = enc.encode("What is {answer} in {0}?", "Tama")
    assert "What is {answer} in {0}?" in enc.decode(row.ids)
