"""Greedy generation for many short prompts at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pretraining.model import parts_of
from pretraining.samples import Sample

BATCH = 128
MOST_NEW_TOKENS = 64


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
) -> list[str]:
    """What the model says after the prompts of some text rows (their answers are not shown).

    Prompts of equal length share a batch, so nothing is padded and every row reads exactly what it
    would read alone.
    """
    by_length: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_length.setdefault(sample.prompt_length, []).append(index)
    texts = [""] * len(samples)
    for length, members in by_length.items():
        for start in range(0, len(members), BATCH):
            chosen = members[start : start + BATCH]
            prompts = torch.tensor([samples[index].ids[:length] for index in chosen])
            for index, new in zip(chosen, _greedy(model, prompts), strict=True):
                texts[index] = tokenizer.decode(_until(new, tokenizer.eos_token_id))
    return texts


def _greedy(model: PreTrainedModel, prompts: Tensor) -> list[list[int]]:
    """New tokens of every prompt, EOS included: (B, T) -> B lists."""
    output = parts_of(model).text_model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=MOST_NEW_TOKENS,
        do_sample=False,
    )
    return output[:, prompts.shape[1] :].tolist()


def _until(tokens: Sequence[int], end: int) -> list[int]:
    """The tokens before the first `end`."""
    return list(tokens[: tokens.index(end)]) if end in tokens else list(tokens)
