"""What every trained editor shares: its questions, its schedule, its checkpoints."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
)

from configs.overrides import leaves
from configs.schema import EditingConfig, TrainConfig
from configs.signals import signals
from datamodules.datamodule import EditDataModule
from datamodules.overlap import Traces
from datamodules.scenarios import Scenario, training_scenario, with_end
from editors import checkpoint as identity
from editors.base import Editor, EditorInputs
from editors.checkpoint import read_checkpoint
from editors.hub import checkpoint_file
from editors.objective import Objective
from editors.options import EditorOptions, TrainedEditorOptions
from editors.registry import training_class
from errors import ConfigError, ModelError, Stopped
from lightning_modules.callbacks import StoreConfig, TypedRates
from lightning_modules.checkpoints import MONITOR, Checkpoints
from lightning_modules.editor_training import EditorTraining
from lightning_modules.limits import StopInTime
from models.editable import EditableModel
from results.files import CHECKPOINTS
from runner.caching import log_use
from runner.learnt import check_new


def trained_options(cfg: EditingConfig) -> TrainedEditorOptions:
    """The options of a trained editor.

    Raises:
        ConfigError: the editor has nothing to train.
    """
    if not isinstance(cfg.editor, TrainedEditorOptions):
        raise ConfigError(
            f"editor={cfg.editor.name} has nothing to train; run python evaluate.py "
            f"editor={cfg.editor.name} instead."
        )
    return cfg.editor


def scenario_of(cfg: TrainConfig) -> Scenario:
    """What training edits see, and the questions of the outer loss."""
    name, options, objective = cfg.scenario.name, trained_options(cfg), make_objective(cfg)
    scenario = training_scenario(name, options.questions_for(name), objective.probes)
    scenario = replace(scenario, n_updates=options.n_updates)
    return with_end(scenario, objective.taught) if options.ends_target else scenario


def make_module(cfg: TrainConfig, model: EditableModel, inputs: EditorInputs) -> L.LightningModule:
    """The training module of the editor."""
    objective = make_objective(cfg)
    module = training_class(cfg.editor)(cfg.editor, model, inputs, objective)
    return cast(L.LightningModule, module)


def make_objective(cfg: TrainConfig) -> Objective:
    """The outer loss of the editor's options, with its KL at the tokens of `metrics.positions`."""
    options = trained_options(cfg)
    questions, weights = options.questions_for(cfg.scenario.name), options.weights.model_dump()
    return Objective(questions, weights, cfg.metrics.positions)


def trainer_arguments(cfg: TrainConfig, data: EditDataModule, processes: int) -> dict[str, Any]:
    """The length of a training, as arguments of Lightning's Trainer.

    `editor.max_iterations` counts edits: a batch of B independent edits is B iterations.

    Args:
        cfg: the configuration.
        data: set up.
        processes: of the whole run; each has its own batches.
    """
    options, trainer = trained_options(cfg), cfg.trainer
    steps = trainer.max_steps or options.optimiser_steps(processes)
    epoch = data.train_order().batches_per_epoch(processes) // options.accumulate
    return {
        "max_steps": steps,
        "val_check_interval": min(trainer.val_every or epoch, steps) * options.accumulate,
        "check_val_every_n_epoch": None,  # the interval is counted across epochs
        "accumulate_grad_batches": options.accumulate,
        "gradient_clip_val": options.grad_clip,
    }


def make_callbacks(
    cfg: TrainConfig, folder: Path, data: EditDataModule, *, logged: bool
) -> list[Callback]:
    """Best and last checkpoint and what they say of themselves; rates; early stopping if asked.

    Args:
        cfg: the configuration.
        folder: the output folder.
        data: set up; its training and validation subjects are remembered.
        logged: whether there is a logger to send rates to.
    """
    callbacks: list[Callback] = [
        StoreConfig(
            cfg.plain(),
            sorted(training_subjects(data)),
            _traces(data).stored(),
            data.source.of("train").terms,
        ),
        TypedRates(cfg.trainer.patience),
        Checkpoints(folder / CHECKPOINTS, save_every=cfg.trainer.save_every, stop=signals),
    ]
    if logged:
        callbacks.append(LearningRateMonitor(logging_interval="step"))
    if cfg.trainer.max_time is not None:
        callbacks.append(StopInTime(cfg.trainer.max_time, signals))
    if cfg.trainer.patience is not None:
        callbacks.append(EarlyStopping(MONITOR, patience=cfg.trainer.patience, check_finite=False))
    return callbacks


def fit(
    cfg: TrainConfig, trainer: L.Trainer, module: L.LightningModule, data: EditDataModule
) -> list[str]:
    """Trains, from cfg.ckpt on where there is one.

    Returns:
        What to say of an end before the last step that is no error.
    """
    # `best` and `last` are words to Lightning.
    ckpt = None if cfg.ckpt is None else os.path.abspath(checkpoint_file(cfg.ckpt))
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
        if isinstance(module, EditorTraining):
            log_use(module.model.cache.report())
    except Stopped as stopped:
        if not stopped.is_in_time:
            raise
        signals.received = 0
        trainer.profiler.describe()  # type: ignore[attr-defined]  # as at any other clean end
        return [
            f"trainer.max_time={cfg.trainer.max_time} is up {stopped.after}; the same command with "
            f"resume=true output_dir={cfg.output_dir} goes on with the training."
        ]
    return []


def training_subjects(data: EditDataModule) -> set[str]:
    """Subjects of the training and validation edits that are served; pictures of those without."""
    return {record.about for split in ("train", "val") for record in data.records(split)}


def _traces(data: EditDataModule) -> Traces:
    """By what the training and validation edits that are served are known again."""
    served = (record for split in ("train", "val") for record in data.records(split))
    return Traces.of(served, entity_folders=data.source.of("train").entity_folders)


def check_checkpoint(path: str | None, options: EditorOptions, model: EditableModel) -> None:
    """Refuses a checkpoint that does not fit, before anything is computed with the base model.

    Raises:
        ModelError: the checkpoint belongs to another editor or base model, has options that make
            another editor of the same weights, or is damaged.
    """
    if path is None:
        return
    content = read_checkpoint(path)
    identity.check(content, options.name, model)
    stored = leaves(identity.editor_options(content))
    given = leaves(options.model_dump(mode="json"))
    free: frozenset[str] = getattr(options, "training_only", frozenset())
    differ = [
        f"{key} is {stored[key]} there and {given[key]} here"
        for key in sorted(stored.keys() & given.keys())
        if stored[key] != given[key] and not free & {key, key.split(".")[0]}
    ]
    if differ:
        raise ModelError(
            f"ckpt={path} holds an editor with other options: {'; '.join(differ)}. Leave the "
            "editor's options to the checkpoint."
        )


def load_trained_editor(
    path: str, editor: Editor, model: EditableModel, data: EditDataModule
) -> None:
    """Fills an editor from a checkpoint.

    Args:
        path: the checkpoint.
        editor: the editor.
        model: the base model.
        data: set up; its test subjects must be new to the editor.

    Raises:
        ModelError: the checkpoint belongs to another editor or base model, or is damaged.
        DataError: the editor was trained on a subject that is to be tested, and
            `data.allow_overlap` does not allow that.
    """
    identity.load_editor(cast(torch.nn.Module, editor), read_checkpoint(path), model)
    check_new(path, data.records("test"), data.source)
