"""Callbacks as a user has them, named on the command line."""

from __future__ import annotations

import json
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from models.rows import EditBatch


class Says(Callback):
    """Prints which edits are served, and counts the batches over all starts of a training."""

    def __init__(self, word: str = "batch") -> None:
        self.word, self.count = word, 0

    def on_train_batch_start(self, *arguments: Any) -> None:
        batch: EditBatch = arguments[2]
        self.count += 1
        note = {"count": self.count, "anomalies": torch.is_anomaly_enabled()}
        print(self.word, json.dumps(note | {"edits": batch.subjects}), flush=True)

    def on_validation_batch_start(self, *arguments: Any) -> None:
        print("validation", json.dumps({"edits": arguments[2].subjects}), flush=True)

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.count = state_dict["count"]


class NoMemory(Callback):
    """A device that is too small for the second batch of an evaluation."""

    def on_test_batch_start(self, *arguments: Any) -> None:
        if arguments[3] == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")
