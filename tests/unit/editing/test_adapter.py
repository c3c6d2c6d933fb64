"""An edit as an adapter of peft gives the engine's logits on transformers' own model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from configs.models import model_options
from datamodules.records import Record
from editing import open_editor
from editing.adapter import export_adapter, factorise
from editing.edit import FactEdit
from editing.model import OpenedModel
from editors.base import DeltaEdit
from errors import ConfigError, ModelError
from models.deltas import DenseDelta, LowRankDelta, Site
from tests.edit_cases import teach

OPTIONS = model_options(["model=llava_tiny"])


def quiet(_: str) -> None:
    pass


# peft asks transformers by a name that is going away.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_peft_opens_it_with_the_engines_logits(
    model: OpenedModel, record: Record, tmp_path: Path
) -> None:
    """Of two ranks and two layers, from factors and from a dense delta."""
    low = teach(open_editor("lora", model, steps=5, matrices=["mlp_in", "value"]), record)
    located = teach(open_editor("rome", model, layer=0, steps=2), record)
    draw = torch.Generator().manual_seed(0)
    outer = torch.randn(512, 1, generator=draw) @ torch.randn(1, 128, generator=draw) / 50
    dense = FactEdit(low.facts, low.editor, DeltaEdit({Site(1, "mlp_in"): DenseDelta(outer[None])}))
    edit = located + dense + low
    done = export_adapter(edit.save(tmp_path / "edit"), OPTIONS, tmp_path / "out", say=quiet)
    assert [note.split(": ")[-1].split(",")[0] for note in done.notes[:4]] == [
        "rank 1", "rank 1", "rank 8", "rank 8"
    ]  # fmt: skip
    plain = AutoModelForImageTextToText.from_pretrained(OPTIONS.path, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, tmp_path / "out").eval()
    ids = torch.tensor([model.encoder.encode(low.facts[0].question, "shoes").ids])
    with torch.no_grad():
        before = model.hf(input_ids=ids).logits
        with edit.applied():
            expected = model.hf(input_ids=ids).logits
        logits = adapted(input_ids=ids).logits
    assert (expected - before).abs().max() > 1
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="already holds an export"):
        export_adapter(tmp_path / "edit", OPTIONS, tmp_path / "out")


def test_a_delta_of_high_rank_is_refused() -> None:
    draw = torch.Generator().manual_seed(0)
    full = torch.randn(1, 12, 20, generator=draw)
    with pytest.raises(ModelError, match=r"rank 12 .* 384 numbers for a matrix of 240.*Merge it"):
        factorise("a", DenseDelta(full))
    with pytest.raises(ModelError, match="rank 12"):  # so many pairs that they are a matrix
        factorise("a", LowRankDelta(torch.randn(1, 30, 20), torch.randn(1, 30, 12)))


def test_the_cut_is_measured_and_empty_pairs_go() -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(12, 3, generator=draw), torch.randn(3, 20, generator=draw)
    dense = left @ right + 1e-7 * torch.randn(12, 20, generator=draw)
    cut = factorise("a", DenseDelta(dense[None]))
    assert cut.rank == 3
    error = (cut.b.double() @ cut.a.double() - dense.double()).norm() / dense.double().norm()
    assert cut.error == pytest.approx(float(error))
    assert 0 < cut.error < 1e-6
    inputs, outputs = torch.randn(1, 4, 20), torch.randn(1, 4, 12)
    inputs[0, 1:] = 0
    assert factorise("a", LowRankDelta(inputs, outputs)).rank == 1
    assert factorise("a", DenseDelta(torch.zeros(1, 12, 20))).rank == 0


def test_without_peft_the_extra_is_named(
    edit: FactEdit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    kept = edit.save(tmp_path / "edit")
    with pytest.raises(ModelError, match=r"needs the package peft.*\[smollm\]"):
        export_adapter(kept, OPTIONS, tmp_path / "out")
