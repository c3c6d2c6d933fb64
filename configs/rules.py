"""What has to fit together between the sections of a configuration.

Each rule gets the sections that are sound on their own and answers with sentences; a rule whose
sections are missing has nothing to say.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs import schema
from editors.options import EditorOptions

Sections = dict[str, Any]


def rule_problems(command: str, sections: Sections) -> list[str]:
    """Applies all rules.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        sections: typed sections by name; one that is not sound is absent.

    Returns:
        A sentence for each mistake.
    """
    rules = (_editor_rules, _file_rules, _trainer_rules, _pretrain_rules)
    return [problem for rule in rules for problem in rule(command, sections)]


def sweep_problems(plain: Mapping[str, Any], words: list[str]) -> list[str]:
    """A sweep whose jobs start processes would start the whole sweep in each of them."""
    launcher = next((w for w in words if w.startswith("hydra/launcher=submitit_slurm")), None)
    if launcher or "SLURM_JOB_ID" in os.environ:
        return []
    try:
        trainer = schema.TrainerOptions.model_validate(plain.get("trainer"))
    except ValidationError:
        return []
    if not trainer.many_processes:
        return []
    return [
        f"trainer.devices={trainer.devices} with -m: each process of a parallel job would run the "
        "whole sweep; use trainer.devices=1, one run at a time, or hydra/launcher=submitit_slurm"
    ]


def _editor_rules(command: str, sections: Sections) -> list[str]:
    editor: EditorOptions | None = sections.get("editor")
    if editor is None:
        return []
    problems = []
    ckpt = sections.get("ckpt")
    if command == "train" and not editor.trained:
        problems.append(
            f"editor={editor.name} needs no training; run `python evaluate.py editor={editor.name}`"
        )
    if command == "evaluate" and editor.trained and ckpt is None:
        problems.append(
            f"editor={editor.name} is a trained editor: add ckpt=FILE, made by "
            f"`python train.py editor={editor.name}`"
        )
    if command == "evaluate" and not editor.trained and ckpt is not None:
        problems.append(f"editor={editor.name} takes no checkpoint: leave ckpt= or editor= out")
    scenario = sections.get("scenario")
    if scenario is not None and scenario.name not in editor.scenarios:
        able = ", ".join(sorted(editor.scenarios))
        reason = f" ({editor.why_not})" if editor.why_not else ""
        problems.append(
            f"editor={editor.name} is not defined for scenario={scenario.name}: {able}{reason}"
        )
    return problems


def _file_rules(command: str, sections: Sections) -> list[str]:
    problems = []
    data = sections.get("data")
    if isinstance(data, schema.FolderData | schema.TmkeData) and not Path(data.root).is_dir():
        problems.append(f"data.root={data.root}: there is no such folder")
    if command == "train" and isinstance(data, schema.TmkeData) and not data.train_files:
        problems.append(
            "data.train_files is required to train on data=tmke: name the files inside data.root "
            "that are not the test set, as data.train_files=[a.json,b.json]"
        )
    model = sections.get("model")
    if model is not None and command != "pretrain" and _is_local(model.path):
        folder = Path(model.path).expanduser()
        if not folder.is_dir() and model.family == "minigpt4":
            problems.append(
                f"model.path={model.path}: there is no such folder; `python -m models.minigpt4 "
                "convert` makes it from the authors' files (`python -m models check "
                f"model={model.name}` lists them), or set model.path to where it is"
            )
        elif not folder.is_dir():
            problems.append(
                f"model.path={model.path}: there is no such folder (a hub id has the form "
                "owner/name); run from the root of the checkout"
            )
    return problems


def _trainer_rules(command: str, sections: Sections) -> list[str]:
    del command
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    if trainer is None or not trainer.strategy.startswith("ddp"):
        return []
    if trainer.accelerator != "cpu" or trainer.devices not in ("auto", -1):
        return []
    return [
        f"trainer.devices={trainer.devices} with trainer.accelerator=cpu is one process, and "
        f"trainer.strategy={trainer.strategy} is meant for several: use trainer=ddp_cpu or another "
        "number, or trainer.accelerator=gpu for all GPUs (experiment=demo sets cpu)"
    ]


def _pretrain_rules(command: str, sections: Sections) -> list[str]:
    if command != "pretrain":
        return []
    problems = []
    model, data = sections.get("model"), sections.get("data")
    if model is not None and not model.name.endswith("_tiny"):
        problems.append(f"model={model.name}: only tiny models are pretrained here (*_tiny)")
    if data is not None and not isinstance(data, schema.WorldData | schema.FolderData):
        problems.append(
            f"data={data.name}: a model is pretrained on a world; data is world or folder"
        )
    return problems


def _is_local(path: str) -> bool:
    """Whether a model's path names a folder rather than a repository of the hub."""
    return path.startswith((".", "/", "~")) or path.count("/") != 1
