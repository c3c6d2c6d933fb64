"""A command in whose process group only tensors of a GPU travel once Lightning has torn down.

    python tests/e2e/as_on_gpus.py train.py|evaluate.py WORD ...

NCCL is such a group all the time. Lightning's teardown moves the module to the CPU, so what is
gathered after it fails on GPUs and nowhere else; here it fails on a CPU. A run of one process gets
such a group of one.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path


def main() -> None:
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))
    from lightning.pytorch.strategies import Strategy
    from torch import distributed

    teardown = Strategy.teardown

    def refusing(self: Strategy) -> None:
        teardown(self)
        rank, size, file = 0, 1, tempfile.mktemp()
        if distributed.is_initialized():
            rank, size = distributed.get_rank(), distributed.get_world_size()
            names = [file]
            distributed.broadcast_object_list(names)
            file = names[0]
            distributed.destroy_process_group()
        distributed.init_process_group(
            "cuda:gloo", store=distributed.FileStore(file, size), rank=rank, world_size=size
        )

    Strategy.teardown = refusing  # type: ignore[method-assign]
    sys.argv = sys.argv[1:]
    runpy.run_path(str(root / sys.argv[0]), run_name="__main__")


if __name__ == "__main__":
    main()
