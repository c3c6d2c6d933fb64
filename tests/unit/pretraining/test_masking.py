"""The training-only subject mask blocks exactly what it says."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from pretraining.masking import masked_layers, subject_masks

T = 9
SPANS = torch.tensor([[2, 4], [2, 4], [3, 3]])
HIDDEN = torch.tensor([True, False, True])


def allowed(mask: torch.Tensor) -> torch.Tensor:
    return mask[:, 0] == 0


def test_masks_are_causal_and_block_the_subject_after_it() -> None:
    low, high = (allowed(mask) for mask in subject_masks(SPANS, HIDDEN, T))
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    assert torch.equal(low[1], causal)
    assert torch.equal(high[1], causal)
    for row, (first, last) in ((0, (2, 4)), (2, (3, 3))):
        for query in range(T):
            for key in range(T):
                hidden_key = query > last and first <= key <= last
                expected = key <= query
                assert bool(low[row, query, key]) == (expected and not hidden_key)
                expected_high = expected and not (hidden_key and key < last)
                assert bool(high[row, query, key]) == expected_high


def model_of(layers: int) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return LlamaModel(config).eval()


@pytest.mark.parametrize("n_low", [1, 2])
def test_blocked_positions_get_no_gradient(n_low: int) -> None:
    model = model_of(2)
    embedded = torch.randn(3, T, 16, requires_grad=True)
    low, high = subject_masks(SPANS, HIDDEN, T)
    with masked_layers(model.layers, low, high, n_low):
        output = model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    (gradient,) = torch.autograd.grad(output[:, -1].square().sum(), embedded)
    size = gradient.abs().sum(-1)
    # With both layers low the prompt's end knows nothing of the subject; with one layer high it
    # reads the last token, which has read the tokens before it in the layer below.
    assert bool((size[0, 2:5] > 0).all()) == (n_low == 1)
    assert bool((size[0, 2:5] == 0).all()) == (n_low == 2)
    assert bool(size[2, 3] > 0) == (n_low == 1)
    assert bool((size[1, 2:5] > 0).all())
    assert bool((size[:, [0, 1, 5, 8]] > 0).all())


def test_only_the_subject_s_last_token_is_read_in_the_high_layers() -> None:
    model = model_of(1)
    embedded = torch.randn(3, T, 16, requires_grad=True)
    low, high = subject_masks(SPANS, HIDDEN, T)
    with masked_layers(model.layers, low, high, 0):
        output = model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    (gradient,) = torch.autograd.grad(output[:, -1].square().sum(), embedded)
    size = gradient.abs().sum(-1)
    assert bool((size[0, 2:4] == 0).all())
    assert bool(size[0, 4] > 0)


def test_the_mask_is_gone_after_the_block_also_after_an_error() -> None:
    model = model_of(2)
    embedded = torch.randn(3, T, 16)
    before = model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    low, high = subject_masks(SPANS, HIDDEN, T)
    with pytest.raises(RuntimeError, match="stop"), masked_layers(model.layers, low, high, 1):
        raise RuntimeError("stop")
    after = model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    assert torch.equal(before, after)
