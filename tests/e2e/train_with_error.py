"""`train.py` in which one process (FAILING_RANK) fails in its second batch."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from torch import Tensor

    import train
    from configs.launch import run_command
    from errors import DataError
    from lightning_modules.editor_training import EditorTraining
    from models.rows import EditBatch

    step = EditorTraining.training_step

    def fails(self: EditorTraining, batch: EditBatch, batch_idx: int) -> Tensor:
        if batch_idx == 1 and str(self.global_rank) == os.environ["FAILING_RANK"]:
            raise DataError(f"record {batch.edit_ids[0]} is broken.")
        return step(self, batch, batch_idx)

    EditorTraining.training_step = fails  # type: ignore[method-assign]
    run_command("train", train.main)


if __name__ == "__main__":
    main()
