"""A language model of 0.1 million weights that has learned some answers by heart.

It is saved as any model of transformers with its tokenizer and chat template, so that a server of
chat completions loads it. Its answers are made token by token, as those of a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from construction.prompts import Message

Dialogue = tuple[Sequence[Message], str]  # what is asked, and the answer
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
_PAD, _BOS, _EOS = range(3)
_UNLEARNED = -100  # label of a position that is no part of an answer
_STEPS, _LEARNED = 600, 0.01


def save_chat_model(folder: Path, dialogues: Sequence[Dialogue]) -> None:
    """Trains and saves the model.

    Raises:
        AssertionError: it has not learned its answers.
    """
    tokenizer = _tokenizer(dialogues)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=1024,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
            pad_token_id=_PAD,
        )
    )
    _train(model, *_rows(tokenizer, dialogues))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(dialogues: Sequence[Dialogue]) -> PreTrainedTokenizerFast:
    """Bytes, and what stands together in these texts."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    texts = [turn["content"] for asked, _ in dialogues for turn in asked]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokens.train_from_iterator([*texts, *(answer for _, answer in dialogues)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _rows(
    tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[Dialogue]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels (dialogues, longest)."""
    rows = []
    for asked, answer in dialogues:
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(before, add_special_tokens=False).input_ids
        said = [*tokenizer(answer, add_special_tokens=False).input_ids, _EOS]
        rows.append((prompt + said, [_UNLEARNED] * len(prompt) + said))
    longest = max(len(tokens) for tokens, _ in rows)
    tokens = [row + [_PAD] * (longest - len(row)) for row, _ in rows]
    labels = [row + [_UNLEARNED] * (longest - len(row)) for _, row in rows]
    return torch.tensor(tokens), torch.tensor(labels)


def _train(model: LlamaForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    mask = (tokens != _PAD).long()
    for _ in range(_STEPS):
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        if loss.item() < _LEARNED:
            return
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError(f"the model has not learned its answers (loss {loss.item():.3g})")
