"""The command on the benchmark's records, over models that read Llama's and OPT's vocabularies."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from tests.e2e.commands import run
from tests.real_evaluations import HARD, write_records
from tests.real_tokenizers import FORMS, VOCABULARY_OF, save_real_model

pytestmark = pytest.mark.e2e
RECORDS = 60
EDITORS: dict[str, tuple[str, ...]] = {
    "none": ("scenario=transitive",),
    "ft": ("scenario=multimodal", "editor.steps=2", "editor.lr=1e-3"),
    "lora": ("scenario=multimodal", "editor.rank=2", "editor.steps=2", "editor.layers=1"),
    "rome": ("scenario=unimodal", "editor.layer=0", "editor.steps=2", "editor.contexts=[[5,1]]"),
    "ike": ("scenario=multimodal", "editor.k=8", "editor.picture=front"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("benchmark") / "data", RECORDS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save_real_model(family, root / family) for family in VOCABULARY_OF}


def evaluated(
    data: Path, model: tuple[str, Path], form: str, editor: str, folder: Path, limit: int
) -> None:
    """An evaluation ends well, of so many records, and says what was generated for each."""
    family, path = model
    name = "blip2_opt" if family == "blip2" else family
    run(
        "evaluate.py", f"model={name}", f"model.path={path}", "data=tmke", f"data.root={data}",
        "data.files=[test.json]", "data.train_files=[train.json]", f"data.prompt={form}",
        f"data.limit={limit}", f"editor={editor}", *EDITORS[editor],
        "metrics.generation=true", "metrics.max_new_tokens=2",
        "trainer.enable_progress_bar=false", f"output_dir={folder}",
    )  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    asked = {name: value["n"] for name, value in summary["metrics"].items()}
    reliability = "Reliability" if "scenario=unimodal" in EDITORS[editor] else "Reliability_S"
    for name in (reliability, f"{reliability}_GM"):
        assert asked[name] == limit


def test_ike_with_two_blanks_before_numbers(
    data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """The first two records: both answers begin with a digit."""
    evaluated(data, ("llava", models["llava"]), "published", "ike", tmp_path / "o", 2)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("number", "family", "editor"),
    [(n, *pair) for n, pair in enumerate(product(VOCABULARY_OF, EDITORS))],
)
def test_the_benchmarks_records(
    number: int, family: str, editor: str, data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    form = FORMS[number % len(FORMS)]
    whole = RECORDS + len(HARD)
    evaluated(data, (family, models[family]), form, editor, tmp_path / "o", whole)
