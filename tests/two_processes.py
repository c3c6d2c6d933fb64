"""What each of two data-parallel processes runs in tests/unit/test_mend_processes.py."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from editors.mend.editor import Mend
from editors.mend.statistics import RunningStatistics
from editors.objective import Objective
from models.editable import EditableModel
from models.rows import EditBatch
from tests.builders import any_model, edit_batch

TOKENS = (5, 0, 3)  # of the first process; the second one has 4 more each time


class Step(nn.Module):
    """The loss of a batch, as the training step computes it."""

    def __init__(self, model: EditableModel, editor: Mend) -> None:
        super().__init__()
        self._base, self.editor = (model,), editor
        self.objective = Objective("text", {"generality": 1.0, "portability": 1.0, "locality": 1.0})

    def forward(self, batch: EditBatch) -> Tensor:
        model = self._base[0]
        state = model.prefix(batch.rows, self.editor.first_layer(model))
        return self.objective(model, self.editor.edit(model, batch, state), batch, state).total


def tokens(rank: int, call: int) -> Tensor:
    draw = torch.Generator().manual_seed(10 * rank + call)
    return torch.randn(TOKENS[call] + 4 * rank, 3, generator=draw, dtype=torch.float64)


def run(rank: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        statistics = RunningStatistics(3).double()
        for call in range(len(TOKENS)):
            statistics.update(tokens(rank, call))
        torch.manual_seed(0)
        model = any_model("opt")
        editor = Mend(model, layers=2, rank=4, edit_lr=1e-2)
        step = DistributedDataParallel(Step(model, editor))  # raises where a parameter is unused
        optimiser = torch.optim.Adam(editor.parameters(), lr=1e-3)
        for numbers in (
            (0, 2),
            (1, 3),
            (5, 4),
        ):  # in the second step no edit has a one-hop question
            optimiser.zero_grad()
            step(edit_batch([number + 10 * rank for number in numbers])).backward()
            optimiser.step()
        found = {"statistics": statistics.state_dict(), "editor": editor.state_dict()}
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()
