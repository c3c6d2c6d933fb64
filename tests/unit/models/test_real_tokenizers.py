"""The stand-ins with Llama's and OPT's vocabularies are opened as released models are."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.loading import load_model
from models.processor import load_processor
from tests.real_tokenizers import (
    FORMS,
    VOCABULARY_OF,
    Family,
    image_token,
    real_encoder,
    real_tokenizer,
    save_real_model,
    tmke_records,
)

PUBLISHED_DIGITS = {
    "llama": ["<s>", "▁Short", "▁answer", ":", "▁▁", "3", "5", "0", "l", "bs"],
    "opt": ["</s>", "Short", "Ġanswer", ":", "Ġ", "Ġ350", "lbs"],
}


@pytest.mark.parametrize("vocabulary", ["llama", "opt"])
def test_text_splits_as_the_released_tokenizers_split_it(vocabulary: str) -> None:
    tokenizer = real_tokenizer(vocabulary)  # type: ignore[arg-type]
    ids = tokenizer("Short answer:  350lbs")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == PUBLISHED_DIGITS[vocabulary]


@pytest.mark.parametrize("family", VOCABULARY_OF)
def test_a_folder_opens_with_the_tokens_of_the_vocabulary(family: Family, tmp_path: Path) -> None:
    folder = save_real_model(family, tmp_path / family)
    processor, model = load_processor(family, str(folder)), load_model(family, str(folder))
    assert processor.image_token_id == image_token(family)
    assert model.max_positions == 2048
    question, answer = "Who founded Gofin Works?", "350 Tama Duva"
    for form in FORMS:
        row = real_encoder(family, form).encode(question, answer, picture=True)
        text = [token for token, slot in zip(row.ids, row.slots, strict=True) if not slot]
        assert question in processor.tokenizer.decode(text)
        assert processor.tokenizer.bos_token_id in text[:1]
    assert len(processor.tokenizer) == model.hf.get_output_embeddings().weight.shape[0]


def test_all_records_of_the_benchmark_are_read() -> None:
    assert len(tmke_records()) == 60
