"""Which trainings read a base model from a layer on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from caching import records
from caching.environment import Environment
from caching.records import Record, files_digest
from configs.between_jobs import between_jobs
from configs.check import load_config
from configs.schema import TrainConfig
from editors.mend.config import MendOptions
from editors.options import TrainedEditorOptions
from editors.registry import build_editor
from models.folder import read_config
from runner import partial
from runner.caching import LARGE
from runner.partial import upper_part
from tests.builders import any_model, inputs

CPU = torch.device("cpu")
TINY = Path(__file__).resolve().parents[3] / "models" / "pretrained" / "llava_tiny"
MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def config(tmp_path: Path) -> MakeConfig:
    """A training with a cache, of a model whose files are the test's own."""
    shutil.copytree(TINY, tmp_path / "model")

    def make(*words: str) -> TrainConfig:
        made = load_config(
            "train",
            [
                "experiment=demo", "editor=mend", "cache=on",
                f"cache.folder={tmp_path / 'cache'}", f"model.path={tmp_path / 'model'}",
                f"data.root={tmp_path}", f"output_dir={tmp_path / 'run'}", *words,
            ],
        )  # fmt: skip
        assert isinstance(made, TrainConfig)
        return made

    return make


def environment(cfg: TrainConfig) -> Environment:
    assert cfg.cache.folder is not None
    found = Environment.open(Path(cfg.cache.folder), 2**22)
    assert found is not None
    return found


def noted(cfg: TrainConfig, **changed: object) -> Record:
    key = partial._key(cfg, CPU)
    assert key is not None
    record = Record(files_digest(Path(cfg.model.path)), "f", "scope", 100, ("answers", "states"))
    record = replace(record, **changed)  # type: ignore[arg-type]
    records.write(environment(cfg), key, record)
    return record


def test_a_training_reads_what_stands_above_what_its_editor_edits(config: MakeConfig) -> None:
    cfg = config()
    assert upper_part(cfg, CPU) is None  # nothing is known yet
    record, found = noted(cfg), upper_part(cfg, CPU)
    assert found is not None
    assert isinstance(cfg.editor, MendOptions)
    base = read_config(cfg.model.family, cfg.model.path)
    assert found.record == record
    assert found.first_layer == base.get_text_config().num_hidden_layers - cfg.editor.layers > 0


@pytest.mark.parametrize("editor", ["mend", "serac"])
def test_options_know_the_layer_before_there_is_an_editor(config: MakeConfig, editor: str) -> None:
    options = config(f"editor={editor}").editor
    assert isinstance(options, TrainedEditorOptions)
    model = any_model("llava", layers=4)
    built = build_editor(options, model, inputs())
    assert options.lowest_layer(model.n_layers) == built.first_layer(model) > 0


@pytest.mark.parametrize(
    "words",
    [
        ("cache=off",), ("cache=auto",), ("cache.states=false",), ("model.dtype=bfloat16",),
        ("model.attn=eager",), ("model.quantise=8bit",), ("model.device_map=auto",),
        ("trainer.precision=bf16-mixed",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_another_arithmetic_or_no_cache_reads_all(config: MakeConfig, words: list[str]) -> None:
    noted(config())
    assert upper_part(config(), CPU) is not None
    assert upper_part(config(*words), CPU) is None


def test_auto_counts_the_weights_of_the_whole_model(config: MakeConfig) -> None:
    noted(config(), weights=LARGE)
    assert upper_part(config("cache=auto"), CPU) is not None


@pytest.mark.parametrize("changed", [{"compared": ("answers",)}, {"files": "others"}], ids=str)
def test_states_that_were_not_compared_with_these_files_are_not_trusted(
    config: MakeConfig, changed: dict[str, object]
) -> None:
    noted(config(), **changed)
    assert upper_part(config(), CPU) is None


def test_weights_elsewhere_that_look_the_same_may_have_entries_of_their_own(
    config: MakeConfig,
) -> None:
    record = noted(config())
    records.write(environment(config()), b"elsewhere", replace(record, scope="another"))
    assert upper_part(config(), CPU) is not None
    records.write(environment(config()), b"elsewhere", record)
    assert upper_part(config(), CPU) is None


def test_all_processes_read_the_same(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(config())
    monkeypatch.setattr(partial, "all_gather_objects", lambda mine: [mine, False])
    assert upper_part(config(), CPU) is None


def test_a_sweep_reads_a_model_that_its_next_job_can_use(config: MakeConfig) -> None:
    noted(config())
    with between_jobs.job():
        assert upper_part(config(), CPU) is None
