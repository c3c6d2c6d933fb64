"""Rows that are longer than what the model reads at once: refused, and by the record's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evaluate
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.sources.tmke import read_tmke
from errors import DataError
from runner import assembly
from tests.unit.datamodules.test_datamodule import TOKENIZER, batches, make
from tests.unit.datamodules.test_datamodule import root as root_of_pictures
from tests.unit.datamodules.test_sources import RECORD, other, write
from tests.unit.runner.test_refusals import config

SLOTS = 4
root = root_of_pictures  # the fixture


def encoder(limit: int) -> PromptEncoder:
    layout = PictureLayout(SLOTS, TOKENIZER.convert_tokens_to_ids("<image>"))
    return PromptEncoder(TOKENIZER, layout, max_positions=limit)


@pytest.mark.parametrize("scenario", ["unimodal", "transitive", "multimodal"])
def test_the_longest_row_may_have_all_positions_and_no_more(root: Path, scenario: str) -> None:
    source = read_tmke(root)
    (batch,) = batches(make(source, scenario))
    longest = int(batch.rows.attention_mask.sum(1).max())  # whatever it is padded to
    assert len(batches(make(source, scenario, encoder(longest)))) == 1
    with pytest.raises(DataError) as caught:
        batches(make(source, scenario, encoder(longest - 1)))
    said = str(caught.value)
    assert "t.json (subject 'Holden Caprice'), the test split of data=tmke" in said
    assert f"takes {longest} tokens" in said
    assert f"reads {longest - 1} at once" in said
    assert ("4 of them its picture's" in said) == (scenario != "unimodal")


def test_a_long_answer_is_named_by_its_two_ends(root: Path) -> None:
    long = other("Car A")
    long["knowledge_edit"]["answer_new"] = "First " + "and so on " * 40 + "last"
    write(root / "t.json", RECORD, long)
    with pytest.raises(DataError) as caught:
        batches(make(read_tmke(root), "unimodal", encoder(200)))
    said = str(caught.value)
    assert "t.json (subject 'Car A')" in said
    assert "'First and so on" in said
    assert "last'" in said
    assert said.count("and so on") < 20


def test_weights_are_not_loaded_for_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_args: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(assembly, "open_model", loaded)
    record = json.loads(json.dumps(RECORD))
    record["knowledge_edit"]["question"] += " Who, I ask, was it?" * 400
    write(root / "t.json", record)
    words = ("data=tmke", f"data.root={root}", "data.files=[t.json]", "data.limit=1")
    with pytest.raises(DataError, match=r"record 0 .* tokens, and the model reads 2048 at once"):
        evaluate.main(config("editor=none", "model=llava_tiny", "scenario=unimodal",
                             f"output_dir={tmp_path}/o", *words))  # fmt: skip
    assert not (tmp_path / "o").exists()
