"""What each of two data-parallel processes runs.

The same trainings run in tests/unit/lightning_modules/test_training_processes.py, in one process
with the batches of both, in float64, so that what differs is not rounding.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import warnings
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from editors.mend.config import MendOptions
from editors.mend.statistics import RunningStatistics
from editors.objective import Objective
from lightning_modules.checkpoints import SafeFiles
from lightning_modules.editor_training import EditorTraining
from lightning_modules.malmen import MalmenTraining
from lightning_modules.mend import MendTraining
from lightning_modules.rledit import RleditTraining
from lightning_modules.serac import SeracTraining
from models.rows import EditBatch
from tests import broken_trainings, serac_cases
from tests.builders import MEND_OPTIONS, any_model, edit_batch, inputs
from tests.malmen_cases import malmen_options, rledit_options, stirred_training

TOKENS = (5, 0, 3)  # of the first process; the second one has 4 more each time
# Per step the edits of both processes. One-hop questions are missing where a number is odd (MEND's
# batches) or a multiple of 3 (SERAC's): in the second step the first process has none, in the third
# nobody has one.
ROUND = (((0, 2), (11, 13)), ((3, 9), (14, 20)), ((3, 15), (9, 21)), ((5, 4), (16, 14)))
FULL_DISK = "full disk"  # folder of a training whose first process has none left for a while
LONG = "serac supervised text"  # 22 steps; tests/e2e/test_two_processes.py takes half with MEND
JUDGED = (((30, 31), (32,)), ((34, 33),))  # validation batches, an odd number of them
CASES = (
    "mend text", "mend image_text", "malmen text", "malmen image_text", "rledit text",
    "serac mixture text", "serac supervised text",
    "serac mixture image_text", "serac supervised image_text",
)  # fmt: skip


def tokens(rank: int, call: int) -> Tensor:
    draw = torch.Generator().manual_seed(10 * rank + call)
    return torch.randn(TOKENS[call] + 4 * rank, 3, generator=draw, dtype=torch.float64)


def steps(case: str, rank: int | None) -> list[tuple[int, ...]]:
    """Training batches of a process; None: of one process that does the work of both."""
    pairs = (*ROUND * (5 if case == LONG else 1), *ROUND[:2])
    return [first + second if rank is None else (first, second)[rank] for first, second in pairs]


def judged(rank: int | None) -> list[tuple[int, ...]]:
    """Validation batches."""
    return [batch for share in JUDGED for batch in share] if rank is None else list(JUDGED[rank])


def fitted(
    case: str, train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], folder: Path
) -> dict[str, dict[str, Tensor]]:
    """Trains one editor: its state, and what was logged last."""
    name, *objective, questions = case.split()
    pictures = questions == "image_text"
    trainings = {"mend": _mend, "malmen": _malmen, "rledit": _rledit}
    module, batch = (
        trainings[name](pictures) if name in trainings else _serac(objective[0], pictures)
    )
    with warnings.catch_warnings():
        # what a user would see is an error here, but for advice about workers and short trainings
        warnings.simplefilter("error", UserWarning)
        for message in ("The .*dataloader.* does not have many workers", "Found .* in eval mode",
                        "The number of training batches"):  # fmt: skip
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        trainer = L.Trainer(
            accelerator="cpu",
            devices=distributed.get_world_size() if distributed.is_initialized() else 1,
            strategy="ddp" if distributed.is_initialized() else "auto",  # raises: unused parameter
            max_steps=len(train),
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            gradient_clip_val=0.1,
            num_sanity_val_steps=0,
            default_root_dir=str(folder),
        )
        trainer.fit(module, _loader(batch, train, pictures), _loader(batch, val, pictures))
    logged = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    return {"editor": module.editor.state_dict(), "logged": logged}


class NoRoom(SafeFiles):
    """The disk is full at some saves, counted from 0; only the first process writes."""

    def __init__(self, full_at: Collection[int]) -> None:
        super().__init__()
        self.full_at, self.saves = full_at, itertools.count()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if next(self.saves) in self.full_at:
            self.failure = os.strerror(errno.ENOSPC)
        else:
            super().save_checkpoint(checkpoint, path, storage_options)


def run(rank: int, folder: str) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        statistics = RunningStatistics(3)
        for call in range(len(TOKENS)):
            statistics.update(tokens(rank, call))
        found: dict[str, Any] = {"statistics": statistics.state_dict()}
        for case in CASES:
            found[case] = fitted(case, steps(case, rank), judged(rank), Path(folder))
        files = NoRoom((4, 5, 7))  # the second best.ckpt and the last.ckpt behind it; the end
        broken_trainings.fit(
            Path(folder) / FULL_DISK, steps=3, val_every=1, save_every=9, files=files, processes=2
        )
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _mend(pictures: bool) -> tuple[EditorTraining, Any]:
    model = any_model("llava" if pictures else "opt").double()
    torch.manual_seed(11)
    options = MendOptions.model_validate(MEND_OPTIONS)
    objective = Objective("image_text" if pictures else "text", options.weights.model_dump())
    return MendTraining(options, model, inputs(), objective), edit_batch


def _malmen(pictures: bool) -> tuple[EditorTraining, Any]:
    """Parts of three edits: those of one process cut across the shares of two."""
    options = malmen_options(batch_size=3, net_batch=4, lr=1e-3)
    model = any_model("llava" if pictures else "opt").double()
    return stirred_training(MalmenTraining, options, model), edit_batch


def _rledit(pictures: bool) -> tuple[EditorTraining, Any]:
    """Trajectories of two updates of two edits."""
    model = any_model("llava" if pictures else "opt").double()
    options = rledit_options(lr=1e-3, turns=2)
    return stirred_training(RleditTraining, options, model), edit_batch


def _serac(objective: str, pictures: bool) -> tuple[EditorTraining, Any]:
    model = (serac_cases.picture_model() if pictures else serac_cases.opt_model()).double()
    torch.manual_seed(11)
    options = serac_cases.options(objective=objective)
    terms = Objective("image_text" if pictures else "text", options.weights.model_dump())
    built = SeracTraining(options, model, serac_cases.inputs(), terms)
    return built.double(), serac_cases.worded_batch


def _loader(batch: Any, numbers: Sequence[Sequence[int]], pictures: bool) -> DataLoader[EditBatch]:
    batches = [batch(list(edits), pictures=pictures) for edits in numbers]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
