"""What the stages of a run have come to, on the disk, so that a run which was stopped goes on.

    RUN/stages/<stage>/tensors.safetensors, stage.json

A stage's folder is written whole or not at all, and what it says is what the next stage gets,
whether it was computed now or read: weights in half precision's values, the rest as JSON gives it.
Beside it stand the optimiser steps of the run before and after it: where its curves are.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from errors import ModelError, some_of
from models.tensor_file import TensorFile
from results.files import replacing_folder

TENSORS, SAID = "tensors.safetensors", "stage.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """A stage that is done.

    Attributes:
        tensors: float32 on the CPU.
        said: JSON of what was found.
        seconds: of its computation, `wall` and `cpu`.
    """

    tensors: dict[str, Tensor]
    said: dict[str, Any]
    seconds: dict[str, float]


Computed = tuple[Mapping[str, Tensor], Mapping[str, Any]]


class StageFiles:
    """The stages of one run.

    Args:
        folder: of all stages; a run that starts anew has an empty one.
        count: says how many optimiser steps the run has done so far.
    """

    def __init__(self, folder: Path, count: Callable[[], int] = lambda: 0) -> None:
        self.folder, self.count = folder, count

    def stage(self, name: str, compute: Callable[[], Computed]) -> Done:
        """Computes a stage, or reads it where it is done already.

        Args:
            name: its folder.
            compute: gives its weights, in any number type, and what else is to be known of it.

        Raises:
            ModelError: a weight is not finite in half precision, or its folder is damaged.
            UnwritableError: naming the folder.
        """
        folder = self.folder / name
        if (done := self.stored(name)) is not None:
            log.info("%s is done: %s", name, folder)
            return done
        log.info("%s", name)
        started, cpu, steps = time.time(), time.process_time(), self.count()
        tensors, said = compute()
        halves = {key: value.detach().to("cpu", torch.float16) for key, value in tensors.items()}
        if bad := [key for key, value in halves.items() if not bool(value.isfinite().all())]:
            raise ModelError(
                f"{name}: {some_of(bad)} is not finite in half precision, so nothing was saved. "
                f"The training diverged: lower the rate in recipe.{name.split('_')[0]}."
            )
        seconds = {"wall": time.time() - started, "cpu": time.process_time() - cpu}
        with replacing_folder(folder) as temporary:
            ordered = {key: halves[key].contiguous() for key in sorted(halves)}
            save_file(ordered, temporary / TENSORS)
            content = {
                "seconds": {key: round(value, 1) for key, value in seconds.items()},
                "steps": [steps, self.count()],
                "said": dict(said),
            }
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (temporary / SAID).write_text(text, encoding="utf-8")
        return _read(folder)

    def stored(self, name: str) -> Done | None:
        """A stage that is done, None of any other.

        Raises:
            ModelError: its folder is damaged.
        """
        folder = self.folder / name
        return _read(folder) if (folder / SAID).is_file() else None

    def forget(self, name: str) -> None:
        """Makes a stage one that is not done, from the first file that goes."""
        (self.folder / name / SAID).unlink(missing_ok=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)


def steps_of_run(folder: Path) -> int:
    """Where the last stage in a folder that trained has ended, 0 without any.

    A damaged one counts for nothing; `StageFiles` tells of it.
    """
    steps = [0]
    for path in folder.glob(f"*/{SAID}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            first, end = json.loads(path.read_text(encoding="utf-8"))["steps"]
            steps += [int(end)] if end > first else []
    return max(steps)


def _read(folder: Path) -> Done:
    remedy = f"Remove {folder}, and this stage is done anew."
    try:
        content = json.loads((folder / SAID).read_text(encoding="utf-8"))
        said, seconds = content["said"], content["seconds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} cannot be read ({error}). {remedy}") from error
    stored = TensorFile.of(folder / TENSORS, remedy=remedy).read()
    return Done({name: value.float() for name, value in stored.items()}, said, seconds)
