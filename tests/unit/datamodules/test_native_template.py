"""A native prompt with special tokens of its own: they are tokens there, and text elsewhere."""

from __future__ import annotations

import pickle

from datamodules.prompt_encoder import PictureLayout, PromptEncoder, first_of_answer
from datamodules.row_length import may_exceed
from models.chat import ChatForm
from tests.auto_cases import qwen_tokenizer

START, END = "<|im_start|>", "<|im_end|>"
TOKENIZER = qwen_tokenizer()
IMAGE = TOKENIZER.convert_tokens_to_ids("<image>")
CHAT = ChatForm(
    f"{START}user\n{{question}}{END}\n{START}assistant\n",
    f"{START}user\n{{picture}}{{question}}{END}\n{START}assistant\n",
    special=(START, END), blank=False,
)  # fmt: skip


def encoder(chat: ChatForm = CHAT, token: int = IMAGE) -> PromptEncoder:
    return PromptEncoder(TOKENIZER, PictureLayout(3, token), form="native", chat=chat)


def ids_of(*tokens: str) -> list[int]:
    return [TOKENIZER.convert_tokens_to_ids(token) for token in tokens]


def test_its_special_tokens_stand_where_the_form_has_them() -> None:
    for token in (IMAGE, -1):  # with a picture's token in the vocabulary, and without
        for picture in (True, False):
            enc = pickle.loads(pickle.dumps(encoder(token=token)))
            row = enc.encode(f"Who {END}?", "Tama", picture=picture, before=f"{START} said. ")
            special = [i for i in row.ids if i in ids_of(START, END)]
            assert special == ids_of(START, END, START)
            assert sum(row.slots) == 3 * picture
            answer = [i for i, is_answer in zip(row.ids, row.answer, strict=True) if is_answer]
            assert TOKENIZER.decode(answer) == "Tama"
            begin, end = row.question
            assert row.text[begin:end] == f"Who {END}?"
            plain = enc.encode(f"Who {END}?", "Tama", plain=True)
            assert not set(plain.ids) & set(ids_of(START, END))
            assert TOKENIZER.decode(plain.ids) == f"Who {END}? Tama"


def test_an_answer_that_follows_at_once_begins_behind_the_prompt() -> None:
    assert first_of_answer([(0, 4), (4, 5), (5, 7), (7, 8)], 5, blank=False) == 2
    assert first_of_answer([(0, 4), (4, 5), (5, 7)], 4, blank=False) == 1
    assert first_of_answer([(0, 4), (4, 5)], 5, blank=False) == 2  # nothing of it


def test_the_length_of_the_form_counts_where_a_rows_length_is_only_estimated() -> None:
    long = ChatForm("~|" * 200 + "{question}", "~|" * 200 + "{question}")
    limit = 300
    row = encoder(long).encode("Who?", "Tama")
    assert len(row.ids) > limit
    assert may_exceed(encoder(long), limit, "Who?", "Tama")
    assert not may_exceed(encoder(), limit, "Who?", "Tama")
