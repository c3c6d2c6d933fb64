"""A training that goes on: from which file, whether it may, and what it takes along."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.continuing import changes
from configs.rundir import resumes, was_begun_by_this_job
from configs.schema import TrainConfig
from configs.stored import with_current_keys
from datamodules.datamodule import EditDataModule
from editors.checkpoint import CONFIG, SUBJECTS, read_checkpoint
from editors.hub import checkpoint_file
from errors import ConfigError, DataError, ModelError
from lightning_modules.checkpoints import PROGRESS, best_loss, is_validated
from options import is_on_hub
from results.files import BEST, CHECKPOINTS, CURVES, LAST, replacing
from runner.training import trained_options, training_subjects

log = logging.getLogger(__name__)


def continued(cfg: TrainConfig) -> str | None:
    """The checkpoint that a training starts from: last.ckpt of its own folder where it goes on.

    Raises:
        ConfigError: it cannot be told from which one.
    """
    folder = Path(cfg.output_dir)
    last, best = (folder / CHECKPOINTS / name for name in (LAST, BEST))
    if not resumes(cfg):
        return cfg.ckpt
    named = None if cfg.ckpt is None else Path(cfg.ckpt).resolve()
    if named is not None and named.parent == last.resolve().parent and named.name != LAST:
        if cfg.resume:
            raise ConfigError(
                f"resume=true goes on from {last}, and ckpt={cfg.ckpt} names another file there: "
                "leave one of them out."
            )
        if not was_begun_by_this_job(folder):
            return cfg.ckpt
    if last.is_file():
        return str(last)
    if cfg.ckpt is None and best.is_file():
        raise ConfigError(
            f"resume=true: {last} is not there, but {BEST} beside it is. Go on from that one with "
            f"ckpt={best}, or begin anew with overwrite=true."
        )
    return cfg.ckpt


def check_continued(cfg: TrainConfig, processes: int) -> None:
    """Makes sure that a training can go on from cfg.ckpt with these settings.

    Args:
        cfg: the configuration.
        processes: of the whole run.

    Raises:
        ConfigError: a setting differs that cannot be changed any more.
        ModelError: the file is damaged, or no checkpoint of ours.
    """
    if cfg.ckpt is None:
        return
    content = _read(cfg.ckpt)
    stored = with_current_keys(content.get(CONFIG, {}))
    if "state_dict" in content and "optimizer_states" not in content:
        raise ConfigError(
            f"ckpt={cfg.ckpt} holds the weights of a trained editor alone, which evaluate.py and "
            "edit.py need, and not what a training goes on from (it was sent with --weights-only). "
            "Give a checkpoint that train.py wrote, or begin another training without ckpt."
        )
    refused = changes(stored, cfg.plain())[1]
    batch = stored.get("editor", {}).get("batch_size")
    earlier = content.get(PROGRESS, {}).get("processes")
    size = trained_options(cfg).batch_size
    apart = not trained_options(cfg).n_updates  # else the changes say what differs
    if apart and None not in (earlier, batch) and earlier * batch != processes * size:
        same, rest = divmod(earlier * batch, processes)
        way = f" (editor.batch_size={same} keeps that)" if same and not rest else ""
        refused.append(
            f"a step took {earlier} x {batch} edits (processes x editor.batch_size) and would take "
            f"{processes} x {size}{way}"
        )
    if refused:
        raise ConfigError(
            f"ckpt={cfg.ckpt} holds a training that cannot go on with other settings: "
            f"{'; '.join(refused)}. Type what was, or begin another training without ckpt, in a "
            "folder of its own."
        )


def check_same_edits(cfg: TrainConfig, data: EditDataModule) -> None:
    """Makes sure that the data are those that a training began with.

    Raises:
        DataError: they are not.
    """
    if cfg.ckpt is None:
        return
    stored = read_checkpoint(cfg.ckpt).get(SUBJECTS)
    if stored is not None and set(stored) != training_subjects(data):
        raise DataError(
            f"ckpt={cfg.ckpt} was trained on other subjects than data.root and the other data "
            "options give now. Use the data of its training, or begin another one without ckpt."
        )


def steps_done(path: str | None) -> tuple[int | None, bool]:
    """Optimiser steps behind a checkpoint, None without one; whether no validation is due there."""
    if path is None:
        return None, True
    content = read_checkpoint(path)
    return int(content["global_step"]), is_validated(content)


def best_so_far(folder: Path) -> float | None:
    """The smallest validation loss of the training whose checkpoints lie in a folder."""
    last = folder / LAST
    return best_loss(read_checkpoint(str(last))) if last.is_file() else None


def finished(cfg: TrainConfig, processes: int) -> str | None:
    """Why there is nothing left to train; None where there is."""
    if cfg.ckpt is None:
        return None
    content = read_checkpoint(cfg.ckpt)
    done = int(content["global_step"])
    steps = cfg.trainer.max_steps or trained_options(cfg).optimiser_steps(processes)
    if done >= steps:
        return f"all of its {done} steps are done; a larger trainer.max_steps goes on"
    waited = _validations_without_improvement(content)
    if cfg.trainer.patience is not None and waited >= cfg.trainer.patience:
        return (
            f"it stopped at step {done} after {waited} validations without improvement; a larger "
            "trainer.patience goes on"
        )
    return None


def take_along(ckpt: str | None, folder: Path) -> None:
    """Brings what a training has so far into its new folder: curves, best.ckpt, last.ckpt.

    last.ckpt comes last: with it the folder is one that can be gone on with.

    Raises:
        DataError: a file cannot be written.
    """
    if ckpt is None:
        return
    here = (folder / CHECKPOINTS).resolve()
    source = checkpoint_file(ckpt) if is_on_hub(ckpt) else Path(ckpt).resolve()
    if source == here / LAST:
        return
    if source.parent != here:
        best = source.with_name(BEST)
        if best.is_file() and best_loss(_read(str(best))) == best_loss(_read(ckpt)):
            _copy(best, here / BEST)
        curves = source.parent.parent / CURVES
        if source.parent.name == CHECKPOINTS and curves.is_file():
            _copy(curves, folder / CURVES)
    _copy(source, here / LAST)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _read(path: str) -> dict[str, Any]:
    """A checkpoint to go on from.

    Raises:
        ModelError: with what there is besides, where it is damaged.
    """
    try:
        return read_checkpoint(path)
    except ModelError as error:
        best = Path(path).with_name(BEST)
        if Path(path).name == BEST or not best.is_file():
            raise ModelError(f"{error} overwrite=true begins the training anew.") from error
        raise ModelError(
            f"{error} ckpt={best} goes on from the best step so far, overwrite=true begins anew."
        ) from error


def _validations_without_improvement(content: Mapping[str, Any]) -> int:
    states = content.get("callbacks", {}).items()
    return max((s["wait_count"] for k, s in states if k.startswith("EarlyStopping")), default=0)
