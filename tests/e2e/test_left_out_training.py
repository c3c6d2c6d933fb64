"""A training that leaves records out goes on with those that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.e2e.commands import ROOT, run
from tests.odd.records import records, write_pictures

pytestmark = pytest.mark.e2e
MOST = 160  # tokens that the counterfactual model reads; the base reads more


def write_counterfactual(folder: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "pretrained" / "llava_tiny")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=MOST,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_question(record: dict[str, Any], question: str) -> dict[str, Any]:
    return {**record, "knowledge_edit": {**record["knowledge_edit"], "question": question}}


def test_one_without_records_that_were_too_long_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_pictures(root / "images")
    sound = records(5)
    long = with_question(
        {**sound[0], "subject": "Zeven"}, f"Where is Zeven {'in the town ' * 20}based?"
    )
    (root / "train.json").write_text(json.dumps([*sound, long]))
    command = (
        "train.py", "experiment=demo", "editor=serac", "model=llava_tiny", "data=tmke",
        f"data.root={root}", "data.train_files=[train.json]", "data.on_error=skip", "data.seed=1",
        f"editor.counterfactual.path={write_counterfactual(tmp_path / 'small')}",
        "editor.objective=mixture", "editor.batch_size=2", "logger=none", "trainer.val_every=1",
        f"output_dir={tmp_path / 'run'}", "resume=true",
    )  # fmt: skip
    printed = run(*command, "trainer.max_steps=1")
    assert "1 record left out" in printed
    assert "Zeven" in printed
    printed = run(*command, "trainer.max_steps=2")
    assert "last.ckpt" in printed
