"""How a taught model can be edited, by the benchmark's own editors, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.check import load_config
from datamodules.world import generate_world
from pretraining import editing
from pretraining.editing import EDITORS, findings, measure_editing
from pretraining.run import _as_taught
from tests.recipes import folder_words, pretrain_config

SHIPPED = Path(__file__).parents[3] / "models" / "pretrained"


def test_a_model_that_knows_its_world_is_edited_and_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The names and facts of the shipped models' world, with fewer pictures.
    world = generate_world(tmp_path, size=50, seen_views=1, unseen_views=1)
    monkeypatch.setattr(editing, "EDITS", 3)
    for name in ("rome_layer_1", "ike_4_demonstrations"):
        monkeypatch.delitem(editing.EDITORS, name)
    cfg = pretrain_config(*folder_words(world))
    measured = measure_editing(cfg, SHIPPED / "llava_tiny")
    assert measured["editing"].keys() == {"edits", "rome_layer_0", "ike_0_demonstrations"}
    assert measured["editing"]["edits"] == 3
    assert measured["editing"]["rome_layer_0"]["Reliability"] == 100.0
    assert set(editing.METRICS) >= measured["editing"]["ike_0_demonstrations"].keys()
    trace = measured["causal_trace"]
    assert trace["facts"] == 3
    assert trace["clean"] > 0.9
    by_layer = trace["indirect_effect"]["state"]["subject_last"]
    assert len(by_layer) == 4
    assert by_layer[0] > 0.5 > abs(by_layer[3])


@pytest.mark.parametrize("alignment", ["embedding", "naming", "naming_and_facts"])
def test_facts_are_edited_where_the_alignment_has_them(tmp_path: Path, alignment: str) -> None:
    cfg = pretrain_config("model=llava_tiny", "data=world", alignment=alignment)
    taught = {"settings": {"alignment": alignment}}
    for config in (cfg, _as_taught(pretrain_config("model=llava_tiny", "data=world"), taught)):
        data = editing._configure(config, tmp_path, ["editor=none"]).data
        assert data.filter_known == ("pictures" if alignment == "embedding" else "text")


def test_editors_are_what_their_names_say() -> None:
    options = {
        name: load_config("evaluate", words).plain()["editor"] for name, words in EDITORS.items()
    }
    assert [options[f"rome_layer_{layer}"]["layer"] for layer in (0, 1)] == [0, 1]
    assert [options[f"ike_{k}_demonstrations"]["k"] for k in (0, 4)] == [0, 4]
    assert not options["ike_0_demonstrations"]["own_copy"]
    assert options["ike_4_demonstrations"]["own_copy"]


def manifest(**changes: Any) -> dict[str, Any]:
    metrics = {"Reliability": 95.0, "Generality": 91.0, "Locality": 100.0, "Locality_subject": 60.0}
    return {
        "accuracy": {"chain_answer": 81.0, "two_hop_direct": 2.0, "two_hop_majority": 11.0},
        "causal_trace": {"indirect_effect": {"state": {"subject_last": [0.9, 0.7, 0.1]}}},
        "editing": {
            "edits": 40,
            "rome_layer_0": metrics,
            "ike_4_demonstrations": {**metrics, "Generality": 89.0},
        },
    } | changes


def test_findings_follow_the_numbers() -> None:
    assert findings(manifest()) == {
        "trace: subject_last brings back >= 0.7 of the answer in layers 0-1": True,
        "self-ask chains of unseen pairs: >= 80 % by generation": True,
        "direct two-hop answers of unseen pairs: above the most frequent answer": False,
        "rome layer 0: Reliability and Generality >= 90": True,
        "rome layer 0: Locality >= 90": True,
        "rome layer 0: Locality_subject >= 90": False,
        "ike 4 demonstrations: Reliability and Generality >= 90": False,
        "ike 4 demonstrations: Locality >= 90": True,
        "ike 4 demonstrations: Locality_subject >= 90": False,
    }


@pytest.mark.parametrize("effects", [[0.6, 0.9, 0.1], [0.9, 0.6, 0.1]])
def test_the_trace_has_to_reach_both_layers(effects: list[float]) -> None:
    trace = {"indirect_effect": {"state": {"subject_last": effects}}}
    held = findings(manifest(causal_trace=trace))
    assert not held["trace: subject_last brings back >= 0.7 of the answer in layers 0-1"]


def test_what_was_not_measured_is_no_finding() -> None:
    assert findings(manifest(accuracy={}, causal_trace={}, editing={})) == {}
