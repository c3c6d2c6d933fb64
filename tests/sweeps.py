"""Sweeps of a command that does nothing much, run by Hydra in the process of the test."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]
import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from configs.launch import run_command
from configs.overrides import parse_words, sweep_jobs

Main = Callable[[Any], float | None]


def sweep(monkeypatch: pytest.MonkeyPatch, main: Main, *words: str) -> int:
    """The exit status of `evaluate.py -m editor=ft WORDS` with another `main`."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "editor=ft", "experiment=demo", *words])
    try:
        run_command("evaluate", main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def plugin(monkeypatch: pytest.MonkeyPatch, kind: type) -> str:
    """The word that makes Hydra use a launcher or sweeper of the tests."""
    # Hydra takes plugins from one package alone.
    monkeypatch.setattr(Plugins, "is_in_toplevel_plugins_module", staticmethod(lambda _: True))
    Plugins.instance().register(kind)
    group = "launcher" if issubclass(kind, Launcher) else "sweeper"
    return f"hydra.{group}._target_={kind.__module__}.{kind.__qualname__}"


class Elsewhere(BasicLauncher):
    """Runs every job in a process of its own, which gets and gives back pickles."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        self.task_function = cloudpickle.dumps(self.task_function)
        return [
            self._one([words], number)
            for number, words in enumerate(job_overrides, start=initial_job_idx)
        ]

    def _one(self, words: Sequence[Sequence[str]], number: int) -> JobReturn:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            self.task_function = pickle.loads(self.task_function)
            (back,) = super().launch(words, number)
            with os.fdopen(write, "wb") as stream:
                cloudpickle.dump(back, stream)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as stream:
            back = pickle.load(stream)
        os.waitpid(pid, 0)
        return back


class Scores(Sweeper):
    """Remembers what every job came to: its score, or the error that Hydra hands out for it."""

    seen: ClassVar[list[object]] = []

    def __init__(self, **options: object) -> None:
        """Takes the options of Hydra's own sweeper, whose place it takes."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        assert self.launcher is not None
        jobs = sweep_jobs(parse_words(arguments).overrides)
        for back in self.launcher.launch(jobs, initial_job_idx=0):
            try:
                self.seen.append(back.return_value)
            except Exception as error:
                self.seen.append(error)
