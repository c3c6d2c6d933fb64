"""AdamW with a linear warm-up and one cosine, as a LightningModule returns it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from configs.around import Schedule
from lightning_modules.editor_training import cosine


def descent(parameters: Iterable[nn.Parameter], schedule: Schedule) -> dict[str, Any]:
    """The optimiser of a stage and its rate at every step."""
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay)

    def rate(step: int) -> float:
        warmup, floor = schedule.warmup_steps, schedule.lr_floor
        return cosine(step, schedule.steps, warmup=warmup, floor=floor)

    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}
