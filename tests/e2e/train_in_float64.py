"""`train.py` in float64, so that two runs differ by what they compute and not by how they round.

In float32 Adam moves a parameter by its whole rate in the direction that rounding gives, wherever
the gradient is as small as its rounding error; runs that pad their batches differently drift apart.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import torch

    import train
    from configs.launch import run_command
    from models.editable import EditableModel
    from runner import assembly

    opened = assembly.open_model

    def in_float64(*args: Any, **kwargs: Any) -> EditableModel:
        return opened(*args, **kwargs).double()

    torch.set_default_dtype(torch.float64)
    assembly.open_model = in_float64
    run_command("train", train.main)


if __name__ == "__main__":
    main()
