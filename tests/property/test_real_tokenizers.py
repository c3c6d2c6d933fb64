"""What must hold of any record on Llama's and OPT's own vocabularies, in every prompt form."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.mentions import mentions
from datamodules.prompt_encoder import Encoded, PromptEncoder, PromptForm, locate_phrase
from datamodules.prompts import Prompt
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from errors import DataError
from models.multimodal import MultimodalModel
from models.rows import RowText
from tests.builders import picture
from tests.ike_cases import record as plain_record
from tests.real_tokenizers import FORMS, VOCABULARY_OF, Family, real_encoder, real_model

families = pytest.mark.parametrize("family", VOCABULARY_OF)
# Pieces at which tokenizers have been seen to go wrong; U+2581 is Llama's own sign for a blank.
PIECES = (
    "Tama", "350lbs", "7", "1,024", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u200b",
    "\u200d", "<s>", "</s>", "<image>", "<pad>", "<unk>", "<0x41>", "<|im_end|>", "[SEP]",
    "{question}", "{picture}", "e\u0301", "\u0301", "\u00e9", "\ufdfa", "😀", "👩\u200d🔬", "🇫🇷",
    "שלום", "مرحبا", "東京", "ქართ", "𓀀", "'s", "-", "\x00", "\x1c", "\ufeff", "Question:",
    "Short answer:", "USER:", "ASSISTANT:", "###", "</Img>",
)  # fmt: skip
letters = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"), max_size=6)
texts = (
    st.lists(st.one_of(st.sampled_from(PIECES), letters), min_size=1, max_size=5)
    .map("".join)
    .filter(lambda text: any(unicodedata.category(char)[0] in "LMNPS" for char in text))
)


@cache
def encoder(family: Family, form: PromptForm, side: Literal["right", "left"]) -> PromptEncoder:
    return real_encoder(family, form, padding_side=side)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record of which every text is drawn; questions name the subject between blanks."""
    subject = draw(texts)

    def answers() -> dict[str, str]:
        return {"answer_new": draw(texts), "answer_true": draw(texts)}

    question = f"{draw(texts)} {subject} {draw(texts)}"
    fields = plain_record(0).model_dump() | {
        "subject": subject,
        "knowledge_edit": answers() | {"question": question, "image_question": draw(texts)},
        "rephrase_question": answers()
        | {"rephrase_question": draw(texts), "rephrase_image_question": draw(texts)},
        "one_hop_question": answers()
        | {"one_hop_question": draw(texts), "one_hop_image_question": draw(texts)},
        "locality_question": {"question": draw(texts), "answer": draw(texts)},
    }
    fields["same_type_entity_question"] |= {"question": draw(texts), "answer": draw(texts)}
    return Record.model_validate(fields)


def prompts(record: Record) -> list[Prompt]:
    """Everything that any scenario teaches or asks."""
    makers = [make for s in SCENARIOS.values() for make in s.probes.values()]
    edits = [prompt for s in SCENARIOS.values() for prompt in s.edit(record)]
    asked = [prompt for make in makers if (prompt := make(record)) is not None]
    return list(dict.fromkeys([*edits, *asked]))


def chosen(row: Encoded, which: list[bool]) -> list[int]:
    return [token for token, is_it in zip(row.ids, which, strict=True) if is_it]


def check_answer(row: Encoded, answer: str) -> None:
    """The answer's tokens are those that begin in it, its blank included, or show some of it."""
    begin = len(row.text) - len(answer)
    assert row.text[begin - 1 :] == f" {answer}"
    first = row.answer.index(True)
    assert all(row.answer[first:])
    for is_answer, (a, b) in zip(row.answer, row.offsets, strict=True):
        assert is_answer == (b > begin or (a >= begin - 1 and b > a))
    shown = {c for a, b in row.offsets for c in range(a, b)}
    of_answer = {
        c for (a, b), yes in zip(row.offsets, row.answer, strict=True) if yes for c in range(a, b)
    }
    assert of_answer >= set(range(begin, len(row.text)))
    assert shown >= set(range(len(row.text)))


def text_only(row: Encoded) -> list[int]:
    return chosen(row, [not slot for slot in row.slots])


@families
@settings(max_examples=12)
@given(record=records(), before=texts)
def test_the_answer_mask_covers_exactly_the_answer(
    family: Family, record: Record, before: str
) -> None:
    for form in FORMS:
        enc = encoder(family, form, "right")
        for question, answer, image, plain, *_ in prompts(record):
            row = enc.encode(question, answer, plain=plain)
            check_answer(row, answer.strip())
            own = chosen(row, row.answer)
            assert enc.decode(own) == answer.strip()
            assert row.text[slice(*row.question)] == question
            assert row.ids.count(enc.tokenizer.bos_token_id) == 1
            if image is not None:
                seen = enc.encode(question, answer, picture=True, plain=plain)
                check_answer(seen, answer.strip())
                assert chosen(seen, seen.answer) == own
                assert sum(seen.slots) == 4
                if form != "native" or family == "blip2":
                    assert text_only(seen) == row.ids
            pictured = image is not None
            after = enc.encode(
                question, answer, before=f"{before}\n", picture=pictured, plain=plain
            )
            assert chosen(after, after.answer) == own
            alone = enc.encode(question, answer, plain=True, before=f"{before}\n")  # as IKE asks
            assert alone.ids[-len(own) :] == own
            free = [enc.encode(question, a, plain=plain, generated=(5,)) for a in (answer, "7")]
            assert free[0] == free[1]


@families
@settings(max_examples=12)
@given(record=records(), before=texts)
def test_a_subject_is_found_in_the_question_alone(
    family: Family, record: Record, before: str
) -> None:
    question, answer = record.knowledge_edit.question, record.knowledge_edit.answer_new
    for form in FORMS:
        row = encoder(family, form, "right").encode(question, answer, before=f"{before}. ")
        found = mentions(question, record.subject, inside_words=True)
        if not found:
            with pytest.raises(DataError):
                locate_phrase(row, record.subject)
            continue
        start, stop = (row.question[0] + at for at in found[0])
        first, last = locate_phrase(row, record.subject)
        assert first <= last < row.answer.index(True)
        covered = {c for a, b in row.offsets[first : last + 1] for c in range(a, b)}
        assert covered >= set(range(start, stop))
        assert all(b > start and a < stop for a, b in row.offsets[first : last + 1])


@cache
def model_of(family: Family) -> MultimodalModel:
    return real_model(family)


@torch.no_grad()
def answered(
    family: Family, form: PromptForm, asked: list[RowText], side: Literal["right", "left"]
) -> list[Tensor]:
    """The logits of each row's answer tokens: R times (N, V)."""
    enc, model = encoder(family, form, side), model_of(family)
    shown = [number if text.picture else -1 for number, text in enumerate(asked)]
    pictures = [number for number in shown if number >= 0]
    rows = enc.rows(
        [enc.encode(**text.tokens) for text in asked],
        asked,
        edit_index=[0] * len(asked),
        image_index=[-1 if n < 0 else pictures.index(n) for n in shown],
        pixel_values=torch.stack([picture(0) for _ in pictures]) if pictures else None,
    )
    at = rows.answers()
    logits = model(model.encode_pictures(rows), at=at)
    return [logits[at.row == row] for row in range(len(asked))]


@families
@settings(max_examples=6)
@given(
    asked=st.lists(st.tuples(texts, texts, st.booleans()), min_size=2, max_size=4),
    form=st.sampled_from(FORMS),
)
def test_token_accuracy_depends_on_no_row_beside_a_row(
    family: Family, asked: list[tuple[str, str, bool]], form: PromptForm
) -> None:
    rows = [RowText(*row) for row in asked]
    beside = [*rows, RowText("Who founded it?", "Tama Duva 350", picture=True)]
    for side in ("right", "left"):
        together = answered(family, form, beside, side)
        for row, found in zip(rows, together, strict=False):
            (alone,) = answered(family, form, [row], "right")
            torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
            assert found.argmax(-1).tolist() == alone.argmax(-1).tolist()
