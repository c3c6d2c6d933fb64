"""What protocol=sequential and =batch need of the data, as early as the records alone say it."""

from __future__ import annotations

from configs.schema import EditingConfig, EvaluateConfig
from datamodules.datamodule import EditDataModule
from lightning_modules.turns import Contradictions, check_number, turns_of


def check_many_edits(cfg: EditingConfig, data: EditDataModule) -> None:
    """Refuses too few records, and edits of one update that contradict each other.

    Called before any weights load. Where the model is the one to say which records are edits, since
    it leaves out facts that it does not know or rows that it cannot read, the evaluation refuses
    what is left (`lightning_modules.many_edits`).

    Args:
        cfg: the configuration.
        data: its records are checked.

    Raises:
        ConfigError: there are fewer than the last point of the protocol; or
            `protocol.contradictions=error`, and there are some, of which it names the first ones.
    """
    if not isinstance(cfg, EvaluateConfig) or (points := cfg.protocol.n) is None:
        return
    protocol, source = cfg.protocol, data.source.of("test")
    places = list(data.record_tokens("test"))[: points[-1]]
    check_number(points, len(places), data.source.name)
    skips = cfg.editor.asks_longer and source.on_error == "skip"
    if protocol.contradictions != "error" or source.filter_known != "none" or skips:
        return
    records = [source.records("test")[place] for place in places]
    turns = turns_of(protocol.name, points, protocol.turn)
    contradictions = Contradictions.of(records, turns)
    contradictions.refuse(records, lambda edit: data.source.place("test", places[edit]))
