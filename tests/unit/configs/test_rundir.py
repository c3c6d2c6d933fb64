"""Where a run writes, what it may replace, and what a checkpoint brings along."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from configs import schema
from configs.check import build, load_config
from configs.composing import compose_plain, hydra_ready
from configs.rundir import check_output_dir, resumes
from datamodules.sources.world import WorldData
from editors.checkpoint import CONFIG, IDENTITY, editor_options, read_checkpoint
from editors.mend.config import MendOptions
from editors.registry import with_current_names
from errors import ConfigError
from tests.output_folders import prepared


def train(*words: str) -> schema.TrainConfig:
    config = load_config("train", words)
    assert isinstance(config, schema.TrainConfig)
    return config


def evaluate(*words: str, **options: Any) -> schema.EvaluateConfig:
    config = load_config("evaluate", words, **options)
    assert isinstance(config, schema.EvaluateConfig)
    return config


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder as train.py leaves it, with settings that are no defaults."""
    words = ["experiment=demo", "editor.rank=64", "data.size=20", "data.limit=7", "seed=5"]
    words.append("data.allow_overlap=true")
    folder = prepared(train(*words, "output_dir=run"))
    (folder / "checkpoints").mkdir()
    for name in ("best", "last"):
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    return tmp_path / folder


def test_the_default_folder_names_the_run() -> None:
    config = train("scenario=transitive")
    pattern = r"runs/train/mend-llava_tiny-world-transitive/\d{8}-\d{6}-[0-9a-f]{8}"
    assert re.fullmatch(pattern, config.output_dir)
    assert load_config("pretrain").output_dir.startswith("runs/pretrain/llava_tiny-world/")
    assert not Path("runs").exists()


def test_jobs_of_a_sweep_do_not_share_a_folder() -> None:
    with hydra_ready():
        plain = compose_plain("train", [])
    zero, one = (build("train", plain, [], job=job).output_dir for job in (0, 1))
    assert zero != one
    assert build("train", plain | {"output_dir": "x"}, [], job=1).output_dir == "x/1"


def test_the_configuration_is_written_with_the_folder() -> None:
    config = train("experiment=demo", "output_dir=run")
    assert not Path("run").exists()
    folder = prepared(config)
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config.plain()


@pytest.mark.parametrize(
    "name", ["config.yaml", "checkpoints", "summary.json", "edits.parquet", "metrics.csv"]
)
def test_a_folder_that_holds_a_run_is_refused(name: str) -> None:
    Path("run").mkdir()
    Path("run", name).write_text("precious")
    with pytest.raises(ConfigError, match=rf"already holds a run \({name}\).*overwrite=true"):
        prepared(train("output_dir=run"))
    assert Path("run", name).read_text() == "precious"


def test_other_files_do_not_make_a_run_and_survive_overwriting(trained: Path) -> None:
    (trained / "notes.txt").write_text("mine")
    (trained / "metrics.csv").write_text("old")
    check_output_dir(train("output_dir=elsewhere"))
    prepared(train("output_dir=run", "overwrite=true"))
    assert (trained / "notes.txt").read_text() == "mine"
    left = ["config.yaml", "log.txt", "notes.txt"]
    assert sorted(p.name for p in trained.iterdir()) == left


def test_checking_alone_removes_nothing(trained: Path) -> None:
    check_output_dir(train("output_dir=run", "overwrite=true"))
    assert (trained / "checkpoints" / "best.ckpt").exists()


def test_a_file_is_no_folder() -> None:
    Path("file").touch()
    with pytest.raises(ConfigError, match="output_dir=file is a file"):
        check_output_dir(train("output_dir=file"))


def test_resuming_goes_on_in_the_folder_of_its_checkpoint(trained: Path) -> None:
    config = train("ckpt=run/checkpoints/last.ckpt")
    assert config.output_dir == "run"
    assert resumes(config)
    prepared(config)
    assert (trained / "checkpoints" / "last.ckpt").exists()


def test_resuming_into_another_run_is_refused(trained: Path) -> None:
    Path("other").mkdir()
    Path("other", "summary.json").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        check_output_dir(train(f"ckpt={trained}/checkpoints/last.ckpt", "output_dir=other"))


def test_results_never_replace_the_checkpoint_they_are_of(trained: Path) -> None:
    config = evaluate("ckpt=run/checkpoints/best.ckpt", "output_dir=run", "overwrite=true")
    with pytest.raises(ConfigError, match="folder of the checkpoint"):
        prepared(config)
    assert (trained / "checkpoints" / "best.ckpt").exists()


def test_other_ranks_neither_refuse_nor_write(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (trained / "config.yaml").read_text()
    monkeypatch.setenv("LOCAL_RANK", "1")
    prepared(train("output_dir=run"))
    assert (trained / "config.yaml").read_text() == before


def test_a_checkpoint_brings_editor_model_and_data(trained: Path) -> None:
    config = evaluate(f"ckpt={trained}/checkpoints/best.ckpt", "scenario=transitive")
    assert isinstance(config.editor, MendOptions)
    assert isinstance(config.data, WorldData)
    assert (config.editor.rank, config.editor.sign, config.data.size) == (64, "descent", 20)
    assert config.scenario.name == "transitive"
    assert (config.data.limit, config.seed, config.data.allow_overlap) == (None, 0, False), (
        "settings of the training run, not of what it made"
    )


def test_resuming_takes_everything(trained: Path) -> None:
    config = train(f"ckpt={trained}/checkpoints/last.ckpt", "trainer.max_steps=9")
    assert (config.data.limit, config.seed, config.trainer.val_every) == (7, 5, 30)
    assert config.data.allow_overlap
    assert config.trainer.max_steps == 9
    with pytest.raises(ConfigError, match="seed was 5 and is 1"):
        train(f"ckpt={trained}/checkpoints/last.ckpt", "seed=1")


def test_what_is_typed_wins_and_is_told(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = evaluate(
            f"ckpt={trained}/checkpoints/best.ckpt",
            "editor=mend",
            "editor.layers=2",
            "data.limit=3",
        )
    assert isinstance(config.editor, MendOptions)
    assert (config.editor.layers, config.editor.rank, config.data.limit) == (2, 64, 3)
    assert "editor.layers=2 is used as typed; the checkpoint was made with 3" in caplog.messages


def test_other_data_replace_those_of_the_checkpoint(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = evaluate(
        f"ckpt={trained}/checkpoints/best.ckpt", "data=folder", f"data.root={trained}"
    )
    assert config.data.name == "folder"
    assert "data=folder is used as typed; the checkpoint was made with world" in caplog.messages


def test_an_experiment_does_not_replace_what_a_checkpoint_was_made_with(trained: Path) -> None:
    config = evaluate("experiment=demo", f"ckpt={trained}/checkpoints/best.ckpt")
    assert isinstance(config.editor, MendOptions)
    assert config.editor.rank == 64


def test_keys_for_the_experiments_data_do_not_land_in_the_checkpoints(trained: Path) -> None:
    with pytest.raises(
        ConfigError, match="data: the experiment chooses tmke and the checkpoint world"
    ):
        evaluate(
            "experiment=tmke",
            f"ckpt={trained}/checkpoints/best.ckpt",
            f"data.root={trained}",
        )


def test_another_editor_than_the_checkpoints_is_refused(trained: Path) -> None:
    with pytest.raises(ConfigError, match="editor=ft: ckpt holds a trained mend"):
        evaluate(f"ckpt={trained}/checkpoints/best.ckpt", "editor=ft")


def test_settings_that_no_longer_exist_are_left_out(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = trained / "config.yaml"
    plain = yaml.safe_load(path.read_text())
    plain["editor"]["gone"] = 1
    path.write_text(yaml.safe_dump(plain))
    evaluate(f"ckpt={trained}/checkpoints/best.ckpt")
    assert any("editor.gone" in message and "left out" in message for message in caplog.messages)


def test_a_checkpoint_elsewhere_brings_its_own_settings(trained: Path, tmp_path: Path) -> None:
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    moved = tmp_path / "moved.ckpt"
    moved.touch()
    with pytest.raises(ConfigError, match="cannot be read"):
        evaluate(f"ckpt={moved}")
    content = {IDENTITY: {"editor": stored["editor"], "base": {}}, CONFIG: stored}
    torch.save(content, moved)
    config = evaluate(f"ckpt={moved}")
    assert isinstance(config.editor, MendOptions)
    assert config.editor.rank == 64


@pytest.mark.parametrize("beside", [True, False])
def test_a_key_under_its_old_name_is_understood(
    trained: Path, tmp_path: Path, beside: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    del stored["editor"]["questions"]
    stored["editor"]["objective"] = "image_text"  # as MEND's `questions` was called once
    ckpt = trained / "checkpoints" / "best.ckpt"
    if beside:
        (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    else:
        ckpt = tmp_path / "moved.ckpt"
        torch.save({IDENTITY: {"editor": stored["editor"], "base": {}}, CONFIG: stored}, ckpt)
        assert editor_options(read_checkpoint(ckpt))["questions"] == "image_text"
    config = evaluate(f"ckpt={ckpt}")
    assert isinstance(config.editor, MendOptions)
    assert config.editor.questions == "image_text"
    assert not caplog.messages


def test_weights_of_later_terms_are_nought_in_an_earlier_checkpoint(trained: Path) -> None:
    """Whatever its YAML says by now: the training had no such term."""
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    later = ("transfer", "named", "specificity")
    for name in later:
        del stored["editor"]["weights"][name]
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    before = dict(stored["editor"]["weights"])
    config = evaluate(f"ckpt={trained}/checkpoints/best.ckpt")
    assert isinstance(config.editor, MendOptions)
    assert config.editor.weights.model_dump() == before | dict.fromkeys(later, 0.0)
    assert with_current_names(stored["editor"])["weights"] == before | dict.fromkeys(later, 0.0)
    assert "weights" not in with_current_names({"name": "ft"})


def test_no_end_token_was_taught_before_there_was_the_option(trained: Path) -> None:
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    assert stored["editor"].pop("teach_end") is False
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    config = evaluate(f"ckpt={trained}/checkpoints/best.ckpt")
    assert isinstance(config.editor, MendOptions)
    assert config.editor.teach_end is False
    for name in ("ft", "lora", "rome", "serac"):
        assert with_current_names({"name": name})["teach_end"] is False
    assert "teach_end" not in with_current_names({"name": "ike"})


def test_a_broken_copy_of_the_settings_is_named(trained: Path) -> None:
    (trained / "config.yaml").write_text("editor: {name: mend")
    with pytest.raises(ConfigError, match=r"config\.yaml is no YAML"):
        evaluate(f"ckpt={trained}/checkpoints/best.ckpt")
