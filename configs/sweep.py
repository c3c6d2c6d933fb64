"""The jobs of a sweep (-m): each runs whatever became of the others, and a table tells of all.

    python evaluate.py -m editor=none,ft,ike scenario=unimodal,transitive

One function runs a job, in this process or where a launcher sends it (hydra/launcher=submitit_*). A
job that fails says why at once and ends as a `JobFailed`. Hydra's own sweeper would end with the
first of them, so it is not told; other sweepers (Optuna's) are, and go by their own rule. No number
stands for a failure.
"""

import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.table import Table

from configs.between_jobs import between_jobs
from configs.isolation import free_memory, isolated
from configs.overrides import parse_words
from configs.schema import RunConfig
from errors import USER_ERROR, TmkeError, explained_places
from results.log_file import recent
from results.screen import screen

log = logging.getLogger(__name__)
Config = TypeVar("Config", bound=RunConfig)
BUG = 1  # exit status after an error that is no user's mistake
RESUME = (
    "the same sweep with output_dir=DIR, the folder of all its jobs, and resume=true makes what is "
    "missing"
)
_OF_MODEL = ("model", "experiment")  # groups of words that say which base model a job edits
_NOTE = "sweep_job"  # key under which a job leaves its facts in the configuration Hydra brings back
_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_HERE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class JobFailed(CompactHydraException):
    """A job that failed and has said why; it holds on to nothing of the job.

    Args:
        text: what went wrong.
        is_bug: whether it is no mistake that a user can mend.
    """

    def __init__(self, text: str, is_bug: bool) -> None:
        super().__init__(text, is_bug)  # both, so that it can be pickled
        self.text, self.is_bug = text, is_bug

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        words: those of its command line that other jobs do not share.
        status: `done`, `error` (a mistake that the user can mend) or `bug`.
    """

    number: int
    words: str
    status: str
    seconds: float | None
    folder: str
    score: float | None


@dataclass
class Sweep:
    """All jobs of a command.

    Attributes:
        shared: keys that the command line gives one value for all jobs.
        total: number of jobs; None where the sweeper makes them up as it goes.
        results: of the jobs that are back.
        folder: of the job that runs.
        is_repeatable: whether the same words make the same jobs again, as Hydra's own sweeper does.
        is_stopped: whether a job was left by something that is no error: a signal.
    """

    shared: frozenset[str]
    total: int | None = None
    results: list[JobResult] = field(default_factory=list)
    folder: str = ""
    is_stopped: bool = False
    is_repeatable: bool = False

    @classmethod
    def of(cls, words: Sequence[str]) -> "Sweep":
        """The sweep of a command line without flags."""
        overrides = parse_words(words).overrides
        return cls(frozenset(o.key_or_group for o in overrides if not o.is_sweep_override()))

    def run(
        self,
        composed: DictConfig,
        number: int,
        configure: Callable[[], Config],
        main: Callable[[Config], float | None],
    ) -> float | None:
        """Runs one job, in whatever process this is.

        Args:
            composed: the configuration as Hydra hands it out and brings it back.
            number: of the job, from 0.
            configure: makes the checked configuration.
            main: the command.

        Returns:
            The job's score.

        Raises:
            JobFailed: it failed; the reason has been printed.
        """
        words = self._words(HydraConfig.get().overrides.task)
        note: dict[str, object] = {"words": words, "process": _process()}
        log.info("%s: %s", self._title(number), words)
        started, failure, score = time.monotonic(), None, None
        self.is_stopped, self.folder = True, ""  # until this job is over
        try:
            config = configure()
            config.name_job(words)
            with between_jobs.job(), isolated(), explained_places():
                score = main(config)
        except Exception as error:
            failure = _job_failure(error)
        self.is_stopped = False
        free_memory()
        recent.records.clear()  # what it said before it had a folder is not for the next one's log
        note |= {"folder": self.folder, "seconds": time.monotonic() - started}
        with open_dict(composed):
            composed[_NOTE] = note
        if failure is not None:
            raise failure
        return score

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Runs Hydra's sweep in the block, then prints the table.

        Raises:
            SystemExit: 2 where a job failed by a mistake of the user, 1 by a bug.
        """
        plugins = Plugins.instance()
        make = plugins.instantiate_launcher

        def watching(
            *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
        ) -> Launcher:
            vars(plugins).pop("instantiate_launcher", None)  # pickled with jobs that run elsewhere
            launcher = make(hydra_context=hydra_context, task_function=task_function, config=config)
            return _Watched(launcher, self, config)

        # It lists all words of every job; our own line has those that differ.
        logging.getLogger("hydra._internal.core_plugins.basic_launcher").setLevel(logging.WARNING)
        plugins.instantiate_launcher = watching  # type: ignore[assignment, method-assign]
        try:
            yield
        except SystemExit:
            if self.is_stopped or all(result.status == "done" for result in self.results):
                raise  # a signal, or another error that Hydra has told of
        finally:
            vars(plugins).pop("instantiate_launcher", None)
        self._conclude()

    def add(self, number: int, back: JobReturn) -> None:
        """Takes down a job that is back; tells what it said in another process."""
        note = OmegaConf.select(back.cfg, _NOTE) if back.cfg is not None else None
        note = {} if note is None else dict(note)
        words = note.get("words") or self._words(back.overrides or ())
        status, score = "done", None
        if back.status == JobStatus.COMPLETED:
            score = back.return_value
        else:
            error = back._return_value
            is_bug = not isinstance(error, JobFailed) or error.is_bug
            status = "bug" if is_bug else "error"
            if note.get("process") != _process():
                print(f"{self._title(number)}: {error}", file=sys.stderr)
        seconds, folder = note.get("seconds"), str(note.get("folder", ""))
        self.results.append(JobResult(number, words, status, seconds, folder, score))

    def _conclude(self) -> None:
        """Prints what became of the jobs; exits with another status than 0 where one failed."""
        if not self.results:
            return
        screen().print(self._table())
        failed = [result.status for result in self.results if result.status != "done"]
        if not failed:
            return
        how = f" {RESUME[0].upper()}{RESUME[1:]}." if self.is_repeatable else ""
        print(
            f"{len(failed)} of {len(self.results)} jobs failed; what they said stands above.{how}",
            file=sys.stderr,
        )
        sys.exit(BUG if "bug" in failed else USER_ERROR)

    def _table(self) -> Table:
        table = Table(title="Jobs of this sweep", title_justify="left")
        table.add_column("job", justify="right")
        table.add_column("words", overflow="fold")
        table.add_column("status")
        table.add_column("seconds", justify="right")
        table.add_column("score", justify="right")
        table.add_column("folder", overflow="fold")
        for result in self.results:
            score, seconds = result.score, result.seconds
            table.add_row(
                str(result.number + 1),
                result.words,
                result.status,
                "" if seconds is None else f"{seconds:.0f}",
                "" if score is None else f"{score:.4g}",
                result.folder,
                style=None if result.status == "done" else "red",
            )
        return table

    def _title(self, number: int) -> str:
        return f"job {number + 1}" + ("" if self.total is None else f" of {self.total}")

    def _words(self, words: Sequence[str]) -> str:
        """The words of a job that it does not share with all others."""
        overrides = parse_words(map(str, words)).overrides
        return " ".join(str(o.input_line) for o in overrides if o.key_or_group not in self.shared)


class _Watched(Launcher):
    """Any launcher, whose jobs are taken down as they come back."""

    def __init__(self, launcher: Launcher, sweep: Sweep, config: DictConfig) -> None:
        self.launcher, self.sweep = launcher, sweep
        sweeper = config.hydra.sweeper
        self.is_basic = sweeper.get("_target_") == _BASIC
        self.is_here = config.hydra.launcher.get("_target_") == _HERE
        self.in_one_go = self.is_basic and sweeper.get("max_batch_size") is None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Nothing: the launcher inside is set up."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Launches jobs; Hydra's own sweeper is not told of failures, at which it would end."""
        self.sweep.is_repeatable = self.is_basic
        self.sweep.total = len(job_overrides) if self.in_one_go else None
        returns = self._returns(job_overrides, initial_job_idx)
        for number, back in enumerate(returns, start=initial_job_idx):
            self.sweep.add(number, back)
            if self.is_basic and back.status != JobStatus.COMPLETED:
                back.status, back.return_value = JobStatus.COMPLETED, None
        return returns

    def _returns(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """What the jobs came to, in the order of their numbers.

        In this process those of one base model follow each other, so that it is loaded once.
        """
        if not self.is_here:
            return self.launcher.launch(job_overrides, initial_job_idx)
        returns: dict[int, JobReturn] = {}
        for at in by_model(job_overrides):
            (returns[at],) = self.launcher.launch([job_overrides[at]], initial_job_idx + at)
        return [returns[at] for at in range(len(job_overrides))]


def by_model(job_overrides: Sequence[Sequence[str]]) -> list[int]:
    """The places of jobs, those of one model together, models in the order of their first job."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for at, words in enumerate(job_overrides):
        overrides = parse_words(map(str, words)).overrides
        about_model = (
            str(o.input_line)
            for o in overrides
            if (o.key_or_group or "").split(".")[0] in _OF_MODEL
        )
        groups.setdefault(tuple(about_model), []).append(at)
    return [at for places in groups.values() for at in places]


def _job_failure(error: Exception) -> JobFailed:
    """Prints what went wrong, a bug with its traceback; neither is kept with its objects."""
    if isinstance(error, TmkeError):
        print(f"error: {error}", file=sys.stderr)
        return JobFailed(str(error), is_bug=False)
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr)
    return JobFailed(text, is_bug=True)


def _process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
