"""The base model and processor of a sweep's job, which the next job in its process takes over.

Edits are values beside the model, so it leaves a job as it came. That is checked: weights have
their fingerprint, no delta is in place and no hook was left, or the model is loaded anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from configs.between_jobs import between_jobs
from configs.isolation import free_memory
from configs.schema import ModelOptions
from models.editable import EditableModel
from models.processor import Processor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resident:
    """A model as it was loaded."""

    model: EditableModel
    device: torch.device
    fingerprint: str
    n_hooks: int

    @classmethod
    def of(cls, model: EditableModel) -> Resident:
        """What is noted of a model that has just been loaded."""
        return cls(model, model.device, model.fingerprint(), count_hooks(model))

    def change(self) -> str | None:
        """What is no longer as it was loaded."""
        if self.model.is_edited:
            return "a delta is in place"
        if count_hooks(self.model) != self.n_hooks:
            return "a hook was left in it"
        if self.model.device != self.device:
            return f"it is on {self.model.device}"
        return None if self.model.fingerprint() == self.fingerprint else "its weights are others"


def base_model(
    options: ModelOptions, device: torch.device | None, load: Callable[[], EditableModel]
) -> EditableModel:
    """The base model that the job before has left, or a new one.

    Args:
        options: group `model`.
        device: where the weights go; None for the CPU.
        load: reads the weights; called once whatever was left is freed.
    """
    if not between_jobs.in_job:
        return load()
    made_of = (_options(options), str(device or "cpu"))
    resident: Resident | None = between_jobs.take("model", made_of)
    if resident is not None and (change := resident.change()) is not None:
        log.warning(
            "the base model that the job before has left is loaded anew, since %s. That is a bug; "
            "results of the jobs before may be wrong", change,
        )  # fmt: skip
        resident = None
    if resident is None:
        free_memory()  # there is room for one model, and not always for two
        resident = Resident.of(load())
    else:
        log.info("base model %s: that of the job before, no weight is read", options.name)
    between_jobs.leave("model", made_of, resident)
    return resident.model


def processor_of(options: ModelOptions, load: Callable[[], Processor]) -> Processor:
    """Tokenizer and image processor that the job before has left, or new ones."""
    if not between_jobs.in_job:
        return load()
    made_of = _options(options)
    processor: Processor = between_jobs.take("processor", made_of) or load()
    between_jobs.leave("processor", made_of, processor)
    return processor


def count_hooks(model: torch.nn.Module) -> int:
    """Forward hooks of all its modules.

    Those are left out by which transformers notes what layers give out: it sets them in the first
    pass of a tower that is asked for hidden states, for good, and they change nothing.
    """
    hooks = [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    return sum(not getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)


def _options(options: ModelOptions) -> tuple[object, ...]:
    """The options of a model, and which files its folder has."""
    folder = Path(options.path)
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    stats = ((str(file), file.stat()) for file in files if file.is_file())
    of_files = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return (options.model_dump_json(), of_files)
