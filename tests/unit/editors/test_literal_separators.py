"""What reads like a special token is text in the networks beside the base model, too."""

from __future__ import annotations

import torch

from analysis.second_moment import token_batches
from editors.encoders import encoder_folder
from editors.sentences import open_sentences
from tests.builders import worded_model
from tests.ike_cases import ENCODER
from tests.serac_cases import stirred


def test_a_sentence_with_a_separator_is_read_to_its_end() -> None:
    folder = encoder_folder(ENCODER, key="editor.encoder")
    sentences = open_sentences(folder, torch.device("cpu"))
    literal, plain = sentences.encode(["What is [SEP] in [MASK]?", "What is [ sep ] in [ mask ]?"])
    assert (literal == plain).all()


def test_a_scope_reads_an_end_token_as_characters() -> None:
    model, _ = worded_model("llava", positions=64)
    scope = stirred(model).scope
    ids = scope._tokens(["What is </s> in <s>?"])["input_ids"][0]
    specials = set(scope.tokenizer.all_special_ids)
    assert [i for i in ids.tolist() if i in specials] == [scope.tokenizer.bos_token_id]


def test_a_document_does_not_end_at_an_end_token_that_it_writes_about() -> None:
    model, encoder = worded_model("opt", positions=64)
    ((ids, mask),) = token_batches(model, encoder.tokenizer, ["the tag </s> ends"], 1)
    assert encoder.tokenizer.decode(ids[0][mask[0]][1:]) == "the tag </s> ends"
    assert int((ids == encoder.tokenizer.eos_token_id).sum()) == 1  # OPT's BOS
