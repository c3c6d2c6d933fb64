"""Options of ROME: values, refusals and their reasons, and what `build` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from configs.check import load_config
from configs.schema import EvaluateConfig
from datamodules.world import World, generate_world, world_records
from editors.base import EditorInputs
from editors.options import BaseFacts
from editors.rome.config import FactToken, RomeOptions
from editors.rome.editor import build
from editors.rome.prompts import sample_prefixes
from errors import ConfigError, DataError, ModelError
from models.deltas import Site
from tests.rome_cases import model_and_encoder

THREE_LAYERS = BaseFacts("llama", 97, 3, 16)


def options(*words: str) -> RomeOptions:
    config = load_config("evaluate", ["editor=rome", *words])
    assert isinstance(config, EvaluateConfig)
    assert isinstance(config.editor, RomeOptions)
    return config.editor


def test_the_yaml_has_the_published_values() -> None:
    found = options()
    assert (found.layer, found.fact_token, found.steps, found.lr) == (5, "subject_last", 25, 0.5)
    assert (found.weight_decay, found.clamp, found.kl, found.stop_loss) == (1e-3, 4.0, 0.0625, 0.05)
    assert found.contexts == [[5, 10], [10, 10]]
    assert found.second_moment is None


def test_results_name_another_lookup_token() -> None:
    labels = {place: options(f"editor.fact_token={place}").label for place in get_args(FactToken)}
    assert labels == {
        "subject_last": "rome",
        "subject_first": "rome_at_subject_first",
        "subject_first_after_last": "rome_at_subject_first_after_last",
        "last": "rome_at_prompt_last",
    }


@pytest.mark.parametrize("scenario", ["multimodal", "reverse", "joint"])
def test_edits_that_show_a_picture_are_refused_with_the_reason(scenario: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", ["editor=rome", f"scenario={scenario}"])
    for part in (f"editor=rome is not defined for scenario={scenario}: transitive, unimodal",
                 "tokens of the subject's name in the edit prompt"):  # fmt: skip
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("editor.kl_prompt='it is a'", "has no {subject}"),
        ("editor.contexts=[[1,10]]", "pairs [length, number]"),
        ("editor.contexts=[[5]]", "pairs [length, number]"),
        ("editor.layer=-1", "greater than or equal to 0"),
        ("editor.steps=0", "greater than or equal to 1"),
        ("editor.fact_token=first", "subject_first"),
    ],
)
def test_a_wrong_option_is_named(word: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(word)
    assert word.split("=")[0] in str(caught.value)
    assert part in str(caught.value)


def test_a_record_that_does_not_name_its_subject_is_named(tmp_path: Path) -> None:
    world = World.load(generate_world(tmp_path / "w", size=20, cities=12, seen_views=4))
    records = world_records(world, "test", seed=0)[:4]
    rome_options = options()
    rome_options.check_records(records, ())
    nameless = records[2].knowledge_edit.model_copy(update={"question": "Who founded it?"})
    broken = [*records[:2], records[2].model_copy(update={"knowledge_edit": nameless}), records[3]]
    with pytest.raises(DataError) as caught:
        rome_options.check_records(broken, ())
    for part in ("record 2", repr(records[2].subject), "'Who founded it?'"):
        assert part in str(caught.value)


def test_a_missing_second_moment_is_refused_before_the_model_loads() -> None:
    with pytest.raises(ConfigError) as caught:
        options("editor.second_moment=nope.safetensors", "editor.layer=7").check_records((), ())
    for part in ("editor.second_moment=nope.safetensors", "analysis second_moment",
                 "--layer 7"):  # fmt: skip
        assert part in str(caught.value)


def test_build_takes_every_option() -> None:
    model, encoder = model_and_encoder("llama")
    given = options(
        "editor.layer=1", "editor.steps=9", "editor.lr=0.25", "editor.weight_decay=0.5",
        "editor.clamp=3.0", "editor.kl=0.125", "editor.stop_loss=0.01", "editor.fact_token=last",
        "editor.contexts=[[4,2]]", "editor.seed=3", "editor.kl_prompt='{subject} was'",
    )  # fmt: skip
    editor = build(given, model, EditorInputs(encoder))
    assert editor.options == given
    assert editor.site == Site(1, "mlp_out")
    assert editor.prefixes == tuple(sample_prefixes(model, encoder, [[4, 2]], 3))
    assert editor.second_moment is None


def test_a_layer_outside_the_model_is_named() -> None:
    with pytest.raises(ModelError, match=r"editor.layer=5: .* layers 0 to 2"):
        options().check_base(THREE_LAYERS)


def test_the_last_layer_is_refused_where_nothing_would_read_it() -> None:
    model, encoder = model_and_encoder("llama")
    with pytest.raises(ModelError, match=r"editor.layer=2 is the last one.*subject_last"):
        options("editor.layer=2").check_base(THREE_LAYERS)
    at_last = options("editor.layer=2", "editor.fact_token=last", "editor.contexts=[]")
    at_last.check_base(THREE_LAYERS)
    assert build(at_last, model, EditorInputs(encoder)).site.layer == 2
