"""How many edits are judged side by side: `evaluate.batch_size` and `evaluate.tokens`.

    B = min(batch_size, tokens / t, budget / m)        t, m: tokens and bytes of the longest edit

`auto` leaves the first term to the device: B goes up to where a pass is long enough. Bytes are
counted from the packed rows of the longest edit, not tried out, so that they are the same on every
card of a kind; edits of a split ask the same probes and are of like length.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from configs.schema import EditingConfig, EvaluateOptions
from datamodules.datamodule import EditDataModule
from datamodules.source import Split
from editors.base import HoldsMemory
from models.budget import decoder_bytes, logit_bytes, state_bytes, vision_bytes
from models.device_memory import GB
from models.editable import EditableModel
from models.packing import pack
from models.rows import EditBatch
from results.outcome import all_gather_objects
from results.partial import BatchResult
from runner.assembly import Parts
from runner.token_bound import check_edits

log = logging.getLogger(__name__)
# Tokens of a batch from where a device is busy: more only make longer what a kill loses.
BUSY, CPU_BUSY = 2**17, 2**14
MOST = 256  # edits
_PADDED = 1.06  # places that packed rows are read in, of their tokens


def settle_batch_size(cfg: EditingConfig, parts: Parts, editor: object, split: Split) -> None:
    """Sets the batch size of validation and test; every process has to call this.

    Args:
        cfg: the configuration.
        parts: data, set up, and base model.
        editor: that is judged.
        split: of the edits that are judged.

    Raises:
        ConfigError: `evaluate.tokens` is less than one edit has.
    """
    size = choose_batch_size(cfg.evaluate, parts.data, split, parts.model, editor)
    parts.data.eval_batch_size = min(all_gather_objects(size))


def choose_batch_size(
    options: EvaluateOptions,
    data: EditDataModule,
    split: Split,
    model: EditableModel,
    editor: object,
) -> int:
    """Edits in a batch of a split that is set up; the log says how many, and why.

    Raises:
        ConfigError: `evaluate.tokens` is less than one edit has.
    """
    tokens = data.tokens(split)
    longest = max(range(len(tokens)), key=tokens.__getitem__)
    limits: dict[str, int] = {}
    if options.tokens is not None:
        counts = dict(zip(data.served[split], tokens, strict=True))
        check_edits(options.tokens, counts, data.source, split)
        limits[f"evaluate.tokens={options.tokens}"] = options.tokens // tokens[longest]
    if options.batch_size != "auto":
        limits[f"evaluate.batch_size={options.batch_size}"] = options.batch_size
    else:
        each = edit_bytes(model, editor, data.batch(split, [longest]))
        if each > model.budget.bytes:
            log.warning(
                "one edit takes about %.1f GB beside the base model, and trainer.memory comes to "
                "%.1f GB: edits are judged one by one",
                each / GB, model.budget.bytes / GB,
            )  # fmt: skip
        busy = CPU_BUSY if model.device.type == "cpu" else BUSY
        limits |= {
            f"{model.budget.bytes / GB:.1f} GB for about {each / GB:.2g} GB each": (
                model.budget.fit(each)
            ),
            f"{busy} tokens keep the device busy": max(1, busy // tokens[longest]),
            f"at most {MOST}": MOST,
            f"the {split} split has no more": len(tokens),
        }
    why, size = min(limits.items(), key=lambda item: item[1])
    if options.batch_size != size:
        log.info(
            "evaluate.batch_size=%s: %d edits side by side (%s; the longest edit has %d tokens)",
            options.batch_size, size, why, tokens[longest],
        )  # fmt: skip
    return size


def continued_batch_size(options: EvaluateOptions, done: Sequence[BatchResult], size: int) -> int:
    """The batch size of a run whose first batches are done.

    With `auto` it is theirs, whatever room the device has now: a batch is done as a whole.

    Args:
        options: section `evaluate`.
        done: batches of an earlier run; none in a new one.
        size: what this one would take.
    """
    if options.batch_size != "auto":
        return size
    return max((len(batch.edit_ids) for batch in done), default=size)


def edit_bytes(model: EditableModel, editor: object, batch: EditBatch) -> int:
    """Bytes that an evaluation holds for the edits of a batch, beyond what comes in parts.

    The state and the pictures stay; beside them the tower is at work on all pictures, or later a
    layer beside the logits of both models, their ranks, and what the editor says that it holds.
    """
    rows = batch.rows
    places = longest = rows.input_ids.numel()
    if model.packed_mask is not None:
        lengths = pack(rows).filled.sum(1)
        places, longest = round(int(lengths.sum()) * _PADDED), int(lengths.max())
    answers = int(rows.answer_mask.sum())
    pictures = 0 if rows.pixel_values is None else len(rows.pixel_values)
    pixels = 0 if rows.pixel_values is None else rows.pixel_values.nbytes
    held = editor.held_bytes(model, batch) if isinstance(editor, HoldsMemory) else 0
    answering = decoder_bytes(model, places, longest) + 2 * logit_bytes(model, answers) + held
    return state_bytes(model, places) + pixels + max(vision_bytes(model, pictures), answering)
