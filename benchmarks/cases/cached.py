"""A cache for one benchmark: all of them share the model, and none may read what another kept."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.setting import Setting
from caching.store import Cache, Kind
from models.cache_scope import scope_of
from models.editable import EditableModel

SIZE = 2**32
_KINDS: tuple[Kind, ...] = ("pictures", "answers", "states")


def opened_cache(setting: Setting) -> Cache:
    """A cache with nothing in it, in a folder that goes with it."""
    folder = tempfile.TemporaryDirectory()
    cache = Cache.open(Path(folder.name), SIZE, scope_of(setting.model, setting.name), _KINDS)
    weakref.finalize(cache, folder.cleanup)
    return cache


@contextmanager
def caching_in(model: EditableModel, cache: Cache) -> Iterator[None]:
    """The model reads from a cache and writes to it, inside the block only."""
    before, model.cache = model.cache, cache
    try:
        yield
    finally:
        model.cache = before
