"""How float32 matrices are multiplied: `trainer.matmul`, and what auto comes to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from configs.check import load_config
from runner.start import matmul_precision, start

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def config(command: str, *words: str) -> Any:
    editor = () if command == "pretrain" else ("experiment=demo", "editor=mend")
    editor = ("experiment=demo", "editor=ft") if command == "evaluate" else editor
    return load_config(command, [*editor, "output_dir=unused", *words])


@pytest.mark.parametrize(
    ("command", "device", "words", "precision"),
    [
        ("train", CUDA, (), "high"),
        ("evaluate", CUDA, ("model.dtype=float16",), "high"),
        ("evaluate", CUDA, ("model.dtype=float32",), "highest"),
        ("evaluate", CUDA, ("trainer.matmul=highest",), "highest"),
        ("evaluate", CPU, ("model.dtype=bfloat16",), "highest"),
        ("evaluate", CPU, ("trainer.matmul=medium",), "medium"),
        ("pretrain", CUDA, (), "highest"),
    ],
)
def test_float32_is_rounded_only_beside_a_model_in_half_precision(
    command: str, device: torch.device, words: tuple[str, ...], precision: str
) -> None:
    typed = [word for word in words if "dtype" not in word]
    cfg = config(command, *typed)
    for word in set(words) - set(typed):
        model = cfg.model.model_copy(update={"dtype": word.split("=")[1]})
        cfg = cfg.model_copy(update={"model": model})
    if command != "pretrain" and typed == list(words) and device == CUDA:
        cfg = cfg.model_copy(update={"model": cfg.model.model_copy(update={"dtype": "auto"})})
    assert matmul_precision(cfg, device) == precision


def test_a_command_begins_with_it() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        with start(config("evaluate", "trainer.matmul=medium")):
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_logits_of_half_precision_lose_nothing_in_tf32() -> None:
    """A factor in bfloat16 or float16 has at most the ten bits behind the point that TF32 keeps."""
    for dtype in (torch.bfloat16, torch.float16):
        values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).to(dtype).float()
        bits = values.view(torch.int32)
        assert bool((bits & 0b1_1111_1111_1111 == 0).all())  # of 23 bits TF32 drops the last 13
