"""What an editor cannot do is told before any weight loads, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

import evaluate
from configs.check import load_config
from configs.schema import EvaluateConfig
from errors import TmkeError
from runner import assembly


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds") / "small"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("editor=rome", "scenario=multimodal"), "an edit prompt about a picture does not name"),
        (("editor=rome", "editor.layer=7"), "this model has decoder layers 0 to 3"),
        (("editor=rome", "editor.layer=3"), "is the last one, and no later attention reads"),
        (
            ("editor=rome", "editor.contexts=[[3000,1]]"),
            "of 3000 tokens, and this model reads 2048",
        ),
        (("editor=rome", "editor.second_moment=no.file"), "there is no such file"),
        (("editor=lora", "editor.layers=9"), "the base model has 4 decoder layers"),
        (("editor=ft", "editor.layers=9"), "the base model has 4 decoder layers"),
        (("editor=ike", "editor.k=9000"), "from the training split, which has"),
        (("editor=ike", "editor.encoder=no/such"), "not on disk and could not be downloaded"),
        (
            ("editor=ft", "data.filter_known=none", "scenario=transitive", "evaluate.tokens=200"),
            "evaluate.tokens=200 is less than",
        ),
        # Whichever of them the model knows.
        (("editor=ft", "evaluate.tokens=3"), "is less than 80 of 80 edits have"),
    ],
)
def test_before_weights_load(
    words: tuple[str, ...],
    message: str,
    world: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_args: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.chdir(root)
    monkeypatch.setattr(assembly, "open_model", loaded)
    common = ("experiment=demo", f"data.root={world}", "data.size=20", f"output_dir={tmp_path}/o")
    with pytest.raises(TmkeError) as caught:
        evaluate.main(config(*common, *words))
    assert message in str(caught.value)
    assert not (tmp_path / "o").exists()


def config(*words: str) -> EvaluateConfig:
    found = load_config("evaluate", words)
    assert isinstance(found, EvaluateConfig)
    return found
