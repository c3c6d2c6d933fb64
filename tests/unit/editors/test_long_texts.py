"""Texts that are longer than what a small network beside the base model reads: said, once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from datamodules.records import Record
from editors.ike.retrieval import Sentences
from editors.serac.config import ScopeOptions
from editors.serac.negatives import HardNegatives
from editors.serac.scope import Scope, longest_text
from tests.ike_cases import ENCODER
from tests.serac_cases import OPTIONS, RECORDS, drawn_from_records
from tests.tokenizers_small import opt_tokenizer

LIMIT = 24
SHORT, LONG = "Who founded it?", "Who founded it, and why? " * 12
SIZES: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8,
}  # fmt: skip


def roberta() -> nn.Module:
    """Its table has two rows more than it reads, as the released ones have: 514 for 512."""
    config = RobertaConfig(**SIZES, max_position_embeddings=LIMIT + 2, pad_token_id=1)
    return RobertaModel(config, add_pooling_layer=False)


def distilbert() -> nn.Module:
    sizes = {"vocab_size": 400, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
    return DistilBertModel(DistilBertConfig(**sizes, max_position_embeddings=LIMIT))


@pytest.mark.parametrize("make", [roberta, distilbert])
def test_the_scope_reads_the_beginning_of_a_long_question_and_says_so(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = ScopeOptions.model_validate(OPTIONS["scope"] | {"image": False})
    encoder = make().eval()
    scope = Scope(options, encoder, opt_tokenizer(), 4)
    assert longest_text(encoder, opt_tokenizer()) == LIMIT
    with caplog.at_level(logging.WARNING), torch.no_grad():
        scope.embed([SHORT, SHORT])
        assert not caplog.records
        one, other = scope.embed([LONG, f"{LONG}And when?"])
        scope.embed([LONG])
    torch.testing.assert_close(one, other)
    (said,) = [record.getMessage() for record in caplog.records]
    for part in ("editor.scope.encoder", f"reads {LIMIT} tokens", "2 of 2 texts", LONG[:40]):
        assert part in said


def test_retrieval_says_it_too(caplog: pytest.LogCaptureFixture) -> None:
    sentences = Sentences(ENCODER, torch.device("cpu"))
    with caplog.at_level(logging.WARNING):
        sentences.together([SHORT, "word " * 100])
        assert not caplog.records
        sentences.together([SHORT, "word " * 400])
        sentences.alone(["word " * 500])
    (said,) = [record.getMessage() for record in caplog.records]
    for part in ("editor.encoder", "reads 256 tokens", "1 of 2 texts", "'word word"):
        assert part in said


def test_hard_negatives_say_it_too(caplog: pytest.LogCaptureFixture) -> None:
    record = RECORDS[0].model_dump()
    record["locality_question"]["question"] = "How old is the river? " * 90
    with caplog.at_level(logging.WARNING):
        drawn: HardNegatives = drawn_from_records([Record.model_validate(record), *RECORDS[1:]])
    (said,) = [record.getMessage() for record in caplog.records]
    assert "editor.negatives.encoder reads 256 tokens" in said
    assert f"1 of {len(drawn.pool)} texts" in said
