"""A second editor on records that a first one was judged on: what both need is stored."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from torch import Tensor

from benchmarks.cases.cached import caching_in, opened_cache
from benchmarks.cases.mend import MendEvaluation
from benchmarks.floor import Floor
from caching.store import Cache
from models.rows import EditBatch


class SecondEditor(MendEvaluation):
    """MEND's evaluation where another editor's has left the cache behind."""

    name = "second_editor"
    brief = "MEND as the second editor on the same records"

    @cached_property
    def _cache(self) -> Cache:
        cache = opened_cache(self.setting)
        with caching_in(self.model, cache):
            super().run(self.batch)
        return cache

    def run(self, batch: EditBatch) -> tuple[Tensor, Tensor]:
        with caching_in(self.model, self._cache):
            return super().run(batch)

    def check(self) -> None:
        super().check()
        taken = self._cache.report()
        assert taken["answers"]["hits"] > 0, "nothing was read from the cache"
        assert taken["pictures"]["hits"] > 0, "no picture was read from the cache"

    def floor(self) -> Floor:
        least = super().floor()
        n_answers = len(self.batch.rows.answers().row)
        left = least.operations["head"] - self.shape.head(n_answers)
        kept = {"vision": 0.0, "unedited": 0.0, "head": left}
        return replace(least, operations={**least.operations, **kept})
