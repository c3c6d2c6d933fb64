"""Greedy decoding of edited models: what stands before a token is read once.

Rows are packed as in `models.packing`, so that rows of one edit share the keys and values of what
they begin with too. Each step reads one token of every row that goes on; a token looks at the path
of its own row and at what was generated for that row, and the deltas of its edit are in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from models.deltas import Deltas, apply_deltas
from models.editable import EditableModel
from models.keys_values import SHARE, bytes_per_token
from models.packing import Bucket, Packing, buckets_of, pack
from models.passes import groups_of
from models.rows import Answers, Rows
from models.state import LayerState, as_mask


class Decoding:
    """Rows that go on token by token, from answers that may have begun.

    Args:
        model: the base model; it reads packed rows.
        rows: prompts with what was answered so far.
        at: the token before the next one, one for each row in their order.
        deltas: of the edits that the rows stand under.
    """

    def __init__(self, model: EditableModel, rows: Rows, at: Answers, deltas: Deltas) -> None:
        rows, packing = model.encode_pictures(rows), pack(rows)
        self._parts = [
            _Part(model, rows, packing, bucket, at, deltas) for bucket in buckets_of(rows, packing)
        ]
        self._n_rows = len(rows)

    def first(self) -> Tensor:
        """Logits of each row's next token, (R, V)."""
        return self._joined([part.first for part in self._parts])

    def step(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Reads one token more of some rows: (A,), (A,) -> logits of the tokens after them (R, V).

        Rows that do not go on have arbitrary logits.
        """
        following = tokens.new_zeros(self._n_rows)
        following[rows] = tokens
        return self._joined([part.step(following[part.rows]) for part in self._parts])

    def _joined(self, logits: Sequence[Tensor]) -> Tensor:
        order = torch.cat([part.rows for part in self._parts]).argsort()
        return torch.cat(list(logits))[order]


class _Part:
    """Sequences of one length; every row in them has a slot among the tokens of a step."""

    def __init__(
        self,
        model: EditableModel,
        rows: Rows,
        packing: Packing,
        bucket: Bucket,
        at: Answers,
        deltas: Deltas,
    ) -> None:
        assert model.packed_mask is not None
        self._model, self._mask_type = model, model.packed_mask
        self._cache, self._taken = DynamicCache(), 0
        entered = LayerState(model.embed(bucket.rows), {}, packing, bucket.numbers)
        self.rows = entered.rows
        self._sequence, last = entered.where(self.rows, at.position[self.rows])
        self._slot = _ranks(self._sequence)
        shape = (len(bucket.numbers), int(self._slot.max()) + 1)
        mask, depth = bucket.packing.mask()[:, 0], bucket.packing.depth
        self._looks_at = mask.new_zeros(*shape, mask.shape[-1])
        self._looks_at[self._sequence, self._slot] = mask[self._sequence, last]
        self._depth = depth.new_zeros(shape)
        self._depth[self._sequence, self._slot] = depth[self._sequence, last] + 1
        self._deltas = deltas
        self._groups = groups_of(deltas, entered.of_sequences(rows.edit_index))
        hidden = self._read(entered.hidden, mask[:, None], depth)
        self.first = model.head_logits(hidden[self._sequence, last])

    def step(self, tokens: Tensor) -> Tensor:
        """Logits of each row's token after the one that is read: (n,) -> (n, V)."""
        ids = tokens.new_zeros(self._depth.shape)
        ids[self._sequence, self._slot] = tokens
        n_slots = ids.shape[1]
        own = torch.eye(n_slots, dtype=torch.bool, device=ids.device).repeat(1, self._taken + 1)
        mask = torch.cat([self._looks_at, own.expand(len(ids), -1, -1)], -1)[:, None]
        # A row that has ended is read on, at places that there may not be.
        positions = (self._depth + self._taken).clamp(max=self._model.max_positions - 1)
        hidden = self._read(
            self._model.hf.get_input_embeddings()(ids),
            mask,
            positions,
        )
        self._taken += 1
        return self._model.head_logits(hidden[self._sequence, self._slot])

    def _read(self, embedded: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
        linears = {site: self._model.linear(site) for site in self._deltas}
        with apply_deltas(linears, self._deltas, self._groups):
            hidden: Tensor = self._model.decoder.body(
                inputs_embeds=embedded,
                attention_mask=as_mask(seen, self._mask_type),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            ).last_hidden_state
        return hidden


def _ranks(sequence: Tensor) -> Tensor:
    """How many earlier rows stand in the same sequence: (n,)."""
    same = sequence[:, None] == sequence[None]
    return same.tril(-1).sum(1)


def rows_at_once(model: EditableModel, lengths: Sequence[int]) -> Iterator[range]:
    """Rows whose keys and values fit into the memory set aside for them, if none were shared.

    Args:
        model: the base model.
        lengths: tokens of each row, with those that it may still get.
    """
    most = model.budget.fit(bytes_per_token(model), share=SHARE)
    start = taken = 0
    for number, length in enumerate(lengths):
        if taken and taken + length > most:
            yield range(start, number)
            start, taken = number, 0
        taken += length
    yield range(start, len(lengths))
