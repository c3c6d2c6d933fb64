"""How every command begins: seeds, threads, processes, and quiet for libraries that talk a lot."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback
from transformers.utils import logging as transformers_logging

from configs.rundir import check_output_dir
from configs.schema import CommandConfig, PretrainConfig, RunConfig, TrainerOptions
from errors import ConfigError, DataError
from models.loading import torch_dtype
from results.outcome import all_gather_objects
from runner.processes import together

_CHATTY = (
    "lightning", "lightning.pytorch", "lightning.fabric", "fontTools", "matplotlib",
    "sentence_transformers",
)  # fmt: skip


Matmul = Literal["highest", "high", "medium"]
Config = TypeVar("Config", bound=RunConfig)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Placement(Generic[Config]):
    """Where a run takes place.

    Attributes:
        cfg: the configuration that all processes have agreed on.
        processes: how many there are, on all machines together.
        device: of this process.
        rank: of this process, 0 for the first one, which writes and speaks.
        callbacks: for the trainer, besides the command's own.
    """

    cfg: Config
    processes: int
    device: torch.device
    rank: int = 0
    callbacks: tuple[Callback, ...] = ()

    def first_decides(self, value: Value) -> Value:
        """The value of the first process, in all; every process has to call this."""
        return all_gather_objects(value)[0]

    def check_same_edits(self, served: object) -> None:
        """Makes sure that all processes serve the same edits; every process has to call this.

        Args:
            served: which records of each split.

        Raises:
            DataError: one of them serves others.
        """
        of_all = all_gather_objects(served)
        others = [rank for rank, other in enumerate(of_all) if other != of_all[0]]
        if others:
            raise DataError(
                f"process {others[0]} leaves other records out than process 0: a file may be "
                "missing, or unreadable, on one machine alone. Give all of them the same data.root."
            )


@contextmanager
def start(cfg: Config, *, parallel: bool = False) -> Iterator[Placement[Config]]:
    """Hushes the libraries, brings the processes together, seeds every generator, sets the threads.

    Whatever fails inside ends all processes (`runner.processes`).

    Args:
        cfg: the configuration of this process.
        parallel: whether the command can make use of several processes.

    Yields:
        Where the run takes place, as the trainer's options come to on this machine.

    Raises:
        ConfigError: Lightning refuses an option, the command takes one process and more are
            asked for, processes have different settings, or the output folder is taken; nothing
            was loaded or written yet.
        SystemExit: another process has failed.
    """
    _quiet_libraries()
    trial = _trial(cfg.trainer)
    processes = _size(trial)
    if processes > 1 and not parallel:
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices} trainer.num_nodes={cfg.trainer.num_nodes}: "
            "this command takes one process. Leave the trainer at trainer=default."
        )
    if processes == 1:
        yield Placement(cfg, 1, _alone(cfg, trial))
        return
    with together(trial, cfg.plain()) as agreed:
        cfg = cfg.model_copy(update=dict(agreed.settings))
        check_output_dir(cfg)
        _prepare(cfg, trial.strategy.root_device)
        yield Placement(
            cfg, processes, trial.strategy.root_device, trial.global_rank, agreed.callbacks
        )


def start_alone(cfg: CommandConfig) -> torch.device:
    """Begins a command of one process that makes no run.

    Returns:
        Where it takes place.

    Raises:
        ConfigError: Lightning refuses an option of the trainer.
    """
    _quiet_libraries()
    return _alone(cfg, _trial(cfg.trainer))


def _alone(cfg: CommandConfig, trial: L.Trainer) -> torch.device:
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    device: torch.device = trial.strategy.root_device
    # What names no device by its number means this one, and not the first of the machine.
    trial.accelerator.setup_device(device)
    _prepare(cfg, device)
    return device


def _prepare(cfg: CommandConfig, device: torch.device) -> None:
    """Seeds every generator, sets the threads and how float32 is multiplied."""
    L.seed_everything(cfg.seed, verbose=False)
    torch.set_float32_matmul_precision(matmul_precision(cfg, device))
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)


def matmul_precision(cfg: CommandConfig, device: torch.device) -> Matmul:
    """What `trainer.matmul` comes to on a device.

    Logits are the same under `high`: factors in bfloat16 or float16 have no more bits than TF32.
    """
    if cfg.trainer.matmul != "auto":
        return cfg.trainer.matmul
    is_half = torch_dtype(cfg.model.dtype, device) != torch.float32
    # Pretraining reads and trains its models in float32.
    trains_base = isinstance(cfg, PretrainConfig)
    return "high" if device.type == "cuda" and is_half and not trains_base else "highest"


def process_count(options: TrainerOptions) -> int:
    """How many processes a trainer's options come to on this machine, on all nodes together.

    Raises:
        ConfigError: Lightning refuses one of them.
    """
    return _size(_trial(options))


def _size(trainer: L.Trainer) -> int:
    return trainer.num_devices * trainer.num_nodes


def _trial(options: TrainerOptions) -> L.Trainer:
    """A trainer of these options that will not be used.

    Raises:
        ConfigError: Lightning refuses one of them.
    """
    try:
        return L.Trainer(
            **options.arguments(),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"{_chosen(options)} do not work here: {' '.join(str(error).split())} Change one "
            "of them, or leave them all to trainer=default: one device of the best kind there is."
        ) from error


def _chosen(trainer: TrainerOptions) -> str:
    """The options that say what a trainer runs on."""
    keys = ("accelerator", "devices", "strategy", "precision")
    return ", ".join(f"trainer.{key}={getattr(trainer, key)}" for key in keys)


def _quiet_libraries() -> None:
    """Hushes lines that tell a user of this project nothing; warnings stay.

    These are accelerators that are not there, advertisements, fonts, bars of half a second, and a
    deprecation inside Lightning itself.
    """
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # What of a model is offloaded, models/placement.py tells in more words.
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)
    # bitsandbytes tells of a CPU kernel that we must not use (models/quantisation.py), and of casts
    # in every 8-bit layer.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    # The base model and an editor's dropout are in eval mode on purpose.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    warnings.filterwarnings("ignore", message=r".*LeafSpec", module=r"lightning\..*")
    # Steps are counted on across epochs, so a short epoch hides no line.
    warnings.filterwarnings("ignore", message="The number of training batches")
    warnings.filterwarnings("ignore", message="Your `IterableDataset` has `__len__`")
