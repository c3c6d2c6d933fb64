"""What the stages of a run have come to, on the disk, so that a run which was stopped goes on.

    RUN/stages/<stage>/tensors.safetensors, stage.json

A stage's folder is written whole or not at all, and what it says is what the next stage gets,
whether it was computed now or read: weights in half precision's values, the rest as JSON gives it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from errors import ModelError, some_of
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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        if folder.is_dir():
            log.info("%s is done: %s", name, folder)
            return _read(folder)
        log.info("%s", name)
        started, cpu = time.time(), time.process_time()
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
            content = {"seconds": {k: round(v, 1) for k, v in seconds.items()}, "said": dict(said)}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (temporary / SAID).write_text(text, encoding="utf-8")
        return _read(folder)


def _read(folder: Path) -> Done:
    try:
        content = json.loads((folder / SAID).read_text(encoding="utf-8"))
        stored = load_file(folder / TENSORS)
        tensors = {name: value.float() for name, value in stored.items()}
        return Done(tensors, content["said"], content["seconds"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} cannot be read ({error}). Remove it, and this stage is done anew."
        ) from error
