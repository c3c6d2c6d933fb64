"""Asks a language model for answers: which rows it answers right, every token of the answer alike.

A group is of rows that begin alike (one relation, one wording, the same examples before it). Their
common tokens are read once, and each row goes on from the keys and values that this left.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.prompt_encoder import Encoded, PromptEncoder
from models.language_model import LanguageModel

WORTH = 16  # parts of a full batch


class Asker:
    """Asks the rows of a language model.

    Args:
        language: the model on the device where it is asked.
        batch_tokens: tokens of a batch, the padded ones counted and the common ones not.
    """

    def __init__(self, language: LanguageModel, batch_tokens: int) -> None:
        self.model, self.batch_tokens = language.model, batch_tokens
        self.encoder = PromptEncoder(language.tokenizer, None)

    @torch.no_grad()
    def right(self, rows: Sequence[Encoded]) -> list[bool]:
        """Whether the most likely token is the answer's own at every place of the answer.

        Args:
            rows: a group; it may be empty.

        Returns:
            One value a row.
        """
        right = [False] * len(rows)
        shared = _shared(rows)
        cache = self._read(rows[0].ids[:shared]) if shared else None
        for batch in self._batches(rows, shared):
            for number, is_right in zip(
                batch, self._ask([rows[i] for i in batch], shared, cache), strict=True
            ):
                right[number] = is_right
        return right

    def _batches(self, rows: Sequence[Encoded], shared: int) -> Iterator[list[int]]:
        """Numbers of rows, the short ones first, in batches of like lengths.

        A batch ends where the rows get longer, once it is worth a reading of all weights: in one
        batch a relation's rows were to a third padding.
        """
        batch: list[int] = []
        tokens = 0  # of the batch, none of them padded
        for number in sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i)):
            length = len(rows[number].ids) - shared
            longer = bool(batch) and length > len(rows[batch[-1]].ids) - shared
            full = (len(batch) + 1) * length > self.batch_tokens
            if batch and (full or (longer and tokens >= self.batch_tokens // WORTH)):
                yield batch
                batch, tokens = [], 0
            batch.append(number)
            tokens += length
        if batch:
            yield batch

    def _read(self, ids: Sequence[int]) -> Any:
        """The keys and values that the common tokens leave."""
        tokens = torch.tensor([list(ids)], device=self.model.device)
        return self.model.base_model(input_ids=tokens, use_cache=True).past_key_values

    def _ask(self, rows: Sequence[Encoded], shared: int, cache: Any) -> list[bool]:
        padded = self.encoder.pad(rows)
        ids, answer = padded.input_ids[:, shared:], padded.answer_mask[:, shared:]
        past = None
        if cache is not None:
            past = copy.deepcopy(cache)
            past.batch_repeat_interleave(len(rows))
        hidden = self.model.base_model(
            input_ids=ids.to(self.model.device),
            attention_mask=padded.attention_mask.long().to(self.model.device),
            past_key_values=past,
            use_cache=past is not None,
        ).last_hidden_state
        row, place = answer[:, 1:].nonzero(as_tuple=True)
        scores = head(self.model, hidden[row.to(hidden.device), place.to(hidden.device)])
        is_right = scores.argmax(-1).cpu() == ids[row, place + 1]
        wrong = torch.zeros(len(rows), dtype=torch.long).index_add_(0, row, (~is_right).long())
        return (wrong == 0).tolist()


def head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Scores (N, V) of the next token for final states (N, d).

    A cap on them (Gemma 2's) changes no order and is left out.
    """
    output = model.get_output_embeddings()
    assert output is not None  # every causal language model has one
    scores: Tensor = output(hidden)
    return scores


def _shared(rows: Sequence[Encoded]) -> int:
    """How many tokens all rows begin with; the token before the first answer is not among them."""
    if not rows:
        return 0
    last = min(row.answer.index(True) for row in rows) - 1
    columns = zip(*(row.ids[:last] for row in rows), strict=False)
    return next((i for i, tokens in enumerate(columns) if len(set(tokens)) > 1), last)
