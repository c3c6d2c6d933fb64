"""Sets, overlaps and landings of edits whose neurons are known beforehand."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.commands import check_editor, knowledge_neurons
from analysis.knowledge_neurons import (
    QUESTIONS,
    WHEN,
    Neurons,
    NeuronSet,
    Update,
    coarse_set,
    find_neurons,
    neuron_scenario,
)
from analysis.neuron_report import (
    landing_lines,
    neuron_lines,
    numbers,
    overlap_lines,
)
from datamodules.scenarios import SCENARIOS
from datamodules.world import World, generate_world, world_records
from editors.base import DeltaEdit
from errors import ConfigError
from metrics.headlines import TEXT_SCENARIOS
from models.deltas import DenseDelta, LowRankDelta, Site
from models.editable import EditableModel
from models.rows import EditBatch
from tests.builders import INNER, WIDTH
from tests.neuron_cases import (
    SITE,
    TOLD,
    Given,
    known_batch,
    known_set,
    telling_edit,
    telling_model,
)

THRESHOLD = 0.2
OWN = ((0, 3, 5, 9, 12), (2, 5, 8, 14, 20))


def found_in(
    model: EditableModel, batches: list[EditBatch], edits: list[object], **options: float
) -> Neurons:
    threshold = options.get("threshold", THRESHOLD)
    return find_neurons(model, Given(edits), batches, steps=4, threshold=threshold)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return telling_model()


@pytest.fixture(scope="module")
def neurons(model: EditableModel) -> Neurons:
    return found_in(model, [known_batch(2)], [telling_edit(model, OWN)])


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.7])
def test_the_sets_are_the_neurons_that_give_the_answer(
    model: EditableModel, threshold: float
) -> None:
    batch = known_batch(2)
    found = found_in(model, [batch], [telling_edit(model, OWN)], threshold=threshold)
    assert (found.layers, found.per_layer, found.edit_ids) == (3, INNER, (0, 1))
    for when, site in (("before", Site(0, "mlp_out")), ("after", SITE)):
        for question in QUESTIONS:
            rows = batch.probes[f"{question}_{when}"].tolist()
            for edit, row in enumerate(rows):
                own = TOLD if when == "before" else OWN[edit]
                expected = known_set(model, batch.rows, row, site, own, threshold)
                one = found.sets[when, question][edit]
                assert one is not None
                assert one.ids.tolist() == expected
                assert expected
                assert (one.attribution > 0).all()


def test_a_question_that_is_answered_wrong_has_no_set(model: EditableModel) -> None:
    batch = known_batch(2, wrong=["image_before", "text_after"])
    found = found_in(model, [batch], [telling_edit(model, OWN)])
    missing = {key for key, sets in found.sets.items() if sets[0] is None}
    assert missing == {("before", "image"), ("after", "text")}
    assert all(sets[1] is not None for sets in found.sets.values())
    lines = overlap_lines(found)
    gone = {(line["when"], line["pair"]) for line in lines if line["jaccard"] is None}
    assert {("before", "text-image"), ("after", "text-image"), ("before-after", "text")} <= gone
    assert ("before", "text-same_type") not in gone
    means = numbers(found, lines, landing_lines(found), seed=0)
    assert means["answered"]["before"] == {"text": 2, "image": 1, "same_type": 2}
    assert means["overlaps"]["before"]["text-image"]["jaccard"]["value"]["n"] == 1


def test_edits_that_reach_the_picture_are_told_from_those_that_do_not(
    model: EditableModel,
) -> None:
    edits = telling_edit(model, (*OWN, OWN[0]))
    found = found_in(model, [known_batch(3, wrong=["image_after"])], [edits])
    lines = overlap_lines(found)
    of_edit = {
        line["edit_id"]: line["jaccard"]
        for line in lines
        if (line["when"], line["pair"]) == ("before", "text-image")
    }
    means = numbers(found, lines, landing_lines(found), seed=0)["transfer"]
    assert means["not_reached"]["value"]["mean"] == pytest.approx(100 * of_edit[0])
    assert means["reached"]["value"]["mean"] == pytest.approx(50 * (of_edit[1] + of_edit[2]))
    unknown = found_in(model, [known_batch(2, wrong=["text_after"])], [telling_edit(model, OWN)])
    means = numbers(unknown, overlap_lines(unknown), landing_lines(unknown), seed=0)["transfer"]
    assert [means[name]["value"]["n"] for name in ("reached", "not_reached")] == [1, 0]


def test_batches_and_their_order_do_not_matter(model: EditableModel, neurons: Neurons) -> None:
    rows = known_batch(2)
    parts: list[EditBatch] = []
    edits: list[object] = []
    for edit in range(2):
        chosen = (rows.rows.edit_index == edit).nonzero()[:, 0]
        place = {int(row): number for number, row in enumerate(chosen)}
        mine = rows.rows.select(chosen)
        probes = {name: torch.tensor([place[int(of[edit])]]) for name, of in rows.probes.items()}
        parts.append(
            EditBatch(
                replace(mine, edit_index=torch.zeros_like(mine.edit_index)),
                probes["text_after"], probes, (edit,), (f"subject {edit}",),
            )
        )  # fmt: skip
        both = telling_edit(model, OWN).deltas[SITE]
        assert isinstance(both, LowRankDelta)
        part = slice(edit, edit + 1)
        edits.append(DeltaEdit({SITE: LowRankDelta(both.inputs[part], both.outputs[part])}))
    apart = found_in(model, parts, edits)
    assert apart.edit_ids == neurons.edit_ids
    for key, sets in neurons.sets.items():
        for together, alone in zip(sets, apart.sets[key], strict=True):
            assert together is not None
            assert alone is not None
            assert together.ids.tolist() == alone.ids.tolist()
            np.testing.assert_allclose(together.attribution, alone.attribution, rtol=1e-9)
    np.testing.assert_allclose(
        neurons.updates["mlp_out"].share, apart.updates["mlp_out"].share, rtol=1e-9
    )


def test_an_edit_moves_the_answer_to_its_own_neurons(neurons: Neurons) -> None:
    lines = [line for line in overlap_lines(neurons) if line["when"] == "before-after"]
    assert [line["jaccard"] for line in lines] == [0.0] * 6  # layer 0 before, layer 1 after
    after = [line for line in landing_lines(neurons) if line["when"] == "after"]
    for line in after:
        size = len(neurons.sets["after", line["question"]][line["edit_id"]].ids)
        assert line["share"] == pytest.approx(size / len(OWN[line["edit_id"]]))
        assert line["chance"] == pytest.approx(size / INNER)
    before = [line for line in landing_lines(neurons) if line["when"] == "before"]
    assert {line["share"] for line in before} == {0.0}


def test_an_unedited_model_has_a_before_alone(model: EditableModel) -> None:
    found = found_in(model, [known_batch(2)], [DeltaEdit()])
    assert all(one is not None for q in QUESTIONS for one in found.sets["before", q])
    assert all(one is None for q in QUESTIONS for one in found.sets["after", q])
    assert not found.updates
    lines = overlap_lines(found)
    means = numbers(found, lines, landing_lines(found), seed=0)
    assert means["landing"] == means["edited"] == {}
    assert means["by_layer"]["after"] == dict.fromkeys(QUESTIONS)
    assert means["overlaps"]["after"]["text-image"]["share"]["value"]["mean"] is None
    json.dumps(means, allow_nan=False)


def test_edits_that_are_no_deltas_are_refused(model: EditableModel) -> None:
    with pytest.raises(ConfigError, match="no weight deltas"):
        found_in(model, [known_batch(1)], [object()])


def ids(*numbers: int) -> NeuronSet:
    return NeuronSet(np.array(numbers, dtype=np.int64), np.full(len(numbers), 0.5))


def known_neurons() -> Neurons:
    """Four layers of ten neurons; the edits change layers 1 and 3."""
    sets: dict[tuple[str, str], list[NeuronSet | None]] = {
        ("before", "text"): [ids(10, 11, 30, 31), ids(12, 20)],
        ("before", "image"): [ids(11, 31, 32), ids()],
        ("before", "same_type"): [ids(0, 1), None],
        ("after", "text"): [ids(10), ids(12)],
        ("after", "image"): [ids(10), ids()],
        ("after", "same_type"): [ids(0, 1), None],
    }
    share = np.zeros((2, 20))
    share[0, [0, 1, 11]] = 0.5, 0.2, 0.3  # neurons 10, 11 and 31
    return Neurons(
        layers=4,
        per_layer=10,
        edit_ids=(7, 8),
        subjects=("one", "other"),
        sets=sets,  # type: ignore[arg-type]
        updates={"mlp_in": Update((1, 3), share)},
    )


def line_of(lines: list[dict[str, object]], **about: object) -> dict[str, object]:
    found = [line for line in lines if all(line[key] == value for key, value in about.items())]
    assert len(found) == 1
    return found[0]


def test_overlaps_that_are_known() -> None:
    lines = overlap_lines(known_neurons())
    one = line_of(lines, edit_id=7, when="before", pair="text-image")
    assert (one["size_a"], one["size_b"]) == (4, 3)
    assert (one["jaccard"], one["share"]) == (2 / 5, 2 / 4)
    assert one["chance_share"] == 3 / 40
    assert one["unrelated_jaccard"] == 0.0
    moved = line_of(lines, edit_id=7, when="before-after", pair="text")
    assert (moved["jaccard"], moved["share"]) == (1 / 4, 1 / 4)
    empty = line_of(lines, edit_id=8, when="before-after", pair="image")
    assert empty["jaccard"] is empty["share"] is empty["unrelated_share"] is None
    assert line_of(lines, edit_id=8, when="before", pair="image-same_type")["size_b"] is None
    assert len(lines) == 2 * (3 + 3 + 3)


def test_landings_that_are_known() -> None:
    lines = landing_lines(known_neurons())
    text = line_of(lines, edit_id=7, when="before", question="text")
    assert (text["share"], text["chance"]) == (pytest.approx(1.0), 4 / 20)
    image = line_of(lines, edit_id=7, when="before", question="image")
    assert (image["share"], image["chance"]) == (pytest.approx(0.5), 3 / 20)
    assert image["unrelated"] == 0.0  # the other edit's image question has no neurons
    below = line_of(lines, edit_id=7, when="before", question="same_type")
    assert (below["share"], below["chance"]) == (0.0, 0.0)  # all in a layer that is not edited
    assert below["unrelated"] is None
    still = line_of(lines, edit_id=8, when="before", question="text")
    assert still["share"] is still["chance"] is None  # an edit that changed nothing


def test_means_carry_interval_and_levels() -> None:
    neurons = known_neurons()
    lines = overlap_lines(neurons)
    means = numbers(neurons, lines, landing_lines(neurons), seed=0)
    assert means["edited"] == {"mlp_in": [1, 3]}
    judged = means["overlaps"]["before"]["text-image"]["jaccard"]
    assert judged["value"]["mean"] == pytest.approx(100 * (2 / 5 + 0) / 2)
    assert judged["value"]["n"] == 2
    assert judged["value"]["ci95"] == [0.0, 40.0]
    assert judged["chance"]["mean"] > 0
    mean = judged["value"]["mean"] - judged["unrelated"]["mean"]
    assert judged["above_unrelated"]["mean"] == pytest.approx(mean)
    assert means["by_layer"]["before"]["text"] == pytest.approx([0, 50, 25, 25])
    assert means["neurons"]["before"]["image"]["mean"] == 1.5
    landing = means["landing"]["mlp_in"]["before"]["image"]
    assert landing["value"] == {"mean": 50.0, "ci95": [None, None], "n": 1}
    json.dumps(means, allow_nan=False)


def test_the_sets_themselves_are_a_table() -> None:
    lines = neuron_lines(known_neurons())
    assert len(lines) == 4 + 2 + 3 + 2 + 1 + 1 + 1 + 2
    assert lines[2] == {
        "edit_id": 7, "subject": "one", "when": "before", "question": "text", "layer": 3,
        "neuron": 0, "attribution": 0.5,
    }  # fmt: skip


def test_coarse_sets() -> None:
    attribution = torch.tensor([[0.1, -0.9, 0.5], [0.11, 0.0, 0.09]])
    assert coarse_set(attribution, 0.2).ids.tolist() == [2, 3]
    assert coarse_set(attribution, 0.0).ids.tolist() == [0, 2, 3, 5]
    assert coarse_set(attribution, 0.2).attribution.tolist() == pytest.approx([0.5, 0.11])
    assert coarse_set(-attribution.abs(), 0.2).ids.tolist() == []
    assert coarse_set(torch.zeros(2, 3), 0.0).ids.tolist() == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_questions_of_a_scenario(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("worlds") / "small"
    generate_world(folder, seed=0, size=8, seen_views=1, unseen_views=1)
    record = world_records(World.load(folder), "test", seed=0)[0]
    scenario, edit = neuron_scenario(name), record.knowledge_edit
    assert scenario.edit is SCENARIOS[name].edit
    assert set(scenario.probes) == {f"{q}_{when}" for q in QUESTIONS for when in WHEN}
    asked = {probe: ask(record) for probe, ask in scenario.probes.items()}
    assert asked["text_before"][:3] == (edit.question, edit.answer_true, None)
    assert asked["text_after"][:3] == (edit.question, edit.answer_new, None)
    assert asked["image_before"][:3] == (edit.image_question, edit.answer_true, record.image)
    assert asked["image_after"][:3] == (edit.image_question, edit.answer_new, record.image)
    other = record.same_type_entity_question
    assert asked["same_type_before"] == asked["same_type_after"]
    assert asked["same_type_after"] is not None
    assert asked["same_type_after"].answer == other.answer
    shown = None if name in TEXT_SCENARIOS else record.same_entity_image
    assert asked["same_type_after"].image == shown


def flags(*words: str) -> argparse.Namespace:
    return argparse.Namespace(
        words=list(words), output=Path("none"), overwrite=False, steps=1, threshold=0.2, edits=None
    )


@pytest.mark.parametrize("editor", ["serac", "ike", "grace"])
def test_editors_that_change_no_weight_are_refused_before_anything_loads(editor: str) -> None:
    with pytest.raises(ConfigError, match=f"editor={editor} .* no weight of the base changes"):
        knowledge_neurons(flags(f"editor={editor}", "model=llava_tiny"))
    check_editor("ft")


def test_edits_that_follow_on_each_other_are_refused(
    root: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(root))
    with pytest.raises(ConfigError, match="protocol=sequential"):
        knowledge_neurons(
            flags("editor=ft", "model=llava_tiny", "protocol=sequential", "protocol.n=[1,2]")
        )


def test_dense_updates_are_spread_as_their_norm(model: EditableModel) -> None:
    weight = torch.zeros(2, WIDTH, INNER).double()
    weight[0, :, 3], weight[0, :, 4] = 1.0, 2.0
    found = found_in(model, [known_batch(2)], [DeltaEdit({SITE: DenseDelta(weight)})])
    share = found.updates["mlp_out"].share
    assert share[0, 3:5].tolist() == pytest.approx([0.2, 0.8])
    assert share.sum(1).tolist() == pytest.approx([1.0, 0.0])
