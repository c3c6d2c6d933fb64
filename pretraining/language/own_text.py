"""Text that a language model writes by itself, to hold it where it is while it learns facts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.language_model import LanguageModel
from pretraining.language.asking import head


@torch.no_grad()
def sample(language: LanguageModel, *, texts: int, tokens: int, seed: int) -> Tensor:
    """Texts that a model writes from the begin token alone, at temperature 1.

    They do not end: the end token is not drawn.

    Args:
        language: the model, which is not changed.
        texts: how many.
        tokens: of each, the begin token among them.
        seed: of the draws, which are made on the CPU whatever the model is on.

    Returns:
        Token ids (texts, tokens) on the CPU.
    """
    model, tokenizer = language.model, language.tokenizer
    generator = torch.Generator().manual_seed(seed)
    written = torch.full((texts, 1), int(tokenizer.bos_token_id or 0))
    never = [i for i in (tokenizer.eos_token_id, tokenizer.bos_token_id) if i is not None]
    past: Any = None
    while texts and written.shape[1] < tokens:
        states = model.base_model(
            input_ids=written[:, -1:].to(model.device), past_key_values=past, use_cache=True
        )
        past = states.past_key_values
        scores = head(model, states.last_hidden_state[:, -1]).float().cpu()
        scores[:, never] = -torch.inf
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        written = torch.cat([written, drawn], dim=1)
    return written
