"""`make real`, whole, around a tiny language model: MEND trained, four editors judged, a report."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from models.parts_folder import write_parts
from tests.e2e.commands import ROOT, environment
from tests.e2e.warm_python import warm_python
from tests.local_models import COMMON, LLAMA_LIKE, chat_tokenizer, random_parts

pytestmark = pytest.mark.quality
LAYERS, EDITS = 12, 2  # experiment=smollm edits layers that a model of two does not have
SCENARIOS = ("unimodal", "transitive", "multimodal")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, countries: Path) -> dict[str, str]:
    """Variables of make for a language model that knows nothing."""
    folder = tmp_path_factory.mktemp("real")
    sizes = COMMON | {"num_hidden_layers": LAYERS, "max_position_embeddings": 512}
    tokenizer = chat_tokenizer()
    config = LlamaConfig(**sizes, **LLAMA_LIKE, vocab_size=len(tokenizer), bos_token_id=1)
    LlamaForCausalLM(config).save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    write_parts(folder / "parts", random_parts())
    data = f"data.root={countries} data.filter_known=none logger=csv"
    return {
        "READY": "", "REAL": str(folder / "runs"), "ACCELERATOR": "cpu",
        "BUILD_ARGS": f"--language-model {folder}/language --parts {folder}/parts",
        "ARGS": data,
        "TRAIN_ARGS": f"{data} trainer.max_steps=2 trainer.val_every=2 trainer.limit_val_batches=1",
        "EDITS": str(EDITS), "FULL": "", "REAL_EDITS": str(EDITS),
    }  # fmt: skip


def make_real(words: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder)) as python:
        words = words | {"PY": python["PY"]}
        command = ["make", "real", *(f"{name}={value}" for name, value in words.items())]
        done = subprocess.run(
            command, cwd=ROOT, env=environment() | python, capture_output=True, text=True,
            timeout=1500,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_short_table_is_made(words: dict[str, str]) -> None:
    make_real(words)
    root = Path(words["REAL"])
    found = {
        (found["editor"], found["scenario"], found["n_edits"])
        for file in root.glob(f"naming/*-{EDITS}/?/summary.json")
        for found in [json.loads(file.read_text())]
    }
    judged = {(editor, scenario) for editor in ("none", "ft", "mend") for scenario in SCENARIOS}
    judged |= {("rome", "unimodal"), ("rome", "transitive")}
    assert found == {(*one, EDITS) for one in judged}
    assert (root / "report" / "report.md").is_file()
