"""One run of ours as a run of Weights & Biases, which never ends or delays ours.

    group     <editor>-<model>-<scenario>    the trainings and evaluations that belong together
    job type  train | evaluate | pretrain
    tags      editor:mend, model:llava, scenario:unimodal, data:tmke, protocol:single
    id        drawn at the first start in a folder and kept there, one line per start: who continues
              in that folder continues the W&B run

Without the package, with a full disk or after a crash of its service, W&B is off for the rest of
the run, and one warning says so.
"""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from configs.schema import RunConfig
from results.files import is_first_process, write_text

log = logging.getLogger(__name__)

FOLDER, RUN_ID = "wandb", "run-id"  # below the output folder
STEP = "trainer/global_step"  # as Lightning calls the x-axis of curves
_GROUP_LENGTH, _TAG_LENGTH = 128, 64  # longest names that W&B takes
_START_SECONDS, _FINISH_SECONDS = "30", "300"  # how long an online run waits for its server
_HOST = "https://api.wandb.ai"
_PROBE_BYTES = 64 * 1024
_LINES = 10_000_000  # more than a run logs between two starts


class GuardedWandb(WandbLogger):
    """Lightning's logger, whose failures are told once and go no further.

    Args:
        run: the W&B run; None in all processes but the first, which log nothing.
    """

    def __init__(self, run: Any, cfg: RunConfig, folder: Path) -> None:
        run_id = None if run is None else run.id
        super().__init__(
            project=cfg.logger.project, save_dir=str(folder), id=run_id, experiment=run
        )
        self.lost = False
        self._folder, self._without = folder, _written_without(cfg, folder)

    @property
    def folder(self) -> Path:
        """Where W&B's files lie, below the output folder."""
        return self._folder / FOLDER

    def attempt(self, call: Callable[[], object]) -> None:
        """Makes a call to W&B, unless an earlier one failed or this is not the first process."""
        if self.lost or self._experiment is None:
            return
        try:
            call()
        except Exception as error:  # whatever fails in it, a logger must not end a run
            self._give_up(f"{type(error).__name__}: {error}")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.attempt(partial(super().log_metrics, metrics, step))

    def log_hyperparams(self, params: Any) -> None:
        self.attempt(partial(super().log_hyperparams, params))

    def log_table(self, key: str, *args: Any, **kwargs: Any) -> None:
        self.attempt(partial(super().log_table, key, *args, **kwargs))

    def log_image(self, key: str, images: list[Any], *args: Any, **kwargs: Any) -> None:
        self.attempt(partial(super().log_image, key, images, *args, **kwargs))

    def finalize(self, status: str) -> None:
        """Lightning's end of a training; the run stays open for what comes after it."""
        self.attempt(partial(super().finalize, status))

    def close(self, *, failed: bool) -> None:
        """Ends the W&B run, as one that failed or not, and W&B's processes."""
        run = self._experiment
        if run is None:
            return
        finish = partial(run.finish, exit_code=int(failed))
        if self.lost:  # told already; without this W&B would try again when Python exits
            with suppress(Exception):
                finish()
        else:
            self.attempt(finish)
        _end_service()
        problem = None if self.lost else _write_problem(self._folder / FOLDER)
        if problem:  # W&B's service drops what it cannot write without a word
            self._give_up(f"{problem}; its copy of the curves may lack the end")

    def _give_up(self, why: str) -> None:
        self.lost = True
        reason = " ".join(why.split())
        log.warning("W&B is off for the rest of this run (%s); %s", reason, self._without)


@contextmanager
def open_wandb(cfg: RunConfig, folder: Path, name: str) -> Iterator[GuardedWandb | None]:
    """W&B for the length of a run.

    Args:
        cfg: what the user asked for; all of it is shown with the W&B run.
        folder: the output folder; W&B writes below its `wandb`.
        name: of the W&B run.

    Yields:
        The logger; None where W&B is off, not installed or cannot start.
    """
    mode = _mode(cfg, folder)
    if mode is None:
        yield None
    elif not is_first_process():
        yield GuardedWandb(None, cfg, folder)
    else:
        with _environment(folder):
            logger, failed = _start(cfg, folder, name, mode), True
            try:
                yield logger
                failed = False
            finally:
                if logger is not None:
                    logger.close(failed=failed)


def grouping(cfg: RunConfig) -> dict[str, Any]:
    """Where W&B shows a run: `group`, `job_type` and `tags`.

    Names are joined with hyphens since W&B's pages of a group fail on special characters.
    """
    names = {
        key: getattr(part, "label", part.name)
        for key in ("editor", "model", "scenario", "data", "protocol")
        if (part := getattr(cfg, key, None)) is not None
    }
    if "editor" in names:
        group = [names["editor"], names["model"], names["scenario"]]
    else:
        group = [cfg.command, names["model"], names["data"]]
    return {
        "group": "-".join(group)[:_GROUP_LENGTH],
        "job_type": cfg.command,
        "tags": [f"{key}:{value}"[:_TAG_LENGTH] for key, value in names.items()],
    }


def _start(cfg: RunConfig, folder: Path, name: str, mode: str) -> GuardedWandb | None:
    """The started run; one that finds no server is kept offline."""
    problem = ""
    for attempted_mode in dict.fromkeys((mode, "offline")):
        try:
            logger = GuardedWandb(_init(cfg, folder, name, attempted_mode), cfg, folder)
        except Exception as error:  # whatever fails in it, a logger must not end a run
            problem = " ".join(str(error).split()) or type(error).__name__
            _end_service()
        else:
            if problem:
                log.warning("W&B has no connection (%s): this run is kept offline", problem)
            return logger
    log.warning("W&B could not start (%s); %s", problem, _written_without(cfg, folder))
    return None


def _init(cfg: RunConfig, folder: Path, name: str, mode: str) -> Any:
    """A started W&B run, whose curves are drawn over optimiser steps."""
    os.environ["WANDB_MODE"] = mode  # as an argument of init alone it leaves W&B's telemetry on
    if cfg.command == "evaluate":
        _forget_starts(folder)
    run_id, earlier_starts = _note_start(folder)
    run = import_module("wandb").init(
        project=cfg.logger.project,
        entity=cfg.logger.entity,
        name=name,
        dir=str(folder),
        mode=mode,
        id=run_id,
        resume="allow",
        reinit="create_new",  # whatever else this process logs is left alone
        config=cfg.plain(),
        **grouping(cfg),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    if earlier_starts:  # an offline run counts its lines from 0 again; W&B wants them to ascend
        run.log({}, step=earlier_starts * _LINES)
    for handler in logging.getLogger("wandb").handlers:
        # Its own log lies on the same disk; Python would print a traceback for every lost line.
        handler.handleError = lambda record: None  # type: ignore[method-assign]
    return run


def _written_without(cfg: RunConfig, folder: Path) -> str:
    """What a run writes without W&B, for warnings."""
    if cfg.command == "evaluate":
        return f"edits.parquet, summary.json and table.md are written to {folder} all the same"
    if cfg.logger.csv:
        return f"metrics.csv with the curves is written to {folder} all the same"
    return "the run goes on without curves, since logger.csv=false"


def _mode(cfg: RunConfig, folder: Path) -> str | None:
    """`online` or `offline`; None for no W&B. WANDB_MODE can keep a run from going online."""
    environment = os.environ.get("WANDB_MODE")
    option = cfg.logger.wandb
    if option == "off" or environment == "disabled":
        return None
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:  # a folder called wandb is no package
        log.warning("wandb is not installed (pip install wandb); %s", _written_without(cfg, folder))
        return None
    if option == "offline" or environment in ("offline", "dryrun"):
        return "offline"
    if _logged_in():
        return "online"
    if option == "online":
        log.warning(
            "logger.wandb=online, but there is no W&B login (wandb login, or WANDB_API_KEY): "
            "this run is kept offline"
        )
    return "offline"


def _logged_in() -> bool:
    """Whether a key is at hand; W&B itself would ask for one, unseen by who reads a log."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
        server = os.environ.get("WANDB_BASE_URL") or import_module("wandb").Settings().base_url
    except (OSError, netrc.NetrcParseError, ImportError, AttributeError):
        return False
    return any(keys.authenticators(urlsplit(url).netloc) for url in (server, _HOST))


def _note_start(folder: Path) -> tuple[str, int]:
    """Notes a start in a folder: the id of its W&B run, and the number of earlier starts.

    The id is no hash of the folder's path: two machines may use the same path, and W&B never takes
    an id again whose run was deleted.
    """
    file = folder / FOLDER / RUN_ID
    starts = file.read_text(encoding="utf-8").split() if file.is_file() else []
    run_id = starts[0] if starts else secrets.token_hex(6)
    write_text(file, "".join(f"{run_id}\n" for _ in (*starts, run_id)))
    return run_id, len(starts)


def _forget_starts(folder: Path) -> None:
    """Removes what earlier starts left here: all of an evaluation is sent at its end, in one go.

    Without this `wandb sync` would send the half of one that was killed, and then the whole.
    """
    for pattern in ("offline-run-*", "run-*"):
        for start in (folder / FOLDER).glob(pattern):
            if start.is_dir() and not start.is_symlink():
                shutil.rmtree(start, ignore_errors=True)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """The variables that W&B reads, until the end of the run; those that are set stay."""
    defaults = {
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str((folder / FOLDER).resolve()),  # pictures of tables; else in the home
        "WANDB_INIT_TIMEOUT": _START_SECONDS,
        "WANDB_FINISH_TIMEOUT": _FINISH_SECONDS,
    }
    before = {key: os.environ.get(key) for key in (*defaults, "WANDB_MODE")}
    os.environ.update(defaults | {key: value for key, value in before.items() if value is not None})
    asyncio_log = logging.getLogger("asyncio")
    level = asyncio_log.level
    asyncio_log.setLevel(logging.ERROR)  # it warns of every line sent to a service that crashed
    try:
        yield
    finally:
        asyncio_log.setLevel(level)
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def _end_service() -> None:
    """Stops W&B's processes; the next run of a sweep starts new ones, with its own settings."""
    with suppress(Exception, SystemExit):  # a service that crashed makes it exit
        import_module("wandb").teardown()


def _write_problem(folder: Path) -> str | None:
    """Why nothing can be written into a folder; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return str(error)
    return None
