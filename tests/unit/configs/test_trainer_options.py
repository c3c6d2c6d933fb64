"""How many processes a configuration asks for, and options that do not work here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import distributed

from configs import schema
from configs.check import load_config
from configs.rules import sweep_problems
from errors import ConfigError
from results.files import RANK_VARIABLES, forget_ranks, is_first_process
from runner.start import process_count, start
from tests.output_folders import prepared


def train(*words: str) -> schema.TrainConfig:
    config = load_config("train", ["editor=mend", *words])
    assert isinstance(config, schema.TrainConfig)
    return config


@pytest.mark.parametrize(
    ("words", "several"),
    [
        ((), False),
        (("trainer=ddp",), True),  # all GPUs, whatever their number is
        (("trainer=ddp_cpu",), True),
        (("trainer=ddp", "trainer.devices=1"), False),
        (("trainer=ddp", "trainer.devices=[3]"), False),
        (("trainer=ddp", "trainer.devices=[0,3]"), True),
        (("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2"), True),
    ],
)
def test_a_sweep_is_refused_where_several_processes_may_start(
    words: tuple[str, ...], several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    config = train(*words)
    assert config.trainer.many_processes is several
    problems = sweep_problems(config.plain(), [])
    assert len(problems) == several
    assert all(f"trainer.devices={config.trainer.devices}" in problem for problem in problems)


@pytest.mark.parametrize(
    ("words", "processes"),
    [
        (("trainer.accelerator=cpu",), 1),
        (("trainer.accelerator=cpu", "trainer.devices=auto"), 1),
        (("trainer=ddp_cpu",), 2),
        (("trainer=ddp_cpu", "trainer.devices=3", "trainer.num_nodes=2"), 6),
    ],
)
def test_the_trainer_itself_says_how_many_processes_there_are(
    words: tuple[str, ...], processes: int
) -> None:
    assert process_count(train(*words).trainer) == processes


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        process_count(train("trainer=ddp").trainer)
    said = str(caught.value)
    assert said.startswith("trainer.accelerator=gpu, trainer.devices=auto, trainer.strategy=ddp")
    assert "trainer=default" in said
    assert "\n" not in said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_ddp_takes_every_gpu() -> None:
    assert process_count(train("trainer=ddp").trainer) == torch.cuda.device_count()


def test_all_devices_of_a_cpu_are_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"devices=auto with trainer.accelerator=cpu.*ddp_cpu"):
        train("experiment=demo", "trainer=ddp", f"output_dir={tmp_path}")


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_cpu_is_not_filled_with_processes(accelerator: str, tmp_path: Path) -> None:
    """Each would be started, one after the other, until nothing else runs on the machine."""
    words = (f"trainer.accelerator={accelerator}", f"output_dir={tmp_path}")
    for word in ("trainer.devices=100000", "data.num_workers=100000"):
        with pytest.raises(ConfigError, match=rf"{word} .*at most"):
            train("trainer=ddp_cpu", word, *words)
    assert train("trainer=ddp_cpu", "trainer.devices=16", *words).trainer.devices == 16


SRUN = {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}


@pytest.mark.parametrize(
    ("rank", "around"),
    [
        ("LOCAL_RANK", {}),
        ("NODE_RANK", {"GROUP_RANK": "0"}),
        ("GROUP_RANK", {}),
        ("SLURM_PROCID", SRUN),
        ("RANK", TORCHRUN),
        ("RANK", SRUN | TORCHRUN),
    ],
)
def test_only_the_first_process_writes(
    rank: str, around: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train(f"output_dir={tmp_path / 'run'}")
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(rank, "1")
    assert prepared(config) == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(rank, "0")
    prepared(config)
    assert (tmp_path / "run" / "config.yaml").is_file()
    monkeypatch.setenv(rank, "1")
    prepared(config)  # the others do not refuse the folder that the first one made


@pytest.mark.parametrize(
    "around",
    [
        {"RANK": "3", "SLURM_PROCID": "5"},  # of a farm whose launcher is no longer around
        {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "bash"},
        SRUN | TORCHRUN | {"SLURM_PROCID": "1", "RANK": "0", "LOCAL_RANK": "1"},
    ],
)
def test_a_rank_of_another_launcher_means_nothing(
    around: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    assert is_first_process()


def test_what_a_farm_has_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANK_VARIABLES:
        monkeypatch.setenv(name, "1")
    assert not is_first_process()
    forget_ranks()
    assert is_first_process()
    assert not set(RANK_VARIABLES) & set(os.environ)


def test_a_group_knows_its_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert is_first_process()
    finally:
        distributed.destroy_process_group()
    assert not is_first_process()


def test_torchrun_has_to_be_told_of_in_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its processes would be a run of its own, in one folder."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"torchrun has started 2 .*trainer=ddp"):
        train()
    assert train("trainer=ddp_cpu").trainer.many_processes


def test_a_command_of_one_process_is_not_started_in_several() -> None:
    """pretrain.py ignored trainer=ddp_cpu, and would now teach and write in each process."""
    said = r"trainer.devices=2 .*takes one process"
    with pytest.raises(ConfigError, match=said), start(train("trainer=ddp_cpu")):
        pass


def test_one_process_speaks_whatever_lightning_read_at_its_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning takes the rank from leftovers in the environment; curves were not written then."""
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    with start(train("trainer.accelerator=cpu")) as placement:
        assert vars(rank_zero_only)["rank"] == placement.rank == 0


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["trainer.max_time=12"], r"max_time=12: .*such as \"00:12:00:00\""),
        ("train", ["trainer.profiler=fast"], r"'simple', 'advanced' or 'pytorch'"),
        ("train", ["trainer.fast_dev_run=0"], r"trainer.fast_dev_run=0"),
        ("train", ["trainer.fast_dev_run=1", "ckpt=editor.ckpt"], r"leave ckpt out"),
        ("train", ["trainer.fast_dev_run=1", "trainer.profiler=simple"], r"no profile either"),
        ("train", ["trainer.overfit_batches=3", "editor.accumulate=2"], r"no whole optimiser"),
        ("evaluate", ["trainer.max_time=00:00:01:00"], r"every edit once"),
        ("evaluate", ["trainer.overfit_batches=3"], r"every edit once"),
        (
            "evaluate",
            ["trainer.fast_dev_run=true", "resume=true", "output_dir=run"],
            r"leave resume out",
        ),
        (
            "evaluate",
            ["trainer.fast_dev_run=true", "protocol=sequential", "protocol.n=2"],
            r"try protocol.n=1",
        ),
        ("pretrain", ["trainer.detect_anomaly=true"], r"recipe and a trainer of its own"),
        ("evaluate", ["score=Reliabilty"], r"no such metric.*did you mean Reliability"),
        ("evaluate", ["score=Reliability_GM"], r"no such metric"),
    ],
)
def test_what_a_command_has_no_use_for_is_refused(
    command: str, words: list[str], message: str
) -> None:
    editor = {"train": ["editor=mend"], "evaluate": ["editor=ft"], "pretrain": []}[command]
    with pytest.raises(ConfigError, match=message):
        load_config(command, [*editor, *words])


def test_a_score_is_a_metric_of_the_result() -> None:
    load_config("evaluate", ["editor=ft", "score=Reliability_GM", "metrics.generation=true"])
    load_config("evaluate", ["editor=ft", "score=Locality_I", "scenario=multimodal"])
