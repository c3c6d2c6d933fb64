"""What the tests of all commands share, made once: a world and two trained editors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import run

MEND = (
    "train.py", "experiment=demo", "editor=mend", "data.limit=48", "trainer.val_every=3",
    "trainer.log_every_n_steps=1", "editor.lr_schedule=constant",
)  # fmt: skip


@pytest.fixture(scope="session")
def world(default_world: Path) -> Path:
    """The default world."""
    return default_world


@pytest.fixture(scope="session")
def mend_on_llava(made_once: Callable[..., Path], world: Path) -> Path:
    """A training of six steps, with all loggers."""

    def train(folder: Path) -> None:
        options = ("trainer.max_steps=6", f"data.root={world}", f"output_dir={folder}")
        printed = run(*MEND, *options)
        assert f"best {folder}/checkpoints/best.ckpt" in printed.replace("\n", "")

    return made_once("mend_on_llava", train)


@pytest.fixture(scope="session")
def continued(made_once: Callable[..., Path], world: Path) -> Path:
    """The same training, stopped after four steps and continued to six."""

    def train(folder: Path) -> None:
        run(*MEND, "trainer.max_steps=4", f"data.root={world}", f"output_dir={folder}")
        run("train.py", f"ckpt={folder}/checkpoints/last.ckpt", "trainer.max_steps=6")

    return made_once("continued", train)


@pytest.fixture(scope="session")
def mend_on_blip2(made_once: Callable[..., Path], world: Path) -> Path:
    """A training of two steps on picture edits."""
    words = (
        "train.py", "experiment=demo", "editor=mend", "model=blip2_opt_tiny", "logger=csv",
        "scenario=multimodal", "data.limit=32", "trainer.max_steps=2", "trainer.val_every=2",
    )  # fmt: skip
    return made_once(
        "mend_on_blip2",
        lambda folder: run(*words, f"data.root={world}", f"output_dir={folder}"),
    )
