"""How many edits are judged side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks import mid_size
from benchmarks.full_size import full_size
from benchmarks.memory import peak_bytes
from configs.schema import EvaluateOptions
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.scenarios import SCENARIOS
from editors.base import HoldsMemory, state_for
from editors.serac.counterfactual import Counterfactual
from editors.serac.editor import Serac
from errors import ConfigError, DataError
from models.budget import MemoryBudget
from models.editable import EditableModel
from models.families import without_weights
from models.rows import EditBatch
from results.partial import BatchResult
from runner.batch_size import MOST, choose_batch_size, continued_batch_size, edit_bytes
from tests import builders
from tests.all_editors import EDITORS
from tests.serac_cases import picture_model, worded_batch

N_EDITS = 12


@dataclass
class Edits:
    """What is asked of a DataModule: the edit in the middle is the longest."""

    counts: Sequence[int]

    def __post_init__(self) -> None:
        places = tuple(range(100, 100 + len(self.counts)))
        self.served = {"test": places}
        records = {place: SimpleNamespace(about=f"subject {place}") for place in places}
        self.source: Any = SimpleNamespace(
            place=lambda split, place: f"{split}.json[{place}]", records=lambda split: records
        )

    def tokens(self, split: str) -> Sequence[int]:
        return self.counts

    def batch(self, split: str, numbers: Sequence[int]) -> EditBatch:
        return worded_batch(list(numbers), pictures=True)


def choose(
    batch_size: Any, tokens: int | None = None, counts: Sequence[int] = (50, 90, 60), **budget: Any
) -> int:
    model, data = picture_model(), Edits(counts)
    if budget:
        each = edit_bytes(model, None, data.batch("test", [1]))
        model.budget = MemoryBudget(round(budget["edits"] * each))
    options = EvaluateOptions(batch_size=batch_size, tokens=tokens)
    return choose_batch_size(options, data, "test", model, None)  # type: ignore[arg-type]


def test_a_number_is_taken_as_it_is_and_tokens_make_it_smaller() -> None:
    assert choose(16) == 16
    assert choose(16, edits=0.5) == 16
    assert choose(16, tokens=16 * 90) == 16
    assert choose(16, tokens=16 * 90 - 1) == 15
    assert choose(2, tokens=10**6) == 2


def test_auto_is_what_the_device_has_room_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="runner.batch_size")
    many = (50, 90, *(60,) * 1000)
    assert choose("auto", counts=many, edits=7.5) == 7
    assert "evaluate.batch_size=auto: 7 edits side by side" in caplog.text
    assert "the longest edit has 90 tokens" in caplog.text
    assert choose("auto", counts=many, edits=10**6) == 2**14 // 90
    assert choose("auto", counts=(1, 2) * 500, edits=10**6) == MOST
    assert choose("auto", counts=(50, 90, 60), edits=10**6) == 3
    assert choose("auto", tokens=200, counts=many, edits=7.5) == 2
    caplog.clear()
    assert choose("auto", counts=many, edits=0.5) == 1
    assert "one edit takes about" in caplog.text


@pytest.mark.parametrize("batch_size", ["auto", 1, 16])
def test_less_than_one_edit_is_refused(batch_size: Any) -> None:
    with pytest.raises(
        ConfigError,
        match=r"evaluate\.tokens=70 is less than 2 of 4 edits have.*test\.json\[101\] "
        r"\(subject 101\) has 90\. Give 90 or more",
    ):
        choose(batch_size, tokens=70, counts=(50, 90, 60, 80))


def test_a_run_that_goes_on_keeps_its_batches() -> None:
    done = [BatchResult((0, 1, 2, 3, 4), []), BatchResult((5, 6), [])]
    assert continued_batch_size(EvaluateOptions(batch_size="auto", tokens=None), done, 16) == 5
    assert continued_batch_size(EvaluateOptions(batch_size="auto", tokens=None), [], 16) == 16
    assert continued_batch_size(EvaluateOptions(batch_size=3, tokens=None), done, 3) == 3


@pytest.fixture
def wide_model(monkeypatch: pytest.MonkeyPatch) -> EditableModel:
    """So wide that what counts is tensors of the model's width, as in a real one."""
    monkeypatch.setattr(builders, "WIDTH", 256)
    monkeypatch.setattr(builders, "INNER", 688)
    return picture_model()


@pytest.mark.parametrize("name", ["none", "ft", "lora", "mend", "serac"])
def test_no_more_is_held_than_was_counted(name: str, wide_model: EditableModel) -> None:
    """And no less than a fourth of it, or far too few edits would be judged side by side."""
    model, editor = wide_model, EDITORS[name](wide_model, 2)
    model.budget = MemoryBudget(8 * 2**20)  # a descent of one edit has room in it
    batch = worded_batch([1, 2, 3, 4], pictures=True)
    with peak_bytes() as peak:
        rows = model.encode_pictures(batch.rows)
        batch = replace(batch, rows=rows)
        state, at = model.prefix(rows, editor.first_layer(model), packed=True), rows.answers()
        state = state_for(editor, state)
        pre = model.unedited(state, at).topk(5)
        edit = editor.edit(model, batch, state)
        with torch.no_grad():
            post = edit.answer(model, rows, state, at).topk(5)
    counted = edit_bytes(model, editor, batch)
    assert len(pre) == len(post)
    assert 0.25 * counted <= peak.bytes <= counted + model.budget.bytes  # of what comes in parts


@pytest.mark.parametrize("scenario", ["unimodal", "multimodal", "transitive"])
def test_serac_beside_a_7b_model_takes_less_than_4_gb(scenario: str, tmp_path: Path) -> None:
    """The default batch of the benchmark's records; LLaVA-1.5 in bfloat16 and LLaMA-160M."""
    try:
        folder = mid_size.shared_folder()
    except DataError as error:
        pytest.skip(str(error))
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizers/llama")
    layout = PictureLayout(576, tokenizer.convert_tokens_to_ids("<image>"))
    encoder = PromptEncoder(tokenizer, layout)
    source = mid_size.read_records(folder, tmp_path)
    (batch,) = mid_size.make_batches(source, encoder, SCENARIOS[scenario], 16, 16)
    model = without_weights("llava", full_size("llava"), torch.bfloat16)
    small = LlamaConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    with torch.device("meta"):
        reader = Counterfactual(LlamaForCausalLM(small), small.vocab_size, 4096)
    editor = SimpleNamespace(counterfactual=reader)
    editor.held_bytes = partial(Serac.held_bytes, editor)
    assert isinstance(editor, HoldsMemory)
    counted = edit_bytes(model, editor, batch)
    pixels = 0 if batch.rows.pixel_values is None else len(batch.rows.pixel_values) * 3 * 336**2 * 4
    assert counted + pixels < 4e9
