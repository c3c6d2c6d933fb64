"""The cache of a run: opened for its base model, and what the run took from it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from caching.folder import cache_folder
from caching.store import Cache, Kind
from configs.schema import CacheOptions
from models.cache_scope import scope_of
from models.editable import EditableModel

log = logging.getLogger(__name__)
# From here on `auto` is on: reading an entry takes a fraction of a millisecond, and smaller models
# compute one in not much more.
LARGE = 500_000_000
_KINDS: tuple[Kind, ...] = ("pictures", "answers", "states")


def open_cache(
    options: CacheOptions, model: EditableModel, label: str, *, n_weights: int | None = None
) -> Cache:
    """The cache of a base model; one that holds nothing where the options say so.

    Args:
        options: group `cache`.
        model: loaded, on its device.
        label: its name in the configuration.
        n_weights: of all of it, where a part was loaded.
    """
    if options.use == "off":
        return Cache()
    if options.use == "auto" and (n_weights or weights(model)) < LARGE:
        return Cache()
    kinds = [kind for kind in _KINDS if getattr(options, kind)]
    folder, size = cache_folder(options.folder), int(options.gigabytes * 1e9)
    cache = Cache.open(folder, size, scope_of(model, label), kinds)
    if any(map(cache.holds, _KINDS)):
        log.info("cache in %s: %s of this base model", folder, cache.contents)
    return cache


def log_use(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Logs a line for each kind that was looked for."""
    for kind, of in counts.items():
        log.info(
            "%s: %d of %d from the cache (%.1f MB read, %.1f MB written)",
            kind, of["hits"], of["hits"] + of["misses"], of["bytes_read"] / 1e6,
            of["bytes_written"] / 1e6,
        )  # fmt: skip


def weights(model: EditableModel) -> int:
    """Numbers in a model's weights; of quantised layers as they are stored."""
    return sum(parameter.numel() for parameter in model.hf.parameters())


def total(reports: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """What all processes took and gave, by kind.

    >>> total([{"answers": {"hits": 1}}, {"answers": {"hits": 2}}])
    {'answers': {'hits': 3}}
    """
    counts: dict[str, Counter[str]] = {}
    for report in reports:
        for kind, of_kind in report.items():
            counts.setdefault(kind, Counter()).update(of_kind)
    return {kind: dict(of_kind) for kind, of_kind in counts.items()}
