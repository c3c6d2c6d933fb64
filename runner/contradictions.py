"""`protocol.contradictions=error`, as early as the records alone say which edits are made."""

from __future__ import annotations

from configs.schema import EditingConfig, EvaluateConfig
from datamodules.datamodule import EditDataModule
from lightning_modules.turns import Contradictions, turns_of


def check_contradictions(cfg: EditingConfig, data: EditDataModule) -> None:
    """Refuses edits that contradict each other in one update, before any weights load.

    Where the model is the one to say which records are edits, since it leaves out facts that it
    does not know or rows that it cannot read, the evaluation refuses them.

    Args:
        cfg: the configuration.
        data: its records are checked.

    Raises:
        ConfigError: names the first ones.
    """
    if not isinstance(cfg, EvaluateConfig) or cfg.protocol.contradictions != "error":
        return
    protocol, source = cfg.protocol, data.source.of("test")
    skips = cfg.editor.asks_longer and source.on_error == "skip"
    if protocol.n is None or source.filter_known != "none" or skips:
        return
    places = list(data.record_tokens("test"))[: protocol.n[-1]]
    records = [source.records("test")[place] for place in places]
    turns = turns_of(protocol.name, protocol.n, protocol.turn)
    contradictions = Contradictions.of(records, turns)
    contradictions.refuse(records, lambda edit: data.source.place("test", places[edit]))
