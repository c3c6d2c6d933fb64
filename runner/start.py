"""What every command does first: seeds, threads, and quiet for libraries that talk too much."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from transformers.utils import logging as transformers_logging

from configs.schema import RunConfig, TrainerOptions
from errors import ConfigError

_CHATTY = (
    "lightning", "lightning.pytorch", "lightning.fabric", "fontTools", "matplotlib",
    "sentence_transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """Where a run takes place.

    Attributes:
        processes: how many the trainer will have, on all machines together.
        device: of this process.
    """

    processes: int
    device: torch.device


def start(cfg: RunConfig) -> Placement:
    """Hushes the libraries, tries the trainer's options, seeds every generator, sets the threads.

    Returns:
        Processes and device that the trainer's options come to on this machine.

    Raises:
        ConfigError: Lightning refuses an option; nothing was loaded or written yet.
    """
    _quiet_libraries()
    try:
        trial = L.Trainer(
            **cfg.trainer.arguments(),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"{_chosen(cfg.trainer)} do not work here: {' '.join(str(error).split())} Change one "
            "of them, or leave them all to trainer=default: one device of the best kind there is."
        ) from error
    L.seed_everything(cfg.seed, verbose=False)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    return Placement(trial.num_devices * trial.num_nodes, trial.strategy.root_device)


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
