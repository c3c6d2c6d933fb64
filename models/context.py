"""Answering rows that share a long beginning: it is read once per edit, its keys and values reused.

The rows of an edit begin with the same tokens (IKE: 32 demonstrations and the new fact) and differ
in their questions. What they share is found in token space, so nothing depends on where a tokenizer
cuts. The shared part goes through the model once, batched over edits; every row then goes on from
its edit's cache. Results equal whole forward passes of each row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from models.editable import EditableModel
from models.rows import TEXT_ONLY, Answers, Rows

MEMORY_BYTES = 4 * 2**30  # keys and values held at once


@dataclass(frozen=True)
class _Shared:
    """What the rows of some edits begin with.

    Attributes:
        cache: keys and values, one row per edit, padded on the left.
        mask: (E, n) which of them are real.
        lengths: (E,) real tokens.
    """

    cache: DynamicCache
    mask: Tensor
    lengths: Tensor

    def of(self, edits: Tensor) -> DynamicCache:
        """A cache for rows of these edits (R,)."""
        rows = DynamicCache()
        for layer, held in enumerate(self.cache.layers):
            rows.update(held.keys[edits], held.values[edits], layer)
        return rows


@torch.no_grad()
def answer_with_shared_prefix(model: EditableModel, rows: Rows, at: Answers) -> Tensor:
    """Logits at some positions of rows whose edits share long beginnings.

    Args:
        model: the base model.
        rows: whole rows; those of one `edit_index` begin alike, pictures come after that.
        at: what to predict.

    Returns:
        (N, V) in float32 or better, in the order of `at`.
    """
    rows, shift = _to_the_left(rows)
    at = replace(at, position=at.position - shift[at.row])
    shared = shared_lengths(rows, at)  # (R,), equal within an edit
    logits: list[Tensor] = []
    places: list[Tensor] = []
    for chosen in _parts(model, rows.edit_index, shared):
        part, answers = rows.select(chosen), at.select(chosen)
        place = torch.isin(at.row, chosen).nonzero().squeeze(1)
        order = torch.searchsorted(chosen, at.row[place]).argsort(stable=True)
        places.append(place[order])
        logits.append(_answer(model, part, answers, shared[chosen]))
    joined = torch.cat(logits)
    result = torch.empty_like(joined)
    result[torch.cat(places)] = joined
    return result


def shared_lengths(rows: Rows, at: Answers) -> Tensor:
    """Tokens that all rows of an edit begin with, short of what must be predicted: (R,).

    A row keeps at least the token that predicts its first answer, and all of its picture.
    """
    first = rows.attention_mask.sum(1) - 1
    first.scatter_reduce_(0, at.row, at.position, "amin")
    slots = rows.image_slots
    with_slots = slots.any(1)
    first = torch.where(with_slots, first.minimum(slots.int().argmax(1)), first)
    lengths = torch.zeros_like(first)
    for edit in rows.edit_index.unique():
        own = (rows.edit_index == edit).nonzero().squeeze(1)
        ids = rows.input_ids[own]
        same = (ids == ids[:1]).all(0).long().cumprod(0).sum()
        lengths[own] = torch.minimum(same, first[own].min())
    return lengths


def _parts(model: EditableModel, edit_index: Tensor, shared: Tensor) -> Iterator[Tensor]:
    """Row numbers, whole edits at a time, as many as the memory for keys and values allows."""
    config = model.hf.config.get_text_config()
    each = 2 * model.n_layers * config.hidden_size * model.hf.dtype.itemsize
    room = max(1, MEMORY_BYTES // (each * max(1, int(shared.max()))))
    part: list[Tensor] = []
    for edit in edit_index.unique():
        own = (edit_index == edit).nonzero().squeeze(1)
        if part and sum(map(len, part)) + len(own) > room:
            yield torch.cat(part).sort().values
            part = []
        part.append(own)
    yield torch.cat(part).sort().values


def _answer(model: EditableModel, rows: Rows, at: Answers, shared: Tensor) -> Tensor:
    edits, edit_of_row = rows.edit_index.unique(return_inverse=True)
    first_row = torch.stack([(edit_of_row == e).nonzero()[0, 0] for e in range(len(edits))])
    beginning = _encode(model, rows.select(first_row), shared[first_row])
    rest = _after(rows, shared)
    mask = torch.cat([beginning.mask[edit_of_row], rest.attention_mask], 1)
    steps = torch.arange(rest.input_ids.shape[1], device=shared.device)
    output = model.decoder.body(
        inputs_embeds=model.embed(rest),
        attention_mask=mask,
        position_ids=shared[:, None] + steps,
        past_key_values=beginning.of(edit_of_row),
        use_cache=True,
    )
    hidden = output.last_hidden_state[at.row, at.position - shared[at.row]]
    logits = model.decoder.head(hidden)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _encode(model: EditableModel, rows: Rows, lengths: Tensor) -> _Shared:
    """Reads the beginnings of one row per edit; they show no pictures."""
    width = max(1, int(lengths.max()))
    steps = torch.arange(width, device=lengths.device)
    mask = steps >= width - lengths[:, None]  # padded on the left: the rest follows seamlessly
    source = (steps - (width - lengths[:, None])).clamp(min=0)
    blank = torch.zeros_like(mask)
    text = replace(
        rows,
        input_ids=rows.input_ids.gather(1, source),
        attention_mask=mask,
        answer_mask=blank,
        image_slots=blank,
        image_index=torch.full_like(rows.image_index, TEXT_ONLY),
        pixel_values=None,
        features=None,
    )
    cache = DynamicCache()
    model.decoder.body(
        inputs_embeds=model.embed(text),
        attention_mask=mask,
        position_ids=source,
        past_key_values=cache,
        use_cache=True,
    )
    return _Shared(cache, mask, lengths)


def _after(rows: Rows, lengths: Tensor) -> Rows:
    """The rows without their first tokens."""
    real = rows.attention_mask.sum(1) - lengths
    steps = torch.arange(int(real.max()), device=lengths.device)
    source = (lengths[:, None] + steps).clamp(max=rows.input_ids.shape[1] - 1)
    inside = steps < real[:, None]
    return replace(
        rows,
        input_ids=rows.input_ids.gather(1, source),
        attention_mask=inside,
        answer_mask=rows.answer_mask.gather(1, source) & inside,
        image_slots=rows.image_slots.gather(1, source) & inside,
    )


def _to_the_left(rows: Rows) -> tuple[Rows, Tensor]:
    """The rows padded on the right, and by how much each moved: (R,)."""
    shift = rows.attention_mask.int().argmax(1)
    if not bool(shift.any()):
        return rows, shift
    steps = torch.arange(rows.input_ids.shape[1], device=shift.device)
    source = (steps + shift[:, None]) % len(steps)
    moved = {
        name: getattr(rows, name).gather(1, source)
        for name in ("input_ids", "attention_mask", "answer_mask", "image_slots")
    }
    return replace(rows, **moved), shift
