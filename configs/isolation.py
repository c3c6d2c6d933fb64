"""What a job of a sweep changes in its process, put back for the next job, and its memory freed."""

import gc
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def isolated() -> Iterator[None]:
    """Leaves environment, signals, log handlers, warnings and torch's switches as they were.

    What is left of the job's objects is freed by `free_memory`, once nobody refers to them.
    """
    environment = dict(os.environ)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with warnings.catch_warnings(), _torch_as_it_was():
        try:
            yield
        finally:
            _restore_environment(environment)
            root.handlers[:] = handlers
            root.setLevel(level)
            if threading.current_thread() is threading.main_thread():
                for number, handler in signals.items():
                    if handler is not None and signal.getsignal(number) is not handler:
                        signal.signal(number, handler)


def free_memory() -> None:
    """Frees what has no owner any more: objects in cycles, and the GPU memory they took."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Threads, precision and determinism, which a trainer sets for the whole process."""
    import torch

    cudnn = torch.backends.cudnn
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    matmul = torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    switches = cudnn.deterministic, cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(matmul)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = switches
