"""Options of IKE: their values, and what is refused before any model loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import evaluate
from configs.check import load_config
from configs.schema import EvaluateConfig
from editors.ike.config import IkeOptions
from errors import ConfigError, DataError, ModelError
from runner import assembly
from tests.ike_cases import TRAINING, record


def config(*words: str) -> EvaluateConfig:
    found = load_config("evaluate", ["editor=ike", *words])
    assert isinstance(found, EvaluateConfig)
    return found


def options(*words: str) -> IkeOptions:
    found = config(*words).editor
    assert isinstance(found, IkeOptions)
    return found


def test_the_yaml_has_the_published_values() -> None:
    found = options()
    assert (found.k, found.encoder, found.own_copy) == (32, "all-MiniLM-L6-v2", True)
    assert found.label == "ike"


def test_the_demo_shows_as_many_facts_as_the_tiny_model_was_taught_to_read() -> None:
    found = options("experiment=demo")
    assert found.model_dump() | {"k": 32} == options().model_dump()
    assert found.k + 2 <= 6


@pytest.mark.parametrize(
    ("word", "part"),
    [("editor.k=-1", "greater than or equal to 0"), ("editor.kk=3", "kk"),
     ("editor.picture=last", "'question' or 'front'")],
)  # fmt: skip
def test_a_wrong_option_is_named(word: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(word)
    assert part in str(caught.value)


def test_too_small_a_training_split_is_refused() -> None:
    options("editor.k=12").check_records((), TRAINING)
    options("editor.k=0", "editor.encoder=nowhere").check_records((), ())
    with pytest.raises(DataError) as caught:
        options().check_records((), TRAINING)
    for part in ("editor.k=32", "12 records", "data.train_files", "lower editor.k"):
        assert part in str(caught.value)


def test_a_training_record_that_has_no_neighbour_in_words_is_named() -> None:
    nameless = record(4).knowledge_edit.model_copy(update={"question": "Where is it?"})
    broken = [*TRAINING[:4], record(4).model_copy(update={"knowledge_edit": nameless})]
    options("editor.k=0").check_records((), broken)
    with pytest.raises(DataError) as caught:
        options("editor.k=2").check_records((), broken)
    for part in ("training record 4", "'Duva Hall'", "Where is it?"):
        assert part in str(caught.value)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs a world draws it."""
    return tmp_path_factory.mktemp("worlds") / "world"


@pytest.mark.parametrize(
    ("encoder", "parts"),
    [
        ("./nowhere", ("editor.encoder=./nowhere", "config.json")),
        ("some/encoder", ("editor.encoder=some/encoder", "not on disk", "HF_HUB_OFFLINE")),
    ],
)
def test_an_encoder_that_is_not_on_disk_stops_the_run_before_a_model_loads(
    encoder: str,
    parts: tuple[str, ...],
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_args: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(assembly, "open_processor", loaded)
    monkeypatch.setattr(assembly, "open_model", loaded)
    words = (f"data.root={drawn}", "data.size=20", f"output_dir={tmp_path}/o")
    cfg = config("experiment=demo", f"editor.encoder={encoder}", *words)
    with pytest.raises(ModelError) as caught:
        evaluate.main(cfg)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_options_are_read_without_torch(root: Path) -> None:
    code = "import sys, editors.ike.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
