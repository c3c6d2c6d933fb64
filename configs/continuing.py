"""What may be typed anew for a training that goes on: what is applied, and what moves no number.

Everything else is refused, each setting by its name: a checkpoint's weights, the order of its edits
and its best loss belong to the settings that they come from.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from configs.overrides import leaves, sections_of
from editors.options import TrainedEditorOptions
from editors.registry import editor_names, registration

# How long, how often, and how fast: set anew at every start. Rates are named by the editors.
_APPLIED = {
    "editor.max_iterations", "editor.grad_clip", "trainer.max_steps", "trainer.max_time",
    "trainer.val_every", "trainer.patience", "trainer.save_every",
}  # fmt: skip
# Of the group `trainer` these say what is learned from, or by which numbers; the others where.
_OF_THE_TRAINING = {
    "trainer.precision", "trainer.limit_train_batches", "trainer.limit_val_batches",
    "trainer.overfit_batches", "trainer.fast_dev_run",
}  # fmt: skip
# Places, speed, and what only evaluations ask. What is in a place is checked by its content, and
# editor.batch_size times the number of processes where that number is known.
_FREE = {
    "ckpt", "output_dir", "overwrite", "resume", "threads", "logger", "cache", "trainer",
    "evaluate", "callbacks", "data.root", "data.image_root", "data.num_workers",
    "data.allow_overlap", "data.train.allow_overlap",
    "data.vlkeb_root", "data.train.root", "data.train.image_root", "data.train.num_workers",
    "model.path", "model.device_map", "model.max_memory",
    "editor.scope.encoder", "editor.counterfactual.path", "editor.batch_size",
    "editor.net_batch",
}  # fmt: skip


def changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What differs from the settings that a training had so far.

    Args:
        stored: its configuration; keys that only one of both has are of another version.
        now: the configuration that it is to go on with.

    Returns:
        Sentences for what is applied from here on; clauses for what cannot be.
    """
    applied, refused = [], []
    for key, before, after in _differing(stored, now):
        if _is_applied(key):
            applied.append(f"{key}={after} is applied from here on; it was {before}")
        elif key in _OF_THE_TRAINING or not sections_of(key) & _FREE:
            refused.append(f"{key} was {before!r} and is {after!r}")
    return applied, refused


def _differing(
    stored: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Keys with both values; of a group that is another one its name alone."""
    for section in (name for name in now if name in stored):
        old, new = stored[section], now[section]
        name, other = (s.get("name") if isinstance(s, Mapping) else None for s in (old, new))
        if name != other:
            yield section, name, other
            continue
        before, after = leaves({section: old}), leaves({section: new})
        for key in sorted(before.keys() & after.keys()):
            if before[key] != after[key]:
                yield key, before[key], after[key]


def _is_applied(key: str) -> bool:
    section, _, name = key.partition(".")
    return key in _APPLIED or (section == "editor" and name in _rates())


def _rates() -> set[str]:
    options = [registration(name).options for name in editor_names()]
    return {rate for o in options if issubclass(o, TrainedEditorOptions) for rate in o.rates}
