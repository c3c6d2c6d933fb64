"""Rows whose beginning is read once, and its keys and values reused by whatever follows.

Two uses: answering rows that share a long beginning, and reading the rest of rows again and again.

The rows of an edit begin with the same tokens (IKE: 32 demonstrations and the new fact) and differ
in their questions. What they share is found in token space, so nothing depends on where a tokenizer
cuts. The shared part goes through the model once, batched over groups of rows; every row then goes
on from its group's cache. Results equal whole forward passes of each row alone; and whole forward
passes they are, correct and slower, for rows with pictures of a model whose tokens cannot be read
one part after the other (`EditableModel.body_inputs`: Qwen2-VL's positions, Gemma 3's masks).

An edit at a token changes nothing before that token: attention is causal. What ROME looks for v*
with is the rest of its prompts, from the subject's last token on (`rest`), which a suffix of the
model reads in every step behind a beginning that stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from models.editable import EditableModel
from models.keys_values import SHARE, Beginning, bytes_per_token
from models.positions import check_lengths
from models.rows import TEXT_ONLY, Answers, Rows
from models.state import PrefixState, stop_on_entering


@dataclass(frozen=True)
class _Shared:
    """What the rows of G groups begin with.

    Attributes:
        cache: keys and values, one row per group, padded on the left.
        mask: (G, n) which of them are real.
        lengths: (G,) real tokens.
    """

    cache: DynamicCache
    mask: Tensor
    lengths: Tensor


@torch.no_grad()
def rest(
    model: EditableModel, rows: Rows, layer: int, first: Tensor, last: Tensor
) -> tuple[PrefixState, Tensor]:
    """The state of each row's tokens from one on, as `EditableModel.prefix` has it of all tokens.

    Passes over it see the whole row up to `last`: the keys and values of the tokens before `first`
    are kept, at every layer, as the unedited model has them.

    Args:
        model: the base model.
        rows: whole rows.
        layer: the one that is entered.
        first: (R,) the tokens from which on something may change.
        last: (R,) the last ones that are looked at.

    Returns:
        The state, and how many places further left than in its row a token stands there: (R,). It
        is `first`, or zero where a row's tokens cannot be read one part after the other.

    Raises:
        ModelError: a row is longer than what the model reads at once.
    """
    if model.body_inputs(rows):
        return model.prefix(rows, layer), torch.zeros_like(first)
    check_lengths(rows, model.max_positions)
    rows, shift = _to_the_left(until(rows, last))
    lengths, every = first - shift, torch.arange(len(rows), device=first.device)
    beginning = _encode(model, rows, lengths)
    layers, kind = model.decoder.layers, model.layer_kind
    with stop_on_entering(layers, layer, kind, model.device) as collector:
        _go_on(model, rows, _after(rows, lengths), beginning, every)
    return collector.state(), first


def until(rows: Rows, last: Tensor) -> Rows:
    """The rows without what stands behind one token of each: (R,) its index."""
    steps = torch.arange(rows.input_ids.shape[1], device=last.device)
    seen = replace(rows, attention_mask=rows.attention_mask & (steps <= last[:, None]))
    return seen.cut(int(last.max()) + 1)


@torch.no_grad()
def answer_with_shared_prefix(
    model: EditableModel, rows: Rows, at: Answers, *, group: Tensor | None = None
) -> Tensor:
    """Logits at some positions of rows that share long beginnings.

    Args:
        model: the base model.
        rows: whole rows.
        at: what to predict.
        group: (R,) which rows to look for a common beginning in; by default those of an edit. A
            picture belongs to the beginning where all rows of a group show the same one.

    Returns:
        (N, V) in float32 or better, in the order of `at`.

    Raises:
        ModelError: a row is longer than what the model reads at once.
    """
    check_lengths(rows, model.max_positions)
    group = rows.edit_index if group is None else group
    rows, shift = _to_the_left(model.encode_pictures(rows))
    at = replace(at, position=at.position - shift[at.row])
    whole = bool(model.body_inputs(rows))
    shared = rows.attention_mask.sum(1) if whole else shared_lengths(rows, at, group)
    together = torch.arange(len(rows), device=group.device) if whole else group
    logits: list[Tensor] = []
    answered: list[Tensor] = []  # indices into `at`
    for part_rows in _parts(model, together, shared):
        part, answers = rows.select(part_rows), at.select(part_rows)
        indices = torch.isin(at.row, part_rows).nonzero().squeeze(1)
        order = torch.searchsorted(part_rows, at.row[indices]).argsort(stable=True)
        answered.append(indices[order])
        logits.append(
            model(part, at=answers)
            if whole
            else _answer(model, part, answers, group[part_rows], shared[part_rows])
        )
    joined = torch.cat(logits)
    result = torch.empty_like(joined)
    result[torch.cat(answered)] = joined
    return result


def shared_lengths(rows: Rows, at: Answers, group: Tensor) -> Tensor:
    """Tokens that all rows of a group begin with, short of what must be predicted: (R,).

    A row keeps at least the token that predicts its first answer, and its picture where another row
    of the group shows another one.
    """
    first = rows.attention_mask.sum(1) - 1
    first.scatter_reduce_(0, at.row, at.position, "amin")
    slots = rows.image_slots
    before_picture = torch.where(slots.any(1), slots.int().argmax(1), first)
    cut = slots.gather(1, first[:, None])[:, 0]  # a picture is read whole
    first = torch.where(cut, before_picture, first)
    lengths = torch.zeros_like(first)
    for number in group.unique():
        members = (group == number).nonzero().squeeze(1)
        ids, pictures = rows.input_ids[members], rows.image_index[members]
        same = (ids == ids[:1]).all(0).long().cumprod(0).sum()
        one_picture = bool((pictures == pictures[0]).all())
        limit = first[members] if one_picture else before_picture[members]
        lengths[members] = torch.minimum(same, limit.min())
    return lengths


def _parts(model: EditableModel, group: Tensor, shared: Tensor) -> Iterator[Tensor]:
    """Row numbers, whole groups at a time, as many as the memory for keys and values allows."""
    each = bytes_per_token(model) * max(1, int(shared.max()))
    most_rows = model.budget.fit(each, share=SHARE)
    part: list[Tensor] = []
    for number in group.unique():
        members = (group == number).nonzero().squeeze(1)
        if part and sum(map(len, part)) + len(members) > most_rows:
            yield torch.cat(part).sort().values
            part = []
        part.append(members)
    yield torch.cat(part).sort().values


def _answer(model: EditableModel, rows: Rows, at: Answers, group: Tensor, shared: Tensor) -> Tensor:
    groups, group_of_row = group.unique(return_inverse=True)
    first_row = torch.stack([(group_of_row == g).nonzero()[0, 0] for g in range(len(groups))])
    beginning = _encode(model, rows.select(first_row), shared[first_row])
    output = _go_on(model, rows, _after(rows, shared), beginning, group_of_row)
    return model.head_logits(output.last_hidden_state[at.row, at.position - shared[at.row]])


def _go_on(model: EditableModel, rows: Rows, after: Rows, beginning: _Shared, group: Tensor) -> Any:
    """The body's output for what follows the beginnings of the rows' groups (R,)."""
    lengths = beginning.lengths[group]
    steps = torch.arange(after.input_ids.shape[1], device=group.device)
    last = rows.attention_mask.sum(1) - 1  # padding repeats it: a table of positions ends
    return model.decoder.body(
        inputs_embeds=model.embed(after),
        attention_mask=torch.cat([beginning.mask[group], after.attention_mask], 1),
        position_ids=torch.minimum(lengths[:, None] + steps, last[:, None]),
        past_key_values=Beginning.of(beginning.cache, group),
        use_cache=True,
    )


def _encode(model: EditableModel, rows: Rows, lengths: Tensor) -> _Shared:
    """Reads the beginnings of one row per group."""
    width = max(1, int(lengths.max()))
    steps = torch.arange(width, device=lengths.device)
    mask = steps >= width - lengths[:, None]  # padded on the left: the rest follows seamlessly
    source = (steps - (width - lengths[:, None])).clamp(min=0)
    cache = DynamicCache()
    model.decoder.body(
        inputs_embeds=model.embed(_tokens(rows, source, mask)),
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
    return _tokens(rows, source, steps < real[:, None])


def _tokens(rows: Rows, source: Tensor, real: Tensor) -> Rows:
    """Some tokens of each row, (R, n) by their index, and the picture where it is among them."""
    slots = rows.image_slots.gather(1, source) & real
    has_picture = slots.any(1)
    any_picture = bool(has_picture.any())
    return replace(
        rows,
        input_ids=rows.input_ids.gather(1, source),
        attention_mask=real,
        answer_mask=rows.answer_mask.gather(1, source) & real,
        image_slots=slots,
        image_index=rows.image_index.where(has_picture, TEXT_ONLY),
        pixel_values=rows.pixel_values if any_picture else None,
        features=rows.features if any_picture else None,
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
