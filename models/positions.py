"""How many tokens a language model reads at once, from its config.json alone.

Every token of a row counts, those of its picture among them (BLIP-2's query features, LLaVA's
patches): they stand in the row as the words do. Padding does not. `max_position_embeddings` is the
number, OPT's table of it plus two among them; what scales the rotary positions changes it, as in
vLLM's `_get_and_verify_max_len`:

    linear               max_position_embeddings * factor
    yarn                 original_max_position_embeddings * factor where that is more
    longrope             original_max_position_embeddings: in a longer row, and in all rows beside
                         it, every position is turned by other frequencies
    dynamic, llama3, none  max_position_embeddings; beyond it dynamic does the same to other rows
"""

from __future__ import annotations

import sys

from transformers import PretrainedConfig

from errors import ModelError
from models.rows import Rows

UNLIMITED = sys.maxsize  # of a model that names no number of positions


def max_positions(config: PretrainedConfig) -> int:
    """Tokens that a model reads at once.

    Args:
        config: of the whole model; the language model's part counts.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return UNLIMITED
    rope = getattr(text, "rope_parameters", None) or {}
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor") or 1
    kind = rope.get("rope_type")
    if kind == "linear":
        return int(positions * factor)
    if kind == "yarn":
        return max(positions, int((original or positions) * factor))
    if kind == "longrope":
        return min(positions, original or positions)
    return int(positions)


def check_lengths(rows: Rows, limit: int) -> None:
    """Refuses rows that a model cannot read, where rotary positions would go on in silence.

    Whoever makes the rows says it sooner, and names the record; here none is missed.

    Args:
        rows: padding does not count.
        limit: of the model.

    Raises:
        ModelError: a row is longer.
    """
    if rows.input_ids.shape[1] <= limit:  # the device is not asked for every batch
        return
    longest = int(rows.attention_mask.sum(1).max())
    if longest > limit:
        raise ModelError(
            f"a row of {longest} tokens, those of its picture among them, was given to a model "
            f"that reads {limit} at once (max_position_embeddings in its config.json). Shorten "
            "what stands in the row, leave the record out, or use a model that reads more."
        )
