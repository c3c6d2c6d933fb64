"""The MLP's neurons: what each adds to an answer, and how much of an update falls on it.

A neuron is one activation w_i of an MLP's inner layer, an input of its second matrix (act(fc1 x) in
OPT, act(gate x) * up x in LLaMA), at the token that predicts an answer token (Dai et al., Knowledge
Neurons in Pretrained Transformers, ACL 2022, eq. 2-4). Its attribution is the integrated gradient
of the answer token's probability P while its layer grows from nothing to the value it has,

    Attr(w_i^l) = wbar_i^l / m * sum_{k=1..m} dP(answer | (k/m) wbar^l) / dw_i^l

All neurons of a layer grow together, as in the published code; the attributions of a layer then sum
up to P(wbar) - P(0) as m grows. Other layers are computed as usual.

The m scaled copies of a token stand side by side in one pass: each sees the tokens before it, whose
keys and values are computed once, and itself, not the other copies. An answer token therefore costs
m tokens for each layer, however long its prompt and its picture are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from models.deltas import (
    Delta,
    Deltas,
    DenseDelta,
    Groups,
    Site,
    apply_deltas,
    linear_shape,
)
from models.editable import EditableModel
from models.positions import check_lengths
from models.rows import Answers, Rows
from models.sites import ATTENTION_ROLES, Role

MEMORY_SHARE = 1 / 8  # of the memory budget, for the activations of one backward pass
_PER_TOKEN = 32  # values that a layer keeps per token and unit of width
_PER_LOGIT = 12  # bytes: a logit, its probability and its gradient


@dataclass(frozen=True)
class _Copies:
    """N answer tokens, each once for every scale, and what the decoder's body reads of them.

    Attributes:
        inputs: of the body; its embeddings are (I, M, d).
        past: keys and values before the copies, by layer; empty where the copies are whole rows.
        item: (N * m,) where each copy stands in (I, M), the copies of a token in a row.
        position: (N * m,).
        edit_index: (I,).
    """

    inputs: dict[str, Any]
    past: Sequence[tuple[Tensor, Tensor]]
    item: Tensor
    position: Tensor
    edit_index: Tensor

    def body_inputs(self) -> dict[str, Any]:
        """The inputs with a cache of their own: a pass writes into it."""
        if not self.past:
            return self.inputs
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.past):
            cache.update(keys, values, layer)
        return self.inputs | {"past_key_values": cache, "use_cache": True}


def n_neurons(model: EditableModel) -> int:
    """Neurons of one layer: D."""
    return linear_shape(model.linear(Site(0, "mlp_out")))[0]


@torch.no_grad()
def attributions(
    model: EditableModel, rows: Rows, *, steps: int, deltas: Deltas | None = None
) -> Tensor:
    """What every neuron adds to the probability of each row's answer.

    An answer of several tokens is read teacher forced: every token has its own neurons, those at
    the token before it, and a row's value is the mean over its answer tokens. A sum would make no
    other coarse set, as its threshold is a part of the row's largest value; the mean stays a
    difference of probabilities, in [-1, 1], however long an answer is.

    Args:
        model: the base model.
        rows: prompts with their answers.
        steps: m of the Riemann sum.
        deltas: the edits, each row under the one of its `edit_index`; None for the unedited model.

    Returns:
        (R, layers, D) in float32 or better.

    Raises:
        ModelError: a row is longer than what the model reads at once.
        ValueError: steps < 1.
    """
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")
    check_lengths(rows, model.max_positions)
    rows = model.encode_pictures(rows)
    at, deltas = rows.answers(), deltas or {}
    precision = torch.promote_types(model.dtype, torch.float32)
    scales = torch.arange(1, steps + 1, dtype=precision, device=model.device) / steps
    tokens, copies = _at_once(model, rows, steps)
    size = (len(rows), model.n_layers, n_neurons(model))
    total = torch.zeros(size, dtype=precision, device=model.device)
    for indices in torch.arange(len(at.row), device=model.device).split(tokens):
        part = Answers(at.row[indices], at.position[indices], at.target[indices], len(rows))
        values = _of_tokens(model, rows, part, deltas, scales.split(copies))
        total.index_add_(0, part.row, values.to(precision) / steps)
    return total / rows.answer_mask.sum(1)[:, None, None]


def update_by_neuron(deltas: Deltas, neurons: int) -> dict[Site, Tensor]:
    """Squared norm of the part of each weight update that belongs to a neuron.

    The rows of the MLP's first matrix and of its gate make a neuron's activation, the columns of
    the second one carry it on. Where a gate lies in the first matrix too, both its rows count. The
    maps of the attention have no part in a neuron.

    Args:
        deltas: the updates of E edits.
        neurons: D.

    Returns:
        (E, D) for each edited matrix of an MLP; they sum up to the squared norm of the update.
    """
    return {
        site: _squared(delta, site.role, neurons)
        for site, delta in deltas.items()
        if site.role not in ATTENTION_ROLES
    }


def _squared(delta: Delta, role: Role, neurons: int) -> Tensor:
    if isinstance(delta, DenseDelta):
        of_role = delta.weight.square().sum(-2 if role == "mlp_out" else -1)
    else:
        sides = (delta.outputs, delta.inputs)
        inner, outer = sides[::-1] if role == "mlp_out" else sides
        # |sum_t inner[t, i] outer[t]|^2 without the sum itself, which is as large as the matrix
        of_role = ((outer @ outer.mT) @ inner * inner).sum(-2).clamp(min=0)
    return of_role.unflatten(-1, (-1, neurons)).sum(-2)


def _of_tokens(
    model: EditableModel, rows: Rows, at: Answers, deltas: Deltas, scales: Sequence[Tensor]
) -> Tensor:
    """Attributions of some answer tokens, m times as large: (N, layers, D)."""
    used, row = at.row.unique(return_inverse=True)
    rows, at = rows.select(used), replace(at, row=row, n_rows=len(used))
    past = [] if _in_one_part(model, rows) else _read(model, rows, deltas)
    total: list[Tensor] = []
    for part in scales:
        m = len(part)
        copies = _after(model, rows, at, past, m) if past else _whole(model, rows, at, m)
        by_layer = [
            _weighed_gradients(model, copies, layer, at.target, part, deltas)
            for layer in range(model.n_layers)
        ]
        total.append(torch.stack(by_layer, 1))
    return torch.stack(total).sum(0)


def _weighed_gradients(
    model: EditableModel,
    copies: _Copies,
    layer: int,
    target: Tensor,
    scales: Tensor,
    deltas: Deltas,
) -> Tensor:
    """The activations of one layer times sum_k dP/dw at their scaled copies: (N, D)."""
    points: list[Tensor] = []  # the activations, and their scaled copies

    def scale(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0].detach().to(model.device)
        whole = x.reshape(len(copies.edit_index), -1, x.shape[-1])
        values = whole[copies.item, copies.position]  # (N * m, D)
        scaled = values * scales.to(values.dtype).repeat(len(target))[:, None]
        points.extend((values, scaled.requires_grad_()))
        changed = whole.index_put((copies.item, copies.position), points[1])
        return (changed.reshape(x.shape).to(args[0].device), *args[1:])

    handle = model.linear(Site(layer, "mlp_out")).register_forward_pre_hook(scale)
    try:
        with torch.enable_grad(), _edited(model, deltas, copies.edit_index):
            output = model.decoder.body(**copies.body_inputs())
            hidden = output.last_hidden_state[copies.item, copies.position]
            logits = model.head_logits(hidden)
            answers = target.repeat_interleave(len(scales))[:, None]
            log_p = logits.log_softmax(-1).gather(1, answers)
            # dP = P dlog P: the second factor does not vanish in half precision where P is small
            (gradient,) = torch.autograd.grad(log_p.sum(), points[1])
    finally:
        handle.remove()
    weighed = gradient.to(log_p.dtype) * log_p.detach().exp() * points[0].to(log_p.dtype)
    return weighed.view(len(target), len(scales), -1).sum(1)


def _edited(
    model: EditableModel, deltas: Deltas, edit_index: Tensor
) -> AbstractContextManager[None]:
    """The edits in place, each item under its own."""
    linears = {site: model.linear(site) for site in deltas}
    groups = Groups(edit_index, next(iter(deltas.values())).n_edits) if deltas else None
    return apply_deltas(linears, deltas, groups)


def _in_one_part(model: EditableModel, rows: Rows) -> bool:
    """Whether a row's tokens cannot be read one part after the other (see `models.context`)."""
    kinds = {model.layer_kind(layer) for layer in range(model.n_layers)}
    return len(kinds) > 1 or bool(model.body_inputs(rows))


def _read(model: EditableModel, rows: Rows, deltas: Deltas) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of all tokens of the rows under their edits, by layer."""
    cache = DynamicCache()
    with _edited(model, deltas, rows.edit_index):
        model.decoder.body(
            inputs_embeds=model.embed(rows),
            attention_mask=rows.attention_mask,
            position_ids=_positions(rows),
            past_key_values=cache,
            use_cache=True,
        )
    return [(layer.keys, layer.values) for layer in cache.layers]


def _of(values: Tensor, row: Tensor) -> Tensor:
    """Those of some rows; keys and values lie where their layer is."""
    return values[row.to(values.device)]


def _after(
    model: EditableModel,
    rows: Rows,
    at: Answers,
    past: Sequence[tuple[Tensor, Tensor]],
    m: int,
) -> _Copies:
    """Copies of the predicting tokens alone, m side by side behind what they see."""
    embeddings = model.embed(rows)
    steps = torch.arange(embeddings.shape[1], device=at.row.device)
    before = rows.attention_mask[at.row] & (steps < at.position[:, None])  # (N, T)
    itself = torch.eye(m, dtype=torch.bool, device=at.row.device)
    seen = torch.cat([before[:, None].expand(-1, m, -1), itself.expand(len(before), -1, -1)], -1)
    mask = torch.zeros(seen.shape, dtype=embeddings.dtype, device=at.row.device)
    mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)  # (N, m, T + m)
    predicting = embeddings[at.row, at.position][:, None].expand(-1, m, -1)
    item = torch.arange(len(at.row), device=at.row.device)
    return _Copies(
        inputs={
            "inputs_embeds": predicting,
            "attention_mask": mask[:, None],
            "position_ids": _positions(rows)[at.row, at.position][:, None].expand(-1, m),
        },
        past=[(_of(keys, at.row), _of(values, at.row)) for keys, values in past],
        item=item.repeat_interleave(m),
        position=torch.arange(m, device=item.device).repeat(len(item)),
        edit_index=rows.edit_index[at.row],
    )


def _whole(model: EditableModel, rows: Rows, at: Answers, m: int) -> _Copies:
    """Copies of whole rows, for models that must read a row at once."""
    copied = rows.select(at.row.repeat_interleave(m))
    return _Copies(
        inputs={
            "inputs_embeds": model.embed(copied),
            "attention_mask": copied.attention_mask,
            "use_cache": False,
            **model.body_inputs(copied),
        },
        past=(),
        item=torch.arange(len(copied), device=at.row.device),
        position=at.position.repeat_interleave(m),
        edit_index=copied.edit_index,
    )


def _positions(rows: Rows) -> Tensor:
    """The place of each token among a row's real ones: (R, T)."""
    return (rows.attention_mask.long().cumsum(1) - 1).clamp(min=0)


def _at_once(model: EditableModel, rows: Rows, steps: int) -> tuple[int, int]:
    """How many answer tokens, and how many copies of one, fit into one backward pass."""
    config, width = model.hf.config.get_text_config(), rows.input_ids.shape[1]
    layer = model.n_layers * config.hidden_size * model.dtype.itemsize
    long = width if _in_one_part(model, rows) else 1
    copy = layer * _PER_TOKEN * long + config.vocab_size * _PER_LOGIT
    context = 4 * layer * width  # keys and values, and what a pass makes of them
    fit = partial(model.budget.fit, share=MEMORY_SHARE)
    return fit(steps * copy + context), fit(copy)
