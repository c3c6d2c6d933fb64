"""`evaluate.py` or `train.py` that says at each job's begin what earlier jobs have left behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import weakref
from pathlib import Path
from typing import Any


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import torch

    from configs.launch import run_command
    from errors import DataError
    from runner import assembly

    command, fails = sys.argv.pop(1), sys.argv.pop(1)
    entry = __import__(command)
    alive: list[weakref.ref[Any]] = []
    open_model, make_trainer = assembly.open_model, assembly.make_trainer

    def remembered(make: Any) -> Any:
        def remembering(*args: Any, **kwargs: Any) -> Any:
            made = make(*args, **kwargs)
            alive.append(weakref.ref(made))
            return made

        return remembering

    assembly.open_model = remembered(open_model)
    assembly.make_trainer = remembered(make_trainer)

    def job(cfg: Any) -> float | None:
        state = {
            "alive": sum(ref() is not None for ref in alive),
            "environment": dict(os.environ),
            "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
            "handlers": [str(handler) for handler in logging.getLogger().handlers],
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
        print("STATE", json.dumps(state))
        score: float | None = entry.main(cfg)
        if cfg.editor.name == fails:
            raise DataError("this job is to fail")
        return score

    run_command(command, job)


if __name__ == "__main__":
    main()
