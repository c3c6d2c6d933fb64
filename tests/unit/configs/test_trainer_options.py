"""How many processes a configuration asks for, and options that do not work here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs import schema
from configs.check import load_config
from configs.rules import sweep_problems
from errors import ConfigError
from runner.start import process_count, start


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


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "RANK"])
def test_only_the_first_process_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from configs.rundir import prepare_output_dir

    config = train(f"output_dir={tmp_path / 'run'}")
    monkeypatch.setenv(name, "1")
    assert prepare_output_dir(config) == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(name, "0")
    prepare_output_dir(config)
    assert (tmp_path / "run" / "config.yaml").is_file()
    monkeypatch.setenv(name, "1")
    prepare_output_dir(config)  # the others do not refuse the folder that the first one made


def test_a_command_of_one_process_is_not_started_in_several() -> None:
    """pretrain.py ignored trainer=ddp_cpu, and would now teach and write in each process."""
    said = r"trainer.devices=2 .*takes one process"
    with pytest.raises(ConfigError, match=said), start(train("trainer=ddp_cpu")):
        pass
