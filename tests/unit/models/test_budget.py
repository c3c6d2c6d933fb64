"""What a pass may hold, from what the device has, and what is said where that is too little."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.check import load_config
from configs.schema import TrainerOptions
from editors.answer_descent import fit_answers
from editors.options import DescentOptions
from editors.teaching import Teaching
from errors import ConfigError, ModelError
from models import budget
from models.budget import CPU_MOST, MemoryBudget
from models.deltas import DenseDelta
from models.device_memory import DeviceMemory
from tests.builders import Prompt, any_model, rows_of
from tests.editors import editor_options

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> DeviceMemory:
    """A device of 80 GB, 40 GB of them free."""
    memory = DeviceMemory("cuda:0", 80 * 10**9, 40 * 10**9)
    monkeypatch.setattr(budget, "device_memory", lambda _: memory)
    return memory


def test_a_budget_is_what_the_device_can_spare(machine: DeviceMemory) -> None:
    assert MemoryBudget.of(CUDA) == MemoryBudget(16 * GIB, machine.free, "cuda:0")
    assert MemoryBudget.of(CUDA, 0.9).bytes == 32 * GIB
    assert MemoryBudget.of(CPU).bytes == CPU_MOST
    assert MemoryBudget.of(CPU, 0.9).bytes == 32 * GIB
    assert MemoryBudget.of(CPU, processes=4).bytes == 4 * GIB
    assert MemoryBudget.of(CPU, 3_000_000, processes=4).bytes == 3_000_000


@given(st.integers(1, 10**12), st.floats(0.01, 0.02))
def test_what_else_runs_beside_rarely_moves_a_budget(free: int, moved: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        budgets = []
        for now in (free, round(free * (1 - moved))):
            patch.setattr(budget, "device_memory", lambda _, n=now: DeviceMemory("cpu", 10**12, n))
            budgets.append(MemoryBudget.of(CPU).bytes)
    assert budgets[0] in (budgets[1], 2 * budgets[1])
    assert budgets[0] <= max(1, free)
    assert budgets[0] & (budgets[0] - 1) == 0


def test_more_than_the_device_has_is_refused(machine: DeviceMemory) -> None:
    with pytest.raises(ModelError, match=r"trainer.memory=90GB is more than cuda:0 has: 80\.0 GB"):
        MemoryBudget.of(CUDA, 90 * 10**9)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.sampled_from([1.0, 0.5, 0.125]))
def test_items_fit_and_one_more_would_not(room: int, each: int, share: float) -> None:
    n = MemoryBudget(room).fit(each, share=share)
    assert n >= 1
    assert n == 1 or n * each <= room * share
    assert (n + 1) * each > int(room * share)


def test_an_edit_that_has_no_place_is_told_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, moments = any_model("llama"), 0

    def fit(free: int | None) -> None:
        nonlocal moments
        rows = rows_of([Prompt((4, 5, 6), 1)])
        site = model.last_sites(1)[0]
        start = [torch.zeros_like(model.weight(site))]
        moments = 16 * start[0].numel()
        monkeypatch.setattr(model, "budget", MemoryBudget(1, free, "cuda:0"))
        options, state = descent_options(), model.prefix(rows, site.layer)
        fit_answers(
            model, Teaching(rows.answers(), torch.zeros(1, dtype=torch.int64), 1, state), start,
            lambda moves: {site: DenseDelta(moves[0])}, options,
        )  # fmt: skip

    fit(None)
    fit(moments)  # just as much as is needed
    with pytest.raises(ModelError, match=r"one edit.* takes 0\.0 GB, and cuda:0 has .*editor=lora"):
        fit(moments - 1)


def descent_options() -> DescentOptions:
    options = editor_options("ft", steps=1)
    assert isinstance(options, DescentOptions)
    return options


def trainer(memory: str) -> TrainerOptions:
    words = ["experiment=demo", "editor=ft", f"trainer.memory={memory}", "output_dir=unused"]
    config = load_config("evaluate", words)
    options: TrainerOptions = config.trainer  # type: ignore[attr-defined]
    return options


@pytest.mark.parametrize(
    ("typed", "limit"),
    [("auto", None), ("0.5", 0.5), ("1", 1.0), ("12GB", 12 * 10**9), ("1.5MB", 1_500_000)],
)
def test_memory_is_a_share_or_a_size(typed: str, limit: float | None) -> None:
    options = trainer(typed)
    assert options.memory_limit == limit
    assert type(options.memory_limit) is type(limit)
    assert "memory" not in options.arguments()


@pytest.mark.parametrize("typed", ["0", "1.5", "-1", "12", "0GB", "12 KB", "true", "null", "all"])
def test_what_is_no_memory_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.memory.*12GB"):
        trainer(typed)
