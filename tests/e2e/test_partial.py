"""A training from the cache reads what stands above the split, and ends with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from caching.catalogue import entries_of, holdings
from caching.environment import opened_to_look
from tests.e2e.commands import run
from tests.e2e.conftest import MEND

pytestmark = pytest.mark.e2e
PART, REST = "read from decoder layer", "it is read now"
WORDS = (
    *MEND[1:], "scenario=multimodal", "data.limit=4", "data.filter_known=none", "cache=on",
    "trainer.max_steps=2", "trainer.val_every=1", "editor.batch_size=2", "logger=none",
)  # fmt: skip


def trained(folder: Path, *words: str) -> tuple[dict[str, Any], str]:
    """What `last.ckpt` holds, and the log."""
    run("train.py", *WORDS, f"output_dir={folder}", *words)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return dict(content), (folder / "log.txt").read_text()


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["tmke"] == expected["tmke"]  # editor and fingerprint of the base model
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-6, atol=1e-6)


def forget_an_entry(folder: Path) -> None:
    environment = opened_to_look(folder, write=True)
    (holding,) = holdings(environment)
    entries = entries_of(
        environment, holding.name
    )  # LMDB makes no handle while something is written
    with environment.writing() as transaction:
        largest = max(transaction.cursor(entries), key=lambda entry: len(entry[1]))
        transaction.delete(largest[0], db=entries)


def test_a_second_training_reads_the_upper_part(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("TMKE_CACHE", str(cache))
    whole, log = trained(tmp_path / "whole", f"data.root={world}")
    assert PART not in log
    part, log = trained(tmp_path / "part", f"data.root={world}")
    assert PART in log
    assert REST not in log
    same(part, whole)
    forget_an_entry(cache)
    rest, log = trained(tmp_path / "rest", f"data.root={world}")
    assert PART in log
    assert log.count(REST) == 1
    same(rest, whole)
