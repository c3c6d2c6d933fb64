"""The recipe of a model around a language model: who has one, what it takes, what it refuses."""

from __future__ import annotations

import pytest

from configs.around import ALIGNMENTS
from configs.check import load_config
from configs.rundir import resumes, settings_that_decide
from configs.schema import PretrainConfig
from errors import ConfigError

AROUND = ("model=smollm_llava", "data=folder", "data.root=data")


def config(*words: str) -> PretrainConfig:
    found = load_config("pretrain", words)
    assert isinstance(found, PretrainConfig)
    return found


def test_the_model_decides_which_recipe() -> None:
    assert config().recipe is None
    assert config().language_model is None
    around = config(*AROUND, "seed=7")
    assert around.recipe is not None
    assert around.recipe.seed == 7
    assert around.language_model is not None
    assert around.language_model.path is None
    assert around.pretrain.alignment in ALIGNMENTS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pretrain.steps=4"], "pretrain.steps: this is of the recipe of tiny models"),
        (["recipe.adaptation.lr=0"], "recipe.adaptation.lr=0: input should be greater than 0"),
        (["recipe.adaptation.maps=some"], "'attention' or 'all'"),
        (["recipe.adaptation.own_rows=99"], "recipe.adaptation.own_rows=99 of"),
        (["recipe.tower.patch_size=7"], "recipe.tower.patch_size=7"),
        (["recipe.adaptation.stepz=1"], "did you mean recipe.adaptation.steps"),
        (["resume=true"], "resume=true: add output_dir=DIR"),
        (["trainer.devices=2"], "trainer.devices=2 with pretrain.py: a model is taught by one"),
    ],
)
def test_what_it_refuses(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(*AROUND, *words)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pretrain.alignment=all"], "pretrain.alignment=all: each alignment of model=l"),
        (["resume=true", "output_dir=run"], "pretraining a tiny model is not continued"),
        (["recipe.seed=1"], "pretrain.py has no group recipe"),
        (["trainer=ddp_cpu"], "trainer.devices=2 with pretrain.py: a model is taught by one"),
        (["model=llava"], "only tiny models (*_tiny) are pretrained here, from random weights"),
    ],
)
def test_what_the_tiny_models_refuse(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(*words)
    assert told in str(error.value)


def test_all_alignments_are_an_option_of_it() -> None:
    assert config(*AROUND, "pretrain.alignment=all").pretrain.alignment == "all"


def test_it_goes_on_and_a_tiny_model_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    around, tiny = config(*AROUND, "output_dir=run"), config("output_dir=run")
    assert not resumes(around)
    assert resumes(config(*AROUND, "output_dir=run", "resume=true"))
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resumes(around)
    assert not resumes(tiny)


def test_the_gate_and_the_alignments_change_no_stage() -> None:
    """So that a run which missed its targets can be accepted, and get another projector."""
    first, other, seeded = (
        settings_that_decide(config(*AROUND, *words).plain())
        for words in ([], ["gate=false", "pretrain.alignment=all"], ["seed=1"])
    )
    assert first == other
    assert first != seeded
