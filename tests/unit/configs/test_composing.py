"""What is kept of a composition equals what Hydra composes anew."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from configs import composing
from configs.composing import CONFIG_DIR, chosen_mode, composed, hydra_ready
from configs.launch import run_command

CHOICES = ("experiment=demo", "editor=mend", "scenario=multimodal", "~logger")


def by_hydra(words: tuple[str, ...]) -> Any:
    """Nested plain Python, or the message of what Hydra refuses."""
    return plain_or_message(lambda: compose("evaluate", list(words)))


def plain_or_message(make: Any) -> Any:
    try:
        return OmegaConf.to_container(make(), resolve=False)
    except HydraException as error:
        return str(error)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.limit=5", "editor.lr=3e-4", "trainer.precision=bf16-true", "output_dir='a b'"),
        ("evaluate={batch_size:7}",),  # a section
        ("evaluate.batch_size=7", "evaluate=3"),
        ("evaluate=3", "evaluate.batch_size=7"),  # a key of what is no section any more
        ("evaluate.batch_size=${seed}", "seed=3"),
        ("editor.lr=1", "++editor.lr=2"),
        ("++editor.lr=2", "editor.lr=1"),
        ("editor.lr=1", "editor={lr:2}"),  # the section, and no option of the group
        ("editor={lr:2}", "editor.lr=1"),
        ("~editor.lr",),
        ("+callbacks.mine._target_=a.B", "callbacks.mine._target_=a.C"),
        ("editor.lrr=1",),
        ("editor.lr.x=1",),
        ("editor.lr@data=1",),
        ("seed=1,2",),
        ("hydra.job.name=x", "seed=1"),
    ],
)
def test_choices_are_composed_once_and_values_are_set_as_hydra_sets_them(
    changes: tuple[str, ...],
) -> None:
    words = (CHOICES[0], *changes[:1], *CHOICES[1:], *changes[1:])
    with hydra_ready():
        expected = by_hydra(words)
        assert plain_or_message(lambda: composed("evaluate", words)) == expected
        again = plain_or_message(lambda: composed("evaluate", CHOICES))
        assert again == by_hydra(CHOICES), "a change is on a copy"


def test_the_mode_is_what_a_chosen_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIG_DIR, configs, ignore=shutil.ignore_patterns("*.py*", "__pycache__"))
    (configs / "experiment" / "of_many.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n"
    )
    monkeypatch.setattr(composing, "CONFIG_DIR", configs)
    with hydra_ready():
        assert chosen_mode("evaluate", ["experiment=of_many", "seed=1"]) is RunMode.MULTIRUN
        assert chosen_mode("evaluate", ["editor=none", "seed=1"]) is None


def test_a_run_is_composed_for_its_check_and_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["editor=none", "experiment=demo", "seed=31", f"output_dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *words])
    composing.composed.cache_clear()
    composing._chosen.cache_clear()
    compositions, seeds = [], []
    load = ConfigLoaderImpl.load_configuration

    def counted(self: ConfigLoaderImpl, *args: Any, **options: Any) -> Any:
        compositions.append(options["overrides"])
        return load(self, *args, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    run_command("evaluate", lambda config: seeds.append(config.seed))
    assert seeds == [31]
    assert [composition[:2] for composition in compositions] == [words[:2], words[:2]]
