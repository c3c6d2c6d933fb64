"""The state on entering a layer, edit by edit, so that it can be kept and come back in any batch.

An edit's rows are packed without regard to other edits (`models.packing`): each token that they
begin with in common stands once. What enters a layer is therefore, for one edit, a list of vectors
that knows nothing of the batch in which they were computed,

    split(state)[e] = (h_1 .. h_n),   tokens in the order in which the edit's rows first show them

and `joined` puts lists of any edits into the sequences of a batch that holds these edits. Masks and
rotary tables are made anew, as the body of the model makes them: no layer is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.editable import EditableModel
from models.packing import Packing
from models.state import LayerState, PrefixState, attention_mask, stop_on_entering


class Tokens(NamedTuple):
    """Where some tokens stand in packed sequences.

    Attributes:
        sequence: (n,) the sequence of each.
        place: (n,) its place there.
    """

    sequence: Tensor
    place: Tensor


def tokens_of(packing: Packing, rows: Tensor) -> Tokens:
    """The tokens of an edit, each once, in the order in which its rows first show them.

    Args:
        packing: of all rows of a batch, on the CPU.
        rows: all rows of one edit, in the order that shall count.
    """
    real = packing.real[rows]
    row, token = real.nonzero(as_tuple=True)
    length = packing.filled.shape[1]
    flat = packing.sequence[rows][row] * length + packing.position[rows][row, token]
    _, first = np.unique(flat.numpy(), return_index=True)
    flat = flat[torch.from_numpy(np.sort(first))]
    return Tokens(flat // length, flat % length)


def split(state: PrefixState, edits: Sequence[Tensor]) -> list[Tensor]:
    """What enters the layer at the tokens of each edit, as `tokens_of` has them: (n, d) each.

    Args:
        state: of packed rows.
        edits: all rows of each edit, in the order that shall count.

    Raises:
        ValueError: the state is of rows that are not packed.
    """
    tokens = _tokens(_packing(state), edits)
    n_tokens = [len(one.place) for one in tokens]
    device = state.parts[0].hidden.device
    sequence, place = (torch.cat(of_edits).to(device) for of_edits in zip(*tokens, strict=True))
    return list(state.at(sequence, place).split(n_tokens))


def joined(
    model: EditableModel,
    packing: Packing,
    layer: int,
    edits: Sequence[Tensor],
    vectors: Sequence[Tensor],
) -> PrefixState:
    """The state of packed rows, of what is known to enter the layer at the tokens of each edit.

    Args:
        model: makes masks and rotary tables; of its weights no layer's is read.
        packing: of all rows of the batch.
        layer: the one that is entered.
        edits: as `split` was given them: the same rows of each edit, in the same order.
        vectors: what it gave for each, in the type and on the device of the state.

    Raises:
        ValueError: an edit has another number of tokens than its vectors say.
    """
    tokens = _tokens(packing, edits)
    for one, known in zip(tokens, vectors, strict=True):
        if len(one.place) != len(known):
            raise ValueError(f"an edit has {len(one.place)} tokens, and {len(known)} are known")
    hidden = torch.cat(list(vectors))
    packing = packing.to(hidden.device)
    sequence, place = (
        torch.cat(of_edits).to(hidden.device) for of_edits in zip(*tokens, strict=True)
    )
    parts = []
    for numbers in packing.buckets():
        part = _empty(model, packing, numbers, hidden)
        stands = part.place_of[sequence]
        here = stands >= 0
        part.hidden[stands[here], place[here]] = hidden[here]
        parts.append(part)
    return PrefixState(tuple(parts), layer)


def _tokens(packing: Packing, edits: Sequence[Tensor]) -> list[Tokens]:
    packing = packing.to(torch.device("cpu"))
    return [tokens_of(packing, rows) for rows in edits]


@torch.no_grad()
def _empty(model: EditableModel, packing: Packing, numbers: Tensor, like: Tensor) -> LayerState:
    """What layers are handed of a bucket of sequences, and zeros for what enters them."""
    bucket, dtype = packing.part(numbers), model.packed_mask
    assert dtype is not None
    shape = (*bucket.filled.shape, like.shape[-1])
    nothing = torch.zeros(1, dtype=model.dtype, device=like.device).expand(shape)
    layers, kind = model.decoder.layers, model.layer_kind
    with stop_on_entering(layers, 0, kind, like.device) as entered:
        model.decoder.body(
            inputs_embeds=nothing,
            attention_mask=attention_mask(bucket, dtype),
            position_ids=bucket.depth,
            use_cache=False,
        )
    return LayerState(like.new_zeros(shape), entered.kwargs, packing, numbers)


def _packing(state: PrefixState) -> Packing:
    packing = state.parts[0].packing
    if packing is None:
        raise ValueError("rows that are not packed have no state of their edit alone")
    return packing
