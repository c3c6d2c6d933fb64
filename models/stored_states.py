"""What is frozen in a step of training, from the model's cache on the disk.

    prefix     what enters the lowest edited layer, edit by edit (`models.edit_states`)
    answers    what enters the last block's MLP at the tokens that a KL compares, row by row

The second is d numbers a token, where logits would be as many as the vocabulary has tokens: 8 kB
and not 64 for a 7B model in half precision. Last MLP, norm and head are run again, nothing below.

Entries are of tokens, pictures and a layer, so batches may be of any size, order and epoch, and any
process of a training may have computed them. Models whose rows cannot be packed, and models with an
edit in place, compute everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caching.entries import Tensors, digest
from caching.store import Kind
from models.edit_states import joined, split
from models.editable import EditableModel
from models.packing import pack
from models.row_keys import row_keys
from models.rows import Answers, Rows
from models.state import PrefixState


def stored_prefix(model: EditableModel, rows: Rows, layer: int) -> PrefixState:
    """`model.prefix(rows, layer, packed=True)`, of which edits seen before are read.

    Args:
        model: the base model; its cache is read and written.
        rows: all rows of some edits.
        layer: the one that is entered.
    """
    if not _reads(model, "states") or model.packed_mask is None:
        return model.prefix(rows, layer, packed=True)
    of_rows, edits, keys = row_keys(rows), list[Tensor](), list[bytes]()
    edit_of, picture_of = rows.edit_index.tolist(), rows.image_index.tolist()
    for edit in sorted(set(edit_of)):
        members = [row for row, number in enumerate(edit_of) if number == edit]
        members.sort(key=of_rows.__getitem__)
        edits.append(torch.tensor(members))
        # Rows share the tokens of one picture, and not those of two that look the same.
        shown = list(dict.fromkeys(picture_of[row] for row in members))
        shares = str([shown.index(picture_of[row]) for row in members])
        keys.append(digest("prefix", str(layer), shares, *(of_rows[row] for row in members)))

    def compute(numbers: list[int]) -> Sequence[Tensors]:
        lengths = [len(edits[number]) for number in numbers]
        computed = rows.select(torch.cat([edits[number] for number in numbers]).to(device))
        state = model.prefix(computed, layer, packed=True)
        in_order = torch.arange(sum(lengths)).split(lengths)
        return [{"hidden": hidden} for hidden in split(state, in_order)]

    device = rows.input_ids.device
    values = model.cache.through("states", keys, compute)
    vectors = [value["hidden"].to(device, non_blocking=True) for value in values]
    return joined(model, pack(rows), layer, edits, vectors)


def stored_logits(model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
    """`model.suffix(state, at=at)` without gradients, of which rows seen before are read.

    Args:
        model: the base model; its cache is read and written.
        rows: the rows asked.
        state: of these rows.
        at: the tokens to predict, row by row.
    """
    with torch.no_grad():
        if not _reads(model, "answers"):
            return model.suffix(state, at=at)
        counts = at.row.bincount(minlength=at.n_rows).tolist()
        begins = rows.attention_mask.int().argmax(1)
        keys = [
            digest("entering the last MLP", key, positions.numpy().tobytes())
            for key, positions in zip(
                row_keys(rows), (at.position - begins[at.row]).cpu().split(counts), strict=True
            )
        ]

        def compute(numbers: list[int]) -> Sequence[Tensors]:
            chosen = torch.tensor(numbers, device=at.row.device)
            hidden = model.answer_state(state.select(chosen), at.select(chosen))
            return [{"hidden": one} for one in hidden.split([counts[n] for n in numbers])]

        values = model.cache.through("answers", keys, compute)
        hidden = torch.cat([value["hidden"].to(at.row.device) for value in values])
        return model.finish_answers(hidden)


def _reads(model: EditableModel, kind: Kind) -> bool:
    return model.cache.holds(kind) and not model.is_edited
