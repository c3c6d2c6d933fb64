"""The processes of a parallel run come together, agree on its settings, and end together.

The first process of a machine launches the others before anything is loaded, so that all load side
by side (Lightning runs the command again with their rank in the environment); torchrun and srun
start all from outside. From then on there is a process group, and a failure anywhere ends every
process with the message and the status of the one that failed (`runner.watch`).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed

from configs.out_of_memory import is_out_of_memory
from configs.overrides import leaves
from configs.signals import requeue_after
from errors import SIGNALLED, USER_ERROR, ConfigError, Stopped, TmkeError
from runner.watch import End, Watch

log = logging.getLogger(__name__)
_LONGEST_WAIT = 600.0  # seconds for all processes to come
_UNUSUAL_WAIT = 60.0  # the user is told
_WAIT_FOR_LAUNCHER = 30.0  # which was there before the processes that it launched
_TIMEOUT = timedelta(minutes=30)  # of a collective; a failure elsewhere ends it at once
_PATIENCE = 5.0  # seconds in which a process that broke a connection is heard of
_HUB = "hub"  # key in the store
_LAUNCHED = "TMKE_LAUNCHED"  # in the environment of processes that another one of ours started
_VARIABLES = (
    "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS",
    _LAUNCHED,
)  # fmt: skip
# What may differ between processes; the first one's is taken.
_OF_THE_FIRST = frozenset({"output_dir"})


class AnnounceFailure(Callback):
    """Tells the other processes of an error before Lightning tears down, which may hang then."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        del trainer, pl_module
        if not (isinstance(exception, Stopped) and exception.is_in_time):  # as in all processes
            _announce(self._watch, exception)


@dataclass(frozen=True)
class Agreement:
    """What the processes of a run have settled.

    Attributes:
        settings: those of the first process that may differ from this one's.
        callbacks: for the trainer that is used.
    """

    settings: Mapping[str, Any]
    callbacks: tuple[Callback, ...]


@contextmanager
def together(trial: L.Trainer, settings: Mapping[str, Any]) -> Iterator[Agreement]:
    """Holds the processes of a trainer together.

    Args:
        trial: a trainer of several processes, which will not be used.
        settings: the configuration of this process, as plain values.

    Raises:
        ConfigError: the processes cannot come together or have different settings.
        SystemExit: another process has failed, and says why.
    """
    environment = _environment_of(trial)
    before = {name: os.environ.get(name) for name in _VARIABLES}
    watch = Watch(trial.global_rank, trial.world_size, last_words)
    try:
        store = _open_store(environment, watch)
        plain = json.loads(json.dumps(settings, default=str))
        _meet(watch, environment.main_address, store, plain)
        _launch(watch, trial)
        agreed = _agree(watch, plain)
        _join_group(trial, store)
        yield Agreement(agreed, (AnnounceFailure(watch),))
        watch.finish()
    except BaseException as error:
        _announce(watch, error)
        _abandon_group()
        watch.outlive_others()
        if watch.speaks or watch.end is None:
            raise
        sys.exit(watch.end.status)
    else:
        distributed.destroy_process_group()
        watch.outlive_others()
    finally:
        watch.close()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _environment_of(trial: L.Trainer) -> ClusterEnvironment:
    """Who starts the processes.

    Raises:
        ConfigError: somebody has started another number of them, or in a way that is not ours.
    """
    environment = getattr(trial.strategy, "cluster_environment", None)
    size = trial.world_size
    if environment is None or not isinstance(trial.strategy.launcher, _SubprocessScriptLauncher):
        raise ConfigError(
            "trainer.strategy starts its processes as copies of this one, which loses their "
            "results; use ddp, which runs the command again."
        )
    ours = isinstance(environment, LightningEnvironment)
    if not ours and environment.world_size() != size:
        raise ConfigError(
            f"trainer.devices={trial.num_devices} trainer.num_nodes={trial.num_nodes} are {size} "
            f"processes, and {environment.world_size()} were started. Under SLURM both should be "
            "--ntasks-per-node and --nodes, under torchrun --nproc-per-node and --nnodes."
        )
    return environment


def _open_store(environment: ClusterEnvironment, watch: Watch) -> distributed.Store:
    """The key-value store in which the processes find each other.

    Raises:
        ConfigError: the first process cannot open it, or is not to be found.
    """
    of_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    launches = watch.rank == 0 and not environment.creates_processes_externally
    host = environment.main_address
    port = 0 if launches and "MASTER_PORT" not in os.environ else environment.main_port
    is_launched = _LAUNCHED in os.environ
    wait = _WAIT_FOR_LAUNCHER if is_launched else _LONGEST_WAIT
    try:
        store = distributed.TCPStore(
            host, port, is_master=watch.rank == 0 and not of_agent, wait_for_workers=False,
            timeout=timedelta(seconds=wait),
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        if is_launched:  # and its launcher is gone
            sys.exit(USER_ERROR)
        raise ConfigError(
            f"the processes of this run do not find each other at {host}:{port} "
            f"({str(error).splitlines()[0]}). Set MASTER_ADDR to the first machine and MASTER_PORT "
            "to a free port there, the same for all processes."
        ) from error
    if launches:
        os.environ["MASTER_PORT"] = str(store.port)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps its store
    return distributed.PrefixStore(f"tmke-{attempt}", store)


def _meet(watch: Watch, host: str, store: distributed.Store, settings: object) -> None:
    """Connects every process with the first one.

    Raises:
        ConfigError: the first one is out of reach.
    """
    if watch.rank == 0:
        token = secrets.token_hex(16)
        store.set(_HUB, f"{watch.serve(host, token)} {token}")
        return
    port, token = store.get(_HUB).decode().split()
    try:
        watch.connect(host, int(port), token, settings)
    except OSError as error:
        raise ConfigError(
            f"rank {watch.rank} does not reach the first process at {host}:{port} "
            f"({error.strerror or error}). The machines of a run talk over ports that the system "
            "chooses, as their GPUs do: let a firewall pass those, or take one machine."
        ) from error


def _launch(watch: Watch, trial: L.Trainer) -> None:
    """Starts the other processes of this machine, where that is ours to do.

    Raises:
        ConfigError: they were started from outside in a way that the trainer's options deny.
    """
    launcher = trial.strategy.launcher
    assert isinstance(launcher, _SubprocessScriptLauncher)
    os.environ[_LAUNCHED] = "1"
    try:
        launcher.launch(lambda: None, trainer=trial)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    first = trial.global_rank + 1
    watch.look_after(dict(enumerate(launcher.procs, start=first)))
    launcher.procs.clear()  # Lightning's observer would kill this process, its message unsaid


def _agree(watch: Watch, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the first process that may differ, in all processes.

    Raises:
        ConfigError: in the first process: some are missing, or others differ.
    """
    if watch.rank > 0:
        watch.wait(lambda: watch.heard("agreed"))
        agreed: dict[str, Any] = watch.message("agreed")
        return agreed
    _wait_for_all(watch)
    differing = _differences({0: settings} | watch.hellos())
    if differing:
        raise ConfigError(
            f"the processes of this run have different settings: {'; '.join(differing)}. Start "
            "all of them with the same command line and the same files."
        )
    agreed = {key: settings[key] for key in sorted(_OF_THE_FIRST)}
    watch.tell("agreed", agreed)
    return agreed


def _wait_for_all(watch: Watch) -> None:
    """Waits until all others have connected with this first process.

    Raises:
        ConfigError: some did not.
    """

    def missing() -> list[int]:
        return [rank for rank in range(1, watch.size) if rank not in watch.hellos()]

    if not watch.wait(lambda: not missing(), _UNUSUAL_WAIT):
        log.warning("waiting for %d of %d processes", len(missing()), watch.size)
    if not watch.wait(lambda: not missing(), _LONGEST_WAIT):
        raise ConfigError(
            f"of {watch.size} processes these did not come within {_LONGEST_WAIT / 60:.0f} "
            f"minutes: rank {', '.join(map(str, missing()))}. Under SLURM the command begins with "
            "srun, and every rank needs MASTER_ADDR and MASTER_PORT of the first."
        )


def _differences(settings: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """A clause for each setting that is not the same in all ranks."""
    of_ranks = {rank: leaves(dict(plain)) for rank, plain in sorted(settings.items())}
    clauses = []
    for key in {key: None for plain in of_ranks.values() for key in plain}:
        ranks: dict[str, list[int]] = {}
        for rank, plain in of_ranks.items():
            ranks.setdefault(json.dumps(plain.get(key)), []).append(rank)
        if len(ranks) > 1 and key not in _OF_THE_FIRST:
            values = (f"{value} in rank {', '.join(map(str, r))}" for value, r in ranks.items())
            clauses.append(f"{key} is {' and '.join(values)}")
    return clauses


def _join_group(trial: L.Trainer, store: distributed.Store) -> None:
    """Initialises the process group, which Lightning then finds."""
    device = trial.strategy.root_device
    assert trial.accelerator is not None
    trial.accelerator.setup_device(device)
    distributed.init_process_group(
        distributed.get_default_backend_for_device(device),
        store=distributed.PrefixStore("group", store),
        rank=trial.global_rank,
        world_size=trial.world_size,
        timeout=_TIMEOUT,
        device_id=None if device.type == "cpu" else device,
    )


def _abandon_group() -> None:
    """Gives up what hangs in the process group, so that this process can end."""
    if distributed.group.WORLD is not None:
        with suppress(Exception):
            distributed.group.WORLD.abort()
            distributed.destroy_process_group()


def _announce(watch: Watch, error: BaseException) -> None:
    """Tells the other processes how this one ends, unless it only follows another one."""
    if _lost_another(error):
        watch.learns(_PATIENCE)
    if watch.end is None:
        watch.announce(_status(error), str(error) or type(error).__name__)


def last_words(end: End) -> str:
    """What the process says that hangs and cannot unwind; it also puts its job into the queue."""
    return f"{end.message}{requeue_after(end.status - SIGNALLED)[1]}"


def _status(error: BaseException) -> int:
    """The exit status of a process that ends with an error."""
    match error:
        case TmkeError():
            return USER_ERROR
        case Stopped():
            return error.status
        case _ if is_out_of_memory(error):
            return USER_ERROR
        case KeyboardInterrupt():
            return Stopped(signal.SIGINT).status
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 1


def _lost_another(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return of_gloo or isinstance(error, distributed.DistError)
