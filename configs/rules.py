"""What has to fit together between the sections of a configuration.

Each rule gets the sections that are sound on their own and answers with sentences; a rule whose
sections are missing has nothing to say.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from caching.folder import cache_problem
from configs import schema
from configs.around import ALIGNMENTS, RecipeOptions
from configs.data_rules import data_rules
from configs.editing_rules import editing_problems, shows_records, useless_in_edit
from configs.model_folder import folder_problem
from configs.name_first_rules import name_first_rules
from configs.overrides import group_options, suggest
from configs.pretraining import PretrainOptions
from configs.protocol_rules import keeps_edits, protocol_rules
from datamodules.source import DataOptions, world_names
from editors.options import SHOWN_EDITS, EditorOptions, TrainedEditorOptions

Sections = dict[str, Any]
_PROCESSES = 16  # that a machine may be asked for, however few cores it has
_APPLYING = ("edit", "evaluate")  # commands that use an editor as it is
UNREAD = "?"  # stands for what was typed and cannot be read, which has been told


def rule_problems(command: str, sections: Sections) -> list[str]:
    """A sentence for each mistake; `sections` has those that are sound on their own, typed."""
    rules = (
        _editor_rules, protocol_rules, _in_place_rules, _part_rules, _resume_rules, _file_rules,
        _trainer_rules, _process_rules, _spread_rules, _trial_rules, _reach_rules, _cache_rules,
        _pretrain_rules, data_rules, name_first_rules,
    )  # fmt: skip
    problems = [problem for rule in rules for problem in rule(command, sections)]
    return problems + (editing_problems(sections) if command == "edit" else [])


def sweep_problems(plain: Mapping[str, Any], words: list[str]) -> list[str]:
    """A sweep whose jobs start processes would start the whole sweep in each of them."""
    is_slurm = any(word.startswith("hydra/launcher=submitit_slurm") for word in words)
    if is_slurm or "SLURM_JOB_ID" in os.environ:
        return []
    try:
        trainer = schema.TrainerOptions.model_validate(plain.get("trainer"))
    except ValidationError:
        return []
    if not trainer.many_processes:
        return []
    return [
        f"trainer.devices={trainer.devices} with -m: each process of a parallel job would run the "
        "whole sweep; use trainer.devices=1, one run at a time, or hydra/launcher=submitit_slurm "
        "(pip install -e '.[slurm]')"
    ]


def useless_keys(command: str, typed: Collection[str]) -> list[str]:
    """A sentence for each key of a group that was typed and that the command takes nothing of.

    Whole groups may be chosen: what train.py takes of `metrics=vlkeb_compat` is `positions`.
    """
    if command == "edit":
        return useless_in_edit(typed)
    keys = [f"metrics.{key}" for key in schema.MetricOptions.model_fields]
    taken = {f"metrics.{key}" for key in schema.ComparedPositions.model_fields}
    return [
        f"{key}: train.py takes of `metrics` what says where the KL of its loss compares, "
        f"{', '.join(sorted(taken))}; leave {key} out here and type it for evaluate.py"
        for key in keys
        if command == "train" and key in typed and key not in taken
    ]


def keys_beside_sites(plain: Mapping[str, Any], typed: Collection[str]) -> list[str]:
    """A sentence for each typed key that says again, and otherwise, which matrices are edited."""
    editor = plain.get("editor")
    if not isinstance(editor, Mapping) or editor.get("sites") is None:
        return []
    return [
        f"{key}: editor.sites says role by role which layers are edited; leave {key} out, or "
        "editor.sites=null"
        for key in ("editor.layers", "editor.matrices")
        if key in typed
    ]


def keys_of_twins(plain: Mapping[str, Any], typed: Collection[str]) -> list[str]:
    """A sentence for each key of the tiny models' recipe that was typed for another recipe."""
    if plain.get("recipe") is None:
        return []
    return [
        f"{key}: this is of the recipe of tiny models, and this model is built by `recipe`, of "
        f"whose sections it takes {', '.join(RecipeOptions.model_fields)}; leave {key} out"
        for key in sorted(typed)
        if key.startswith("pretrain.") and key != "pretrain.alignment"
    ]


def _editor_rules(command: str, sections: Sections) -> Iterator[str]:
    editor: EditorOptions | None = sections.get("editor")
    if editor is None:
        return
    ckpt = sections.get("ckpt")
    if command == "train" and not editor.trained:
        yield (
            f"editor={editor.name} needs no training; run `python evaluate.py editor={editor.name}`"
        )
    if command in _APPLYING and editor.trained and ckpt is None:
        yield (
            f"editor={editor.name} is a trained editor: add ckpt=FILE, made by "
            f"`python train.py editor={editor.name}`"
        )
    if command in _APPLYING and not editor.trained and ckpt is not None:
        yield f"editor={editor.name} takes no checkpoint: leave ckpt= or editor= out"
    scenario = sections.get("scenario")
    if scenario is not None and editor.ties_picture and scenario.name in SHOWN_EDITS:
        yield (
            f"editor.tie with scenario={scenario.name}: it ties an edit in text to its picture, "
            "which that scenario teaches itself; use scenario=unimodal or transitive, or "
            "editor.tie=null"
        )
    if scenario is not None and scenario.name not in editor.scenarios:
        scenarios = ", ".join(sorted(editor.scenarios))
        reason = f" ({editor.why_not})" if editor.why_not else ""
        yield (
            f"editor={editor.name} is not defined for scenario={scenario.name}: {scenarios}{reason}"
        )


def _in_place_rules(command: str, sections: Sections) -> Iterator[str]:
    del command
    if (protocol := keeps_edits(sections)) is not None:
        where = f"protocol={protocol}: edits that are in place together are made by one process"
        yield from _one_process(sections, where)


def _one_process(sections: Sections, where: str) -> Iterator[str]:
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    if trainer is not None and trainer.many_processes:
        yield (
            f"trainer.devices={trainer.devices} with {where}; "
            "use trainer.devices=1 trainer.num_nodes=1"
        )


def _part_rules(command: str, sections: Sections) -> Iterator[str]:
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    if command != "evaluate" or trainer is None or trainer.limit_test_batches is None:
        return
    yield (
        f"trainer.limit_test_batches={trainer.limit_test_batches}: a part of the edits would be "
        "written as a finished result of all; leave it out, and say with "
        + ("the largest value of protocol.n" if keeps_edits(sections) else "data.limit=N")
        + " how many edits are made"
    )


def _resume_rules(command: str, sections: Sections) -> Iterator[str]:
    if not sections.get("resume"):
        return
    has_folder = "SLURM_JOB_ID" in os.environ or (command == "train" and sections.get("ckpt"))
    if "output_dir" not in sections and not has_folder:
        yield "resume=true: add output_dir=DIR, the folder of the run to go on with"
    if sections.get("overwrite"):
        yield (
            "resume=true goes on with the run in output_dir and overwrite=true removes it: leave "
            "one of them out"
        )


def _file_rules(command: str, sections: Sections) -> Iterator[str]:
    data: DataOptions | None = sections.get("data")
    if data is not None and (command != "edit" or shows_records(sections)):
        yield from _among_data(data, sections)
    model = sections.get("model")
    if model is not None and command != "pretrain" and _is_local(model.path):
        yield from filter(None, [folder_problem(model)])


def _among_data(data: DataOptions, sections: Sections) -> Iterator[str]:
    """A run's own files would be read as data by the next one."""
    root, output = getattr(data, "root", None), sections.get("output_dir")
    if root is None or output is None or Path(root).resolve() != Path(output).resolve():
        return
    yield (
        f"output_dir={output} is data.root, and results would lie among the data: name another "
        "folder for them"
    )


def _trainer_rules(command: str, sections: Sections) -> Iterator[str]:
    del command
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    started = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    if trainer is not None and not trainer.many_processes and started != "1":
        yield (
            f"trainer.devices={trainer.devices} is one process, and torchrun has started {started} "
            "that would all do the same: add trainer=ddp (with trainer.devices=N and "
            "trainer.num_nodes=M as torchrun has them), or leave torchrun out"
        )
    if trainer is None or not trainer.strategy.startswith("ddp"):
        return
    if trainer.accelerator != "cpu" or trainer.devices not in ("auto", -1):
        return
    yield (
        f"trainer.devices={trainer.devices} with trainer.accelerator=cpu is one process, and "
        f"trainer.strategy={trainer.strategy} is meant for several: use trainer=ddp_cpu or another "
        "number, or trainer.accelerator=gpu for all GPUs (experiment=demo sets cpu)"
    )


def _process_rules(command: str, sections: Sections) -> Iterator[str]:
    """Mistyped numbers that would fill the machine with processes."""
    del command
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    data: DataOptions | None = sections.get("data")
    asked: dict[str, object] = {}
    if trainer is not None and trainer.accelerator in ("auto", "cpu"):
        asked["trainer.devices"] = trainer.devices
    if data is not None:
        asked["data.num_workers"] = data.num_workers
    most = max(_PROCESSES, os.cpu_count() or 1)
    for key, number in asked.items():
        if isinstance(number, int) and number > most:
            yield (
                f"{key}={number} would start as many processes on this machine, and at most {most} "
                f"are taken (its cores, or {_PROCESSES} where there are fewer)"
            )


def _spread_rules(command: str, sections: Sections) -> Iterator[str]:
    """What a base model on several devices does not go with."""
    model: schema.ModelOptions | None = sections.get("model")
    if model is None:
        return
    if model.device_map is None:
        if model.max_memory is not None:
            yield (
                f"model.max_memory={model.max_memory} says how much of each device a model takes "
                "that is spread over several: add model.device_map=auto, or leave it out"
            )
        return
    spread = f"model.device_map={model.device_map}"
    if command == "pretrain":
        yield f"{spread}: pretrain.py changes every weight, on one device; leave it out"
        return
    yield from _one_process(
        sections, f"{spread}: every process would have the devices of a spread model to itself"
    )


def _trial_rules(command: str, sections: Sections) -> Iterator[str]:
    """What `trainer.fast_dev_run` and `trainer.overfit_batches` do not go with."""
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    if trainer is None or command == "pretrain":
        return
    if trainer.fast_dev_run:
        tried = f"trainer.fast_dev_run={trainer.fast_dev_run} tries things and keeps nothing"
        if sections.get("resume"):
            yield f"{tried}, so there is nothing to go on with: leave resume out"
        if command == "train" and sections.get("ckpt") is not None:
            yield f"{tried}, and begins at step 0: leave ckpt out"
        if trainer.profiler is not None:
            yield f"{tried}, no profile either: use data.limit or trainer.max_steps to profile less"
        if (protocol := keeps_edits(sections)) is not None:
            yield f"{tried}, batch by batch; with protocol={protocol} try protocol.n=1 instead"
    editor = sections.get("editor")
    if trainer.overfit_batches is None or not isinstance(editor, TrainedEditorOptions):
        return
    if trainer.overfit_batches > editor.accumulate and trainer.overfit_batches % editor.accumulate:
        yield (
            f"trainer.overfit_batches={trainer.overfit_batches} are no whole optimiser steps of "
            f"editor.accumulate={editor.accumulate} batches each: give a multiple of it"
        )


def _reach_rules(command: str, sections: Sections) -> Iterator[str]:
    """Options that a command has no use for, callbacks without a class, scores without a metric."""
    trainer: schema.TrainerOptions | None = sections.get("trainer")
    useless = {
        "evaluate": ("max_time", "overfit_batches"),
        "pretrain": ("max_time", "profiler", "fast_dev_run", "overfit_batches", "detect_anomaly"),
    }
    for key in useless.get(command, ()):
        if trainer is not None and getattr(trainer, key):
            yield f"trainer.{key}={getattr(trainer, key)}: {_WHY_NOT[command]}; leave it out"
    for name, given in (sections.get("callbacks") or {}).items():
        if not isinstance(given.get("_target_"), str):
            yield (
                f"callbacks.{name}={given}: _target_ is required, the class of the callback, such "
                "as _target_: lightning.pytorch.callbacks.DeviceStatsMonitor"
            )
    yield from _score_problems(sections)


def _cache_rules(command: str, sections: Sections) -> Iterator[str]:
    del command
    cache: schema.CacheOptions | None = sections.get("cache")
    if cache is not None and cache.use != "off" and (problem := cache_problem(cache.folder)):
        yield problem


_WHY_NOT = {
    "evaluate": "an evaluation takes every edit once, and one that was cut goes on by resume=true",
    "pretrain": "pretrain.py has a recipe and a trainer of its own, which do not take it",
}


def _score_problems(sections: Sections) -> Iterator[str]:
    score, scenario = sections.get("score"), sections.get("scenario")
    metrics: schema.MetricOptions | None = sections.get("metrics")
    if score is None or scenario is None or metrics is None:
        return
    from metrics.headlines import headlines_of  # loads numpy

    names = [line.name for line in headlines_of(scenario.name, generation=metrics.generation)]
    if score not in names:
        yield (
            f"score={score}: scenario={scenario.name} has no such metric; it has {', '.join(names)}"
            f"{suggest(score, names)}"
        )


def _pretrain_rules(command: str, sections: Sections) -> Iterator[str]:
    if command != "pretrain":
        return
    model: schema.ModelOptions | None = sections.get("model")
    data: DataOptions | None = sections.get("data")
    if sections.get("ckpt") is not None:
        yield (
            f"ckpt={sections['ckpt']}: pretraining takes minutes and is not continued from a "
            "checkpoint; leave ckpt out"
        )
    yield from _one_process(sections, "pretrain.py: a model is taught by one process")
    if model is not None and "recipe" in sections:
        yield from _pretrained_model(model, sections)
    if data is not None and not data.is_world:
        yield (
            f"data={data.name}: a model is pretrained on a world; data is "
            f"{' or '.join(world_names())}"
        )


def _pretrained_model(model: schema.ModelOptions, sections: Sections) -> Iterator[str]:
    """What a tiny model, which has no recipe of its own, does not take."""
    if sections["recipe"] is not None:
        return
    around = ", ".join(group_options("recipe"))
    if not model.name.endswith("_tiny"):
        yield (
            f"model={model.name}: only tiny models (*_tiny) are pretrained here, from random "
            f"weights, and {around} around a language model"
        )
        return
    pretrain: PretrainOptions | None = sections.get("pretrain")
    if pretrain is not None and pretrain.alignment == "all":
        yield (
            f"pretrain.alignment=all: each alignment of model={model.name} is a model of its own; "
            f"choose one of {', '.join(ALIGNMENTS)}"
        )
    if sections.get("resume"):
        yield (
            f"resume=true: pretraining a tiny model is not continued (model={model.name}); leave "
            "resume out, and start anew with overwrite=true"
        )


def _is_local(path: str) -> bool:
    """Whether a model's path names a folder rather than a repository of the hub."""
    return path.startswith((".", "/")) or path.count("/") != 1
