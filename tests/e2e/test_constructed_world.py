"""From a table of facts to results: records that are checked and edited, a world that is taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.answered_rows import book, draw, person, with_locality
from tests.construction_plans import prompt_name
from tests.e2e.commands import run
from tests.openai_replies import Answer, Reply, Request
from tests.openai_stand_in import serving
from tests.recipes import SMALL, folder_words

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROWS = [with_locality(book(n), "snow.png") for n in range(1, 9)] + [person(n) for n in range(8)]
ANSWERS = {one.row.subject: one.answers for one in ROWS}
QUIET = "logger=none", "trainer.enable_progress_bar=false"
# Records that are asked each: the books have a second fact and questions of locality.
COUNTS = {
    "Reliability_S": 16, "Reliability_U": 16, "Generality_S": 16, "Generality_U": 16,
    "Portability": 8, "Locality_T": 8, "Locality_I": 8, "Stability_same": 16, "Stability_diff": 16,
}  # fmt: skip


def answer(request: Request) -> Reply:
    """What the table of answers says, as a language model would."""
    answers = ANSWERS[request.line("Subject")].model_dump()
    name = prompt_name(request)
    wanted = [name, "same_type_answer"] if name == "same_type_entity" else [name]
    return Answer({key: answers[key] for key in wanted})


def summary_of(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text())


def test_facts_become_records_and_a_world_that_editors_are_judged_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(ROWS, tmp_path / "images")
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(f"{one.row.model_dump_json(exclude_none=True)}\n" for one in ROWS))
    made, taught, result = (tmp_path / name for name in ("made", "taught", "result"))
    with serving(answer) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        words = [
            "-m", "construction", f"rows={facts}", f"output_dir={made}", "world=true",
            f"endpoint.base_url={server.url}",
        ]  # fmt: skip
        printed = run(*words)
        asked = sum(4 if one.row.hop_question else 3 for one in ROWS)
        assert len(server.requests) == asked
        assert f"16 records in {made}/records, 8 of them complete" in printed

    checked = run("-m", "datamodules", "check", "data=hub", f"data.root={made}/records", "--json")
    assert json.loads(checked)["splits"]["test"]["records"] == 16

    recipe = [f"pretrain.{key}={value}" for key, value in SMALL.items()]
    run(
        "pretrain.py", *folder_words(made / "world"), *recipe, "logger=none", f"output_dir={taught}"
    )
    model = f"model.path={taught}/model"
    run(
        "evaluate.py", "experiment=demo", "editor=ft", "scenario=transitive", "data=hub",
        f"data.root={made}/records", model, *QUIET, f"output_dir={result}",
    )  # fmt: skip
    summary = summary_of(result)
    assert (summary["editor"], summary["n_edits"]) == ("ft", 16)
    assert {name: summary["metrics"][name]["n"] for name in COUNTS} == COUNTS
    assert summary["records"]["drawn"] == {
        "same_type_entity_question": 16, "diff_type_entity_question": 16,
    }  # fmt: skip

    run(
        "train.py", "experiment=demo", "editor=mend", "editor.layers=1", "trainer.max_steps=2",
        "data=folder", f"data.root={made}/world", "data.filter_known=none", model, *QUIET,
        f"output_dir={tmp_path}/mend",
    )  # fmt: skip
    best = f"ckpt={tmp_path}/mend/checkpoints/best.ckpt"
    run("evaluate.py", best, *QUIET, f"output_dir={tmp_path}/judged")
    summary = summary_of(tmp_path / "judged")
    assert (summary["editor"], summary["n_edits"]) == ("mend", 8), "half of the subjects are tested"
    judged = pd.read_parquet(tmp_path / "judged/edits.parquet").subject
    assert set(judged) < {one.row.subject for one in ROWS}
