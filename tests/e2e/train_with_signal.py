"""`train.py` in which process SIGNAL_RANK gets the signal SIGNAL within step SIGNAL_STEP."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from torch import Tensor

    import train
    from configs.launch import run_command
    from lightning_modules.editor_training import EditorTraining
    from models.rows import EditBatch

    step = EditorTraining.training_step

    def interrupted(self: EditorTraining, batch: EditBatch, batch_idx: int) -> Tensor:
        asked = (os.environ["SIGNAL_STEP"], os.environ.get("SIGNAL_RANK", "0"))
        if (str(self.trainer.global_step), str(self.global_rank)) == asked:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return step(self, batch, batch_idx)

    EditorTraining.training_step = interrupted  # type: ignore[method-assign]
    run_command("train", train.main)


if __name__ == "__main__":
    main()
