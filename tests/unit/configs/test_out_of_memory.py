"""A device or machine without room is told in one sentence that says what to lower."""

from __future__ import annotations

import errno

import pytest
import torch

from configs.check import load_config
from configs.out_of_memory import explained_loading, explained_memory, is_out_of_memory
from errors import USER_ERROR, DataError, ModelError
from runner.processes import _status

SAID = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB, max allowed: 18.13 GB)."),
    RuntimeError("CUDA out of memory at line 380 in file /src/csrc/ops.cu"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


def message_of(command: str, error: Exception, *words: str) -> str:
    config = load_config(command, ["experiment=demo", *words])
    with pytest.raises(ModelError) as caught, explained_memory(config):
        raise error
    return str(caught.value)


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:30])
def test_every_library_s_way_of_saying_so_is_understood(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert "lower evaluate.batch_size (now 5)".lower() in message_of(
        "evaluate", error, "editor=ft", "evaluate.batch_size=5"
    ).lower()  # fmt: skip


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), DataError("out of memory of it"), KeyError("x")]
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    config = load_config("evaluate", ["editor=ft"])
    with pytest.raises(type(error)) as caught, explained_memory(config):
        raise error
    assert caught.value is error


def test_a_training_may_take_smaller_batches_and_more_of_them() -> None:
    words = ("editor=mend", "editor.batch_size=8", "editor.accumulate=2", "model.dtype=float32")
    assert message_of("train", SAID[0], *words).startswith(
        "train.py: CUDA out of memory. Lower editor.batch_size (now 8) and raise editor.accumulate "
        "(now 2) by the same factor, or lower evaluate.batch_size (now "
    )
    smallest = (*words, "editor.batch_size=1", "evaluate.batch_size=1")
    message = message_of("train", SAID[0], *smallest)
    assert "batch_size" not in message
    assert "Set model.quantise=8bit or 4bit (now null)" in message
    assert "model.dtype=bfloat16 (now float32)" in message
    assert "trainer.precision=bf16-mixed (now 32-true)" in message


def test_an_evaluation_keeps_what_is_done_and_goes_on_with_smaller_batches() -> None:
    words = ("editor=ft", "evaluate.batch_size=4", "output_dir=runs/big")
    assert "resume=true output_dir=runs/big" in message_of("evaluate", SAID[0], *words)
    assert "resume" not in message_of("evaluate", SAID[0], *words, "evaluate.batch_size=1")


def test_a_machine_without_memory_is_no_matter_of_the_model_s_type() -> None:
    message = message_of("evaluate", MemoryError(), "editor=ft", "data.num_workers=3")
    assert "lower data.num_workers (now 3)" in message
    assert "quantise" not in message
    message = message_of("evaluate", MemoryError(), "editor=ft", "data.num_workers=auto")
    assert "set data.num_workers=0 (now auto)" in message


def test_a_model_that_does_not_fit_is_loaded_smaller() -> None:
    config = load_config("evaluate", ["editor=ft", "model.dtype=float32"])
    with pytest.raises(ModelError) as caught, explained_loading(config.model):
        raise SAID[0]
    message = str(caught.value)
    assert message.startswith("model=llava_tiny does not fit: CUDA out of memory. Set model.q")
    assert "model.dtype=bfloat16 (now float32)" in message


def test_all_processes_of_a_run_end_as_after_a_user_s_mistake() -> None:
    assert _status(torch.OutOfMemoryError("CUDA out of memory")) == USER_ERROR
    assert _status(RuntimeError("shape mismatch")) == 1
