"""Whether `evaluate.tokens` is as much as one edit has: as early as the records alone say it."""

from __future__ import annotations

from collections.abc import Mapping

from configs.schema import EditingConfig
from datamodules.datamodule import EditDataModule
from datamodules.source import RecordSource, Split
from errors import ConfigError


def check_records(cfg: EditingConfig, data: EditDataModule) -> None:
    """Refuses a bound before any weights load.

    Rows are tokenised without the model, but it may be the one to say which records are edits: it
    leaves out facts that it does not know, and records whose rows get too long behind the texts of
    an editor. Then a bound is refused here where no record fits, and otherwise by
    `check_edits`, once the edits are known.

    Args:
        cfg: the configuration.
        data: its records are checked.

    Raises:
        ConfigError: no batch can be as small as `evaluate.tokens`.
    """
    bound = cfg.evaluate.tokens
    for split in data.scenarios:
        if bound is None or split == "train":
            continue
        source, counts = data.source.of(split), data.record_tokens(split)
        skips = cfg.editor.asks_longer and source.on_error == "skip"
        are_edits = source.filter_known == "none" and not skips
        if are_edits or min(counts.values()) > bound:
            check_edits(bound, counts, data.source, split)


def check_edits(bound: int, counts: Mapping[int, int], source: RecordSource, split: Split) -> None:
    """Refuses a bound that an edit exceeds.

    Args:
        bound: `evaluate.tokens`.
        counts: place of a record in its split -> tokens of its rows.
        source: of the records.
        split: theirs.

    Raises:
        ConfigError: an edit has more tokens; says which has most.
    """
    longer = [place for place, count in counts.items() if count > bound]
    if not longer:
        return
    longest = max(longer, key=counts.__getitem__)
    raise ConfigError(
        f"evaluate.tokens={bound} is less than {len(longer)} of {len(counts)} edits have, each "
        f"with all its probes: {source.place(split, longest)} "
        f"({source.records(split)[longest].about}) has {counts[longest]}. Give {counts[longest]} "
        "or more, or null."
    )
