"""The field's benchmarks through the real commands, on drawn pictures and a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.folder import PROBE_SCHEMA, read_rows
from tests.benchmark_files import (
    CCKEB,
    CCKEB_PICTURES,
    MCMKE,
    ONE_HOP,
    draw_pictures,
    options,
    vlkeb_of,
    write_json,
    write_mcmke,
)
from tests.e2e.commands import run
from tests.unit.datamodules.test_text_benchmarks import ZSRE

pytestmark = pytest.mark.e2e
SMALL = ("experiment=demo", "model=llava_tiny", "logger=none")


def pictured(name: str, root: Path, scenario: str, **keys: str) -> list[str]:
    """Draws the pictures of a miniature; the words that name its data."""
    draw_pictures(options(name, root, **keys).open(), scenario)
    given = [f"data.{key}={value}" for key, value in keys.items()]
    return [f"data={name}", f"data.root={root}", *given, f"scenario={scenario}"]


def summary_of(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def counts(summary: Any, *names: str) -> list[int]:
    return [summary["metrics"][name]["n"] for name in names]


def cckeb_words(root: Path) -> list[str]:
    write_json(root / "vlkeb" / "eval.json", CCKEB_PICTURES)
    write_json(root / "cckeb" / "eval.json", CCKEB)
    return pictured("cckeb", root / "cckeb", "transitive", vlkeb_root=str(root / "vlkeb"))


def test_an_edit_of_a_picture_alone_is_made_of_the_picture(tmp_path: Path) -> None:
    write_json(tmp_path / "data" / "eval.json", [ONE_HOP, vlkeb_of("Vell", "m.0z")])
    words = pictured("vlkeb", tmp_path / "data", "multimodal")
    refused = run("evaluate.py", *SMALL, "editor=ft", *words[:2], "scenario=transitive", status=2)
    assert "scenario=transitive: the edits of data=vlkeb have a question about a picture" in refused
    run("evaluate.py", *SMALL, "editor=ft", *words, f"output_dir={tmp_path}/result")
    summary = summary_of(tmp_path / "result")
    assert counts(summary, "Reliability_S", "Reliability_U", "Generality_U") == [2, 2, 2]
    assert counts(summary, "Portability", "Locality_I", "Stability") == [1, 2, 0]
    assert summary["records"] == {
        "source": "vlkeb",
        "origin": "https://github.com/VLKEB/VLKEB",
        "licence": "BSD-3-Clause",
        "drawn": {},
        "naming": {"given": 0, "built": 0, "none": 2},
        "with_aliases": 0,
        "trained_on": None,
        "overlap": None,
        "check": {"records": 2, "subjects": 2, "targets": 1, "findings": []},
        "targets": {
            "edits": 2, "targets": 1, "effective": 1.0, "largest": "Port Vell", "largest_edits": 2
        },
    }  # fmt: skip


def test_a_text_edit_of_mcmke_is_asked_of_pictures_and_may_be_answered_by_an_alias(
    tmp_path: Path,
) -> None:
    write_mcmke(tmp_path / "data", MCMKE)
    words = pictured("mcmke", tmp_path / "data", "transitive")
    run(
        "evaluate.py", *SMALL, "editor=ft", *words, "metrics.generation=true", "data.limit=3",
        f"output_dir={tmp_path}/result",
    )  # fmt: skip
    summary = summary_of(tmp_path / "result")
    assert counts(summary, "Reliability_S", "Generality_S", "Locality_T", "Stability") == [3] * 4
    assert summary["records"]["licence"] == "not stated"
    assert summary["records"]["with_aliases"] == 3
    assert summary["records"]["drawn"] == {
        "diff_type_entity_question": 3, "same_type_entity_question": 2
    }  # fmt: skip
    probes = read_rows(tmp_path / "result" / "probes.parquet", PROBE_SCHEMA)
    drawn = set(probes["probe"][probes["drawn"]])
    assert drawn == {"stability_same", "stability_diff", "leak_same", "leak_diff"}


def test_mend_is_trained_on_zsre_and_judged_on_cckeb(tmp_path: Path) -> None:
    words = cckeb_words(tmp_path)
    firms = [
        {**ZSRE, "subject": f"Firm {number}", "src": f"What is made by Firm {number}?"}
        for number in range(10)
    ]
    write_json(tmp_path / "zsre" / "train.json", firms)
    trained, result = tmp_path / "trained", tmp_path / "result"
    run(
        "train.py", *SMALL, "editor=mend", *words, "data.train=zsre",
        f"data.train.root={tmp_path}/zsre", "data.train.train_files=[train.json]",
        "trainer.max_steps=2", "trainer.val_every=2", f"output_dir={trained}",
    )  # fmt: skip
    (tmp_path / "zsre" / "train.json").unlink()  # nothing of it is needed to judge
    run(
        "evaluate.py", f"ckpt={trained}/checkpoints/last.ckpt", "scenario=transitive",
        "logger=none", f"output_dir={result}",
    )  # fmt: skip
    summary = summary_of(result)
    assert (summary["data"], summary["n_edits"]) == ("cckeb", 2)
    assert summary["records"]["trained_on"]["source"] == "zsre"
    assert summary["settings"]["training"]["data"]["train"]["name"] == "zsre"
    table = (result / "table.md").read_text()
    assert "Records of cckeb: licence BSD-3-Clause (CCKEB and VLKEB); origin" in table
    assert "Trained on records of zsre (MEND): licence MIT" in table
    assert [record["subject"] for record in summary["left_out_records"]] == ["Nobody Known"]
