"""zsRE and CounterFact through the real command; text alone is told before anything loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import run
from tests.unit.datamodules.test_text_benchmarks import SAMPLES

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("name", "editor"), [("zsre", "ft"), ("counterfact", "rome")])
def test_text_is_edited_and_pictures_are_refused(tmp_path: Path, name: str, editor: str) -> None:
    sample = SAMPLES[name]
    root, output = tmp_path / "data", tmp_path / "result"
    root.mkdir()
    records = [sample, {**sample, "subject": sample["subject"][:4], "case_id": 43}]
    (root / "test.json").write_text(json.dumps(records), encoding="utf-8")
    words = (
        "evaluate.py", "experiment=demo", f"editor={editor}", "model=llava_tiny",
        f"data={name}", f"data.root={root}", "logger=none", f"output_dir={output}",
    )  # fmt: skip
    refused = run(*words, "scenario=transitive", status=2)
    assert f"scenario=transitive: data={name} is text alone" in refused
    assert not output.exists()
    run(*words, "scenario=unimodal", "data.limit=2")
    metrics = json.loads((output / "summary.json").read_text(encoding="utf-8"))["metrics"]
    counts = {line: metrics[line]["n"] for line in ("Reliability", "Locality", "Stability")}
    assert counts == {"Reliability": 2, "Locality": 2, "Stability": 0}
