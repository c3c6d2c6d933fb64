"""The authors' shortcut share, on sets made by hand and in a model whose neurons are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.judging import Judge
from analysis.knowledge_neurons import NAME, WHEN, coarse_set, find_neurons, neuron_scenario
from analysis.shortcut import STEPS_OF_CHAIN, Chains, shortcut_lines, shortcut_numbers, verdict
from datamodules.world import World, generate_world, world_records
from editors.base import DeltaEdit
from metrics.bootstrap import estimate
from models.deltas import Site
from tests.neuron_cases import TOLD, Given, known_batch, known_set, telling_edit, telling_model


def chains(*edits: dict[str, list[int] | None], wrong: tuple[int, ...] = ()) -> Chains:
    """Sets by step; what is not told is None, and edits of `wrong` do not give the name."""
    found = Chains.of(len(edits))
    for edit, sets in enumerate(edits):
        for step, ids in sets.items():
            if ids is not None:
                is_given = not (step == "name" and edit in wrong)
                found.add(step, edit, np.array(ids, dtype=np.int64), is_given=is_given)
    return found


FIVE = chains(
    {"name": [1, 2], "text": [3, 4], "image": [1, 3, 5, 6]},  # half of it by one or the other
    {"name": [1], "text": [2], "image": list(range(10, 20))},  # nothing
    {"name": [10], "text": [11], "image": [10, *range(20, 26)]},  # one of seven
    {"name": None, "text": [3], "image": [3]},  # nobody can ask who is shown
    {"name": [1], "text": [2], "image": []},  # an answer without neurons
    wrong=(1,),
)
SUBJECTS = ("a", "b", "c", "d", "e")


def test_the_share_is_of_what_either_step_has_in_common_with_the_whole() -> None:
    lines = shortcut_lines({"after": FIVE}, range(7, 12), SUBJECTS, n=100)
    assert [line["edit_id"] for line in lines] == [7, 8, 9, 10, 11]
    shares = [line["share"] for line in lines]
    assert shares == [0.5, 0.0, pytest.approx(1 / 7), None, None]
    assert [line["verdict"] for line in lines] == [
        "no shortcut", "shortcut", "between", None, None
    ]  # fmt: skip
    assert [line["is_given"] for line in lines] == [True, False, True, False, True]
    assert [line["size_name"] for line in lines] == [2, 1, 1, None, 1]
    # Chance is the part of all neurons that the two steps have; other subjects' steps the rest.
    assert lines[0]["chance_share"] == 4 / 100
    assert lines[0]["unrelated_share"] == pytest.approx((1 / 4 + 0 + 1 / 4) / 3)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.21, "no shortcut"), (0.2, "between"), (0.1, "between"), (0.09, "shortcut")],
)
def test_the_bounds_belong_to_neither_side(share: float, expected: str) -> None:
    assert verdict(share) == expected


def test_means_are_of_all_edits_and_of_those_whose_answers_are_given() -> None:
    lines = shortcut_lines({"before": FIVE}, range(5), SUBJECTS, n=100)
    clusters = {0: "x", 1: "x", 2: "y", 3: "y", 4: "y"}
    numbers = shortcut_numbers(lines, Judge(0, clusters))
    every, given = numbers["before"]["all"], numbers["before"]["given"]
    expected = estimate([0.5, 0.0, 1 / 7], scale=100, clusters=["x", "x", "y"])
    assert every["value"] == expected.as_dict()
    assert {name: of["mean"] for name, of in every["verdicts"].items()} == {
        name: pytest.approx(100 / 3) for name in ("no shortcut", "between", "shortcut")
    }
    assert given["value"]["n"] == 2
    assert given["value"]["mean"] == pytest.approx(50 * (0.5 + 1 / 7))
    assert shortcut_numbers([], Judge(0)) == {}


def test_sets_are_found_for_the_given_answers_whether_the_model_gives_them_or_not() -> None:
    """As the same-type question, the naming one is answered in this model, but for edit 0."""
    model = telling_model()
    batch = known_batch(2, wrong=["same_type_before", "image_after"])
    named = {f"{NAME}_{when}": batch.probes[f"same_type_{when}"] for when in WHEN}
    batch = replace(batch, probes={**batch.probes, **named})
    own = ((0, 3, 5, 9, 12), (2, 5, 8, 14, 20))
    found = find_neurons(
        model, Given([telling_edit(model, own)]), [batch], steps=4, threshold=0.7, shortcut=True
    )  # type: ignore[arg-type]
    before, after = found.chains["before"], found.chains["after"]
    assert before.given == {"name": [False, True], "text": [True] * 2, "image": [True] * 2}
    assert after.given["image"] == [False, True]
    assert found.sets["after", "image"][0] is None, "today's measures leave it out"
    assert after.sets["image"][0] is not None
    for edit in range(2):
        row = int(batch.probes["text_before"][edit])
        expected = known_set(model, batch.rows, row, Site(0, "mlp_out"), TOLD, 0.15)
        got = before.sets["text"][edit]
        assert got is not None
        assert got.tolist() == expected
    small = [one for one in found.sets["before", "image"] if one is not None]
    large = [ids for ids in before.sets["image"] if ids is not None]
    assert sum(len(one.ids) for one in small) < sum(map(len, large)), "the thresholds are apart"


def test_an_unedited_model_has_no_share_after_and_none_is_found_unless_asked_for() -> None:
    model, batch = telling_model(), known_batch(1)
    options = {"steps": 2, "threshold": 0.2}
    alone = find_neurons(model, Given([DeltaEdit()]), [batch], shortcut=True, **options)  # type: ignore[arg-type]
    assert list(alone.chains) == ["before"]
    assert alone.chains["before"].sets["name"] == [None], "no record of the batch can be asked"
    plain = find_neurons(model, Given([DeltaEdit()]), [batch], **options)  # type: ignore[arg-type]
    assert plain.chains == {}
    for key, sets in plain.sets.items():
        for one, other in zip(sets, alone.sets[key], strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.ids.tolist() == other.ids.tolist()


def test_batches_are_joined_in_their_order() -> None:
    joined = Chains.joined([chains({"name": [1]}), chains({"name": [2]}, {"name": None})])
    assert [None if ids is None else ids.tolist() for ids in joined.sets["name"]] == [
        [1],
        [2],
        None,
    ]
    assert {len(joined.given[step]) for step in STEPS_OF_CHAIN} == {3}


def test_the_naming_question_is_the_records_own_about_the_seen_picture(tmp_path: Path) -> None:
    generate_world(tmp_path / "small", seed=0, size=8, seen_views=1, unseen_views=1)
    record = world_records(World.load(tmp_path / "small"), "test", seed=0)[0]
    probes = neuron_scenario("transitive", shortcut=True).probes
    asked = [probes[f"{NAME}_{when}"](record) for when in WHEN]
    assert asked[0] == asked[1]
    assert asked[0] is not None
    hop = record.multimodal_hops[0]
    assert asked[0][:3] == (hop.question, record.subject, record.image)
    assert not {f"{NAME}_{when}" for when in WHEN} & set(neuron_scenario("transitive").probes)


def test_a_set_of_the_authors_is_a_coarse_set_by_another_threshold() -> None:
    attribution = torch.tensor([[0.1, 0.16, 1.0]])
    assert coarse_set(attribution, 0.15).ids.tolist() == [1, 2]
