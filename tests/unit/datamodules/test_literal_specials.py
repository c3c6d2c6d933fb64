"""What reads like a special token in a question or an answer is text, in every family."""

from __future__ import annotations

import pickle

import pytest

from datamodules.prompt_encoder import PictureLayout, PromptEncoder, PromptForm
from models.chat import PICTURE
from models.families import FAMILIES
from tests.auto_cases import SPECIALS, qwen_tokenizer
from tests.real_tokenizers import (
    FORMS,
    VOCABULARY_OF,
    Family,
    image_token,
    real_encoder,
)
from tests.tokenizers_small import llama_tokenizer, opt_tokenizer

LITERAL = "What does <image> in </s><s> mean, <pad>?"
PLAIN = "Who founded Gofin Works?"
NAMES = ("vision_start", "vision_end", "image_pad")
SMALL = {"llava": llama_tokenizer(), "blip2": opt_tokenizer(), "minigpt4": llama_tokenizer()}
families = pytest.mark.parametrize("family", VOCABULARY_OF)
forms = pytest.mark.parametrize("form", FORMS)


def slow_reading(
    enc: PromptEncoder, family: Family, question: str, answer: str, *, split: bool
) -> list[int]:
    """A row with a picture as the family's processor has it, each side of the picture by itself."""
    template = enc.templates[1]
    if enc.form != "native" or family == "blip2":
        template = PICTURE + template.removeprefix(PICTURE)
    head, tail = (part.replace("{question}", question) for part in template.split(PICTURE))

    def read(text: str, special: bool) -> list[int]:
        output = enc.tokenizer(text, add_special_tokens=special, split_special_tokens=split)
        return list(output["input_ids"])

    slots = [image_token(family)] * 4
    if head:
        return [*read(head, True), *slots, *read(f"{tail} {answer}", False)]
    bos, *rest = read(f"{tail} {answer}", True)
    return [*slots, bos, *rest] if FAMILIES[family].before_bos else [bos, *slots, *rest]


@families
@forms
def test_a_row_has_the_tokens_of_a_slow_reading(family: Family, form: PromptForm) -> None:
    enc = real_encoder(family, form)
    answer = "the <s> tag"
    row = enc.encode(LITERAL, answer, picture=True)
    assert row.ids == slow_reading(enc, family, LITERAL, answer, split=True)
    plain = enc.encode(PLAIN, "Tama Duva", picture=True)
    assert plain.ids == slow_reading(enc, family, PLAIN, "Tama Duva", split=False)
    for text, said in ((LITERAL, answer), (PLAIN, "Tama Duva")):
        alone = enc.encode(text, said)
        whole = enc.templates[0].replace("{question}", text)
        ids = enc.tokenizer(f"{whole} {said}", split_special_tokens=True)["input_ids"]
        assert alone.ids == ids


@families
@forms
def test_no_special_token_but_those_of_the_row_stands_in_it(
    family: Family, form: PromptForm
) -> None:
    tokenizer = SMALL[family]
    specials = set(tokenizer.all_special_ids) | {tokenizer.convert_tokens_to_ids("<image>")}
    image = tokenizer.convert_tokens_to_ids("<image>") if family == "llava" else -1
    chat, before_bos = FAMILIES[family].chat, FAMILIES[family].before_bos
    layout = PictureLayout(4, image, before_bos)
    enc = PromptEncoder(tokenizer, layout, form=form, chat=chat)
    for before in ("", "New Fact: <s> </s>\n\n"):
        for picture in (False, True):
            row = enc.encode(LITERAL, "</s>", picture=picture, before=before)
            of_text = [i for i, s in zip(row.ids, row.slots, strict=True) if not s]
            assert [i for i in of_text if i in specials] == [tokenizer.bos_token_id]
            assert sum(row.slots) == 4 * picture
            if family == "blip2":  # a byte-level vocabulary gives all characters back
                answer = [i for i, a in zip(row.ids, row.answer, strict=True) if a]
                assert LITERAL in tokenizer.decode(of_text)
                assert enc.decode(answer) == "</s>"


def test_a_family_with_many_special_tokens_reads_them_as_text_too() -> None:
    """Else Qwen2-VL would count pictures that no row shows."""
    tokenizer = qwen_tokenizer()
    ids = tokenizer.convert_tokens_to_ids([*SPECIALS])
    start, end, pad = (ids[SPECIALS.index(f"<|{name}|>")] for name in NAMES)
    enc = PromptEncoder(tokenizer, PictureLayout(2, pad, ids=(start, pad, pad, end)))
    question = " and ".join(SPECIALS)
    for before in ("", "<|im_start|>user "):
        row = enc.encode(question, "<|im_end|>", picture=True, before=before)
        assert [i for i in row.ids if i in ids] == [start, pad, pad, end]
        assert row.slots == [i == pad for i in row.ids]
        assert question in tokenizer.decode([i for i in row.ids if i not in ids])


def test_a_picture_inside_text_keeps_its_place_after_pickling() -> None:
    """Worker processes get a copy."""
    enc = real_encoder("llava", "native")
    row = enc.encode(LITERAL, "350", picture=True)
    again = pickle.loads(pickle.dumps(enc))
    assert not again._cache
    assert again.encode(LITERAL, "350", picture=True) == row
    assert again.encode(LITERAL, "350", picture=True, before="<image> ") == enc.encode(
        LITERAL, "350", picture=True, before="<image> "
    )
