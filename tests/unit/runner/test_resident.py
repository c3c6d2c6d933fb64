"""A base model goes from job to job of a sweep, and only as it was loaded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.between_jobs import between_jobs
from configs.models import model_options
from configs.schema import ModelOptions
from models.editable import EditableModel
from runner import assembly
from runner.resident import count_hooks
from tests.builders import any_model
from tests.serac_cases import picture_model

LOADS: list[weakref.ref[EditableModel]] = []


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelOptions]:
    """A folder of a model, which is built here in place of being read."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    LOADS.clear()

    def load(options: ModelOptions, device: torch.device | None, upper: object) -> EditableModel:
        gc.collect()
        assert not any(ref() for ref in LOADS), "there is room for one model"
        model = any_model("opt")
        LOADS.append(weakref.ref(model))
        return model

    monkeypatch.setattr(assembly, "_load_model", load)
    yield model_options(["model=llava_tiny", f"model.path={tmp_path}"])
    with pytest.raises(KeyError), between_jobs.job():  # nothing stays for other tests
        raise KeyError


def job(options: ModelOptions, fails: bool = False, **others: Any) -> EditableModel:
    with between_jobs.job():
        model = assembly.open_model(options.model_copy(update=others))
        if fails:
            raise ZeroDivisionError
        return model


def test_jobs_of_one_model_load_it_once(options: ModelOptions) -> None:
    first = job(options)
    assert job(options) is first
    assert len(LOADS) == 1


@pytest.mark.parametrize("others", [{"dtype": "bfloat16"}, {"attn": "eager"}, {"quantise": "8bit"}])
def test_other_options_are_another_model(options: ModelOptions, others: dict[str, str]) -> None:
    job(options)
    job(options, **others)
    assert len(LOADS) == 2


def test_other_files_are_another_model(options: ModelOptions) -> None:
    job(options)
    (Path(options.path) / "model.safetensors").write_bytes(b"trained further")
    job(options)
    assert len(LOADS) == 2


def test_a_job_that_fails_leaves_none(options: ModelOptions) -> None:
    job(options)
    with pytest.raises(ZeroDivisionError):
        job(options, fails=True)
    job(options)
    assert len(LOADS) == 2


def test_a_single_run_takes_and_leaves_none(options: ModelOptions) -> None:
    assembly.open_model(options)
    assembly.open_model(options)
    job(options)
    assert len(LOADS) == 3


def overwrite(model: EditableModel) -> None:
    next(model.hf.parameters()).add_(1.0)


def leave_hook(model: EditableModel) -> None:
    model.decoder.norm.register_forward_hook(lambda *_: None)


def leave_delta(model: EditableModel) -> None:
    model._in_place = ({next(iter(model.last_sites(1))): None},)  # type: ignore[dict-item]


def test_what_transformers_sets_in_the_first_pass_of_a_tower_is_no_change() -> None:
    model = picture_model()
    before, tower = count_hooks(model), model.hf.model.vision_tower
    side = tower.config.image_size
    tower(torch.zeros(1, 3, side, side), output_hidden_states=True)
    assert any(module._forward_hooks for module in tower.modules())
    assert count_hooks(model) == before
    tower.register_forward_hook(lambda *_: None)
    assert count_hooks(model) == before + 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (overwrite, "its weights are others"),
        (leave_hook, "a hook was left"),
        (leave_delta, "delta"),
    ],
)
def test_a_model_that_changed_is_loaded_anew_and_told(
    spoil: Any, told: str, options: ModelOptions, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(job(options))
    model = job(options)
    assert len(LOADS) == 2
    assert not model.is_edited
    assert told in caplog.text
