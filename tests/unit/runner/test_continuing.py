"""From which file a training goes on, whether it may, and what it takes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.check import load_config
from configs.rundir import output_folder
from configs.schema import TrainConfig
from editors.checkpoint import CONFIG
from errors import ConfigError, ModelError
from lightning_modules.checkpoints import PROGRESS
from runner.continuing import check_continued, continued, finished, steps_done, take_along


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def train(*words: str) -> TrainConfig:
    config = load_config("train", ["experiment=demo", "editor.batch_size=4", *words])
    assert isinstance(config, TrainConfig)
    return config


def save(path: Path, step: int, best: float = 1.0, **more: Any) -> Path:
    """A checkpoint without weights, of a training of `train()` in two processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "global_step": step, CONFIG: train().plain(),
        PROGRESS: {"validated": False, "processes": 2},
        "callbacks": {"Checkpoints": {"best": best}, "EarlyStopping{}": {"wait_count": 3}},
    }  # fmt: skip
    torch.save(content | more, path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a training at step 8, best at step 4."""
    with output_folder(train(f"output_dir={tmp_path}/run")) as folder:
        (folder / "metrics.csv").write_text("step,train/loss\n0,1\n")
    for name, step in (("best", 4), ("last", 8)):
        save(folder / "checkpoints" / f"{name}.ckpt", step)
    return folder


def test_resume_goes_on_from_the_last_step_or_begins(run: Path, tmp_path: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    assert continued(train(f"output_dir={run}", "resume=true")) == str(last)
    assert continued(train(f"output_dir={tmp_path}/new", "resume=true")) is None
    assert steps_done(str(last)) == (8, False)
    assert steps_done(None) == (None, True)


def test_a_training_keeps_where_its_loss_compares(tmp_path: Path) -> None:
    everywhere = train("metrics.positions=all")
    path = save(tmp_path / "last.ckpt", 8, **{CONFIG: everywhere.plain()})

    def go_on(config: TrainConfig) -> None:
        check_continued(config.model_copy(update={"ckpt": str(path)}), 2)

    go_on(everywhere)
    with pytest.raises(ConfigError, match=r"metrics\.positions was 'all' and is 'answer'"):
        go_on(train())
    of_group = {"locality_i": "top1", "generation": False, "max_new_tokens": 16}
    older = everywhere.plain() | {"metrics": {"positions": "all", **of_group}}
    save(path, 8, **{CONFIG: older})  # it was stored and not looked at
    go_on(train())
    with pytest.raises(ConfigError, match=r"metrics\.positions was 'answer' and is 'all'"):
        go_on(everywhere)


def test_resume_takes_no_other_file_of_its_folder(run: Path) -> None:
    cfg = train(f"output_dir={run}", "resume=true")
    best = run / "checkpoints" / "best.ckpt"
    with pytest.raises(ConfigError, match="leave one of them out"):
        continued(cfg.model_copy(update={"ckpt": str(best)}))
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ConfigError, match=rf"ckpt={best}, or begin anew with overwrite=true"):
        continued(cfg)


def test_a_requeued_job_goes_on_with_its_own_steps_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to go on from best.ckpt: last.ckpt is another run's until this one has begun."""
    best = str(run / "checkpoints" / "best.ckpt")
    cfg = train(f"output_dir={run}").model_copy(update={"ckpt": best})
    assert continued(cfg) == best
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert continued(cfg) == best
    with output_folder(cfg):
        take_along(best, run)
    assert continued(cfg) == str(run / "checkpoints" / "last.ckpt")
    assert steps_done(continued(cfg))[0] == 4


@pytest.mark.parametrize(
    ("processes", "size", "says"),
    [
        (2, 4, ""),
        (4, 2, ""),
        (1, 8, ""),
        (1, 4, "took 2 x 4 .* take 1 x 4 .editor.batch_size=8 keeps"),
        (3, 4, "would take 3 x 4\\."),
    ],
)
def test_a_step_keeps_its_edits(run: Path, processes: int, size: int, says: str) -> None:
    words = (f"editor.batch_size={size}", f"output_dir={run}")
    last = run / "checkpoints" / "last.ckpt"
    cfg = train(*words).model_copy(update={"ckpt": str(last)})
    if not says:
        return check_continued(cfg, processes)
    with pytest.raises(ConfigError, match=says):
        check_continued(cfg, processes)
    return None


def test_what_the_checkpoint_itself_says_counts(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    for update, says in (({"seed": 7}, "seed was 0 and is 7"),):
        with pytest.raises(ConfigError, match=says):
            check_continued(train().model_copy(update=update | {"ckpt": str(last)}), 2)
    last.write_bytes(last.read_bytes()[:99])
    cfg = train().model_copy(update={"ckpt": str(last)})
    with pytest.raises(ModelError, match=r"damaged.*best\.ckpt goes on from the best step"):
        check_continued(cfg, 2)


def test_a_training_is_finished_by_steps_or_by_patience(run: Path) -> None:
    ckpt = {"ckpt": str(run / "checkpoints" / "last.ckpt")}
    for words, says in (
        (["trainer.max_steps=9"], None),
        (["trainer.max_steps=8"], "all of its 8 steps are done"),
        (["trainer.max_steps=9", "trainer.patience=3"], "stopped at step 8 after 3 validations"),
        (["trainer.max_steps=9", "trainer.patience=4"], None),
    ):
        found = finished(train(*words).model_copy(update=ckpt), 2)
        assert found is None if says is None else says in str(found)


def test_a_new_folder_gets_what_belongs_to_the_checkpoint(run: Path, tmp_path: Path) -> None:
    last, new = run / "checkpoints" / "last.ckpt", tmp_path / "new"
    take_along(str(last), new)
    files = sorted(str(path.relative_to(new)) for path in new.rglob("*") if path.is_file())
    assert files == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.csv"]
    save(run / "checkpoints" / "best.ckpt", 12, best=0.5)  # of later steps
    take_along(str(last), tmp_path / "other")
    assert not (tmp_path / "other" / "checkpoints" / "best.ckpt").exists()
    before = last.stat().st_mtime_ns
    take_along(str(last), run)
    assert last.stat().st_mtime_ns == before
