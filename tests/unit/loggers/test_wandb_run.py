"""Weights & Biases around our runs: how it starts, what it is told, and that it ends no run."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from configs.check import load_config
from configs.schema import RunConfig
from loggers import wandb_run
from loggers.curve_file import CurveFile
from loggers.run_loggers import open_loggers
from loggers.wandb_run import GuardedWandb, grouping

FULL = OSError(errno.ENOSPC, "No space left on device")


class FakeRun:
    """A W&B run that notes what it is told, or fails."""

    id = "abc123"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.config = error, SimpleNamespace(update=self._told)
        self.logged: list[tuple[dict[str, Any], int | None]] = []
        self.finished: list[int] = []

    def _told(self, *_: Any, **__: Any) -> None:
        if self.error:
            raise self.error

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self._told()
        self.logged.append((data, step))

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)
        self._told()


class FakeWandb:
    """The module: every start answers with the next of some runs, or raises it."""

    def __init__(self, *starts: FakeRun | Exception) -> None:
        self.starts, self.asked, self.teardowns = list(starts), list[dict[str, Any]](), 0

    def init(self, **options: Any) -> FakeRun:
        self.asked.append(options | {"WANDB_MODE": os.environ.get("WANDB_MODE")})
        start = self.starts.pop(0)
        if isinstance(start, Exception):
            raise start
        return start

    def teardown(self) -> None:
        self.teardowns += 1
        raise SystemExit(1)  # what W&B does where its service crashed


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeWandb]:
    """Puts a fake in the place of the package."""

    def put(*starts: FakeRun | Exception) -> FakeWandb:
        fake = FakeWandb(*starts)
        monkeypatch.setattr(wandb_run, "import_module", lambda name: fake)
        return fake

    return put


def config(folder: Path, *words: str, command: str = "train") -> RunConfig:
    editor = ["editor=mend"] if command == "train" else ["editor=ft"]
    more = [] if command == "pretrain" else [*editor, "experiment=demo"]
    return load_config(command, [*more, f"output_dir={folder}", *words])


def test_a_run_is_told_what_it_belongs_to(tmp_path: Path, module: Callable[..., FakeWandb]) -> None:
    fake = module(run := FakeRun())
    with open_loggers(config(tmp_path), tmp_path, name="mend training") as (curves, wandb):
        assert isinstance(curves, CurveFile)
        wandb.log_metrics({"train/loss": 0.5}, 3)
    (asked,) = fake.asked
    assert (asked["mode"], asked["WANDB_MODE"], asked["resume"]) == ("offline", "offline", "allow")
    assert (asked["project"], asked["name"], asked["dir"]) == (
        "tmke", "mend training", str(tmp_path),
    )  # fmt: skip
    assert asked["config"]["editor"]["name"] == "mend"
    assert run.logged == [({"train/loss": 0.5, "trainer/global_step": 3}, None)]
    assert (run.finished, fake.teardowns) == ([0], 1)


@pytest.mark.parametrize(
    ("command", "group", "tags"),
    [
        ("train", "mend-llava_tiny-multimodal", ["editor:mend", "scenario:multimodal"]),
        ("evaluate", "ft-llava_tiny-multimodal", ["editor:ft", "scenario:multimodal"]),
        ("pretrain", "pretrain-llava_tiny-world", []),
    ],
)
def test_groups_and_tags(command: str, group: str, tags: list[str], tmp_path: Path) -> None:
    words = [] if command == "pretrain" else ["scenario=multimodal"]
    shown = grouping(config(tmp_path, *words, command=command))
    assert (shown["group"], shown["job_type"]) == (group, command)
    assert {*tags, "model:llava_tiny", "data:world"} <= set(shown["tags"])
    protocol = {tag for tag in shown["tags"] if tag.startswith("protocol")}
    assert protocol == ({"protocol:single"} if command == "evaluate" else set())


def test_names_that_are_too_long_for_wandb_are_cut(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    long = cfg.model_copy(update={"model": cfg.model.model_copy(update={"name": "m" * 200})})
    shown = grouping(long)
    assert len(shown["group"]) == 128
    assert max(map(len, shown["tags"])) == 64


def test_who_continues_in_a_folder_continues_the_wandb_run(
    tmp_path: Path, module: Callable[..., FakeWandb]
) -> None:
    runs = [FakeRun() for _ in range(3)]
    fake = module(*runs)
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        folder.mkdir(exist_ok=True)
        with open_loggers(config(folder), folder, name="x") as (_, wandb):
            wandb.log_metrics({"train/loss": 0.5}, 3)
    first, other, again = (asked["id"] for asked in fake.asked)
    assert first == again != other
    assert [step for _, step in runs[0].logged] == [None]
    assert [step for _, step in runs[2].logged] == [10_000_000, None], "lines ascend"


CALLS: dict[str, Callable[[GuardedWandb], None]] = {
    "curves": lambda wandb: wandb.log_metrics({"train/loss": 0.5}, 1),
    "table": lambda wandb: wandb.log_table("result", columns=["a"], data=[[1]]),
    "picture": lambda wandb: wandb.log_image("figures", [Image.new("RGB", (4, 4))]),
    "settings": lambda wandb: wandb.log_hyperparams({"lr": 0.1}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_full_disk_is_told_once_and_ends_no_run(
    call: Callable[[GuardedWandb], None],
    tmp_path: Path,
    module: Callable[..., FakeWandb],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = module(run := FakeRun(FULL))
    with (
        caplog.at_level(logging.WARNING),
        open_loggers(config(tmp_path), tmp_path, name="x") as (curves, wandb),
    ):
        assert isinstance(wandb, GuardedWandb)
        call(wandb)
        assert wandb.lost
        for again in CALLS.values():
            again(wandb)
        curves.log_metrics({"train/loss": 0.5}, 1)
        curves.finalize("success")
    assert caplog.messages == [
        "W&B is off for the rest of this run (OSError: [Errno 28] No space left on device); "
        f"metrics.csv with the curves is written to {tmp_path} all the same"
    ]
    assert (tmp_path / "metrics.csv").read_text().startswith("step,train/loss")
    assert (run.finished, fake.teardowns) == ([0], 1), "W&B does not try again at the end"


def test_a_run_that_cannot_end_is_told_once(
    tmp_path: Path, module: Callable[..., FakeWandb], caplog: pytest.LogCaptureFixture
) -> None:
    module(run := FakeRun())
    with open_loggers(config(tmp_path, command="evaluate"), tmp_path, name="x") as (_, wandb):
        run.error = ConnectionResetError("Connection lost")
    assert isinstance(wandb, GuardedWandb)
    assert wandb.lost
    assert caplog.messages == [
        "W&B is off for the rest of this run (ConnectionResetError: Connection lost); "
        f"edits.parquet, summary.json and table.md are written to {tmp_path} all the same"
    ]


def test_curves_that_the_service_could_not_write_are_told_at_the_end(
    tmp_path: Path, module: Callable[..., FakeWandb], caplog: pytest.LogCaptureFixture
) -> None:
    """W&B's service writes the curves, and says nothing of a full disk."""
    module(FakeRun())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with open_loggers(config(tmp_path), tmp_path, name="x") as (_, wandb):
            wandb.log_metrics({"train/loss": 0.5}, 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (told,) = caplog.messages
    assert "File too large; its copy of the curves may lack the end" in told


def test_an_error_of_ours_goes_on_and_marks_the_run(
    tmp_path: Path, module: Callable[..., FakeWandb]
) -> None:
    module(run := FakeRun())
    with (
        pytest.raises(KeyboardInterrupt),
        open_loggers(config(tmp_path), tmp_path, name="x"),
    ):
        raise KeyboardInterrupt
    assert run.finished == [1]


@pytest.mark.parametrize("found", [None, ModuleSpec("wandb", None)], ids=["nothing", "a folder"])
def test_without_the_package_a_run_goes_on(
    found: ModuleSpec | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A folder called wandb, which W&B makes where it is started, looks like a package."""
    monkeypatch.setattr(wandb_run.importlib.util, "find_spec", lambda name: found)
    with open_loggers(config(tmp_path), tmp_path, name="x") as loggers:
        assert [type(logger) for logger in loggers] == [CurveFile]
    (told,) = caplog.messages
    assert "wandb is not installed (pip install wandb); metrics.csv" in told
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("error", [FULL, RuntimeError("no\nservice"), ImportError("broken")])
def test_where_wandb_does_not_start_a_run_goes_on(
    error: Exception,
    tmp_path: Path,
    module: Callable[..., FakeWandb],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = module(error)
    with open_loggers(config(tmp_path), tmp_path, name="x") as loggers:
        assert [type(logger) for logger in loggers] == [CurveFile]
    (told,) = caplog.messages
    assert told.startswith(f"W&B could not start ({' '.join(str(error).split())}); metrics.csv")
    assert fake.teardowns == 1


def test_a_run_without_a_connection_is_kept_offline(
    tmp_path: Path,
    module: Callable[..., FakeWandb],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    fake = module(ConnectionError("timed out"), FakeRun())
    with open_loggers(config(tmp_path, "logger.wandb=online"), tmp_path, name="x") as loggers:
        assert len(loggers) == 2
    assert [one["mode"] for one in fake.asked] == ["online", "offline"]
    assert [one["WANDB_MODE"] for one in fake.asked] == ["online", "offline"]
    assert fake.asked[0]["id"] == fake.asked[1]["id"]
    assert caplog.messages == ["W&B has no connection (timed out): this run is kept offline"]
    assert "WANDB_MODE" not in os.environ


@pytest.mark.parametrize(
    ("option", "environment", "logged_in", "mode"),
    [
        ("offline", None, True, "offline"),
        ("offline", "online", True, "offline"),
        ("auto", None, True, "online"),
        ("auto", None, False, "offline"),
        ("auto", "offline", True, "offline"),
        ("online", None, True, "online"),
        ("online", None, False, "offline"),
        ("online", "dryrun", True, "offline"),
        ("off", None, True, None),
        ("online", "disabled", True, None),
    ],
)
def test_only_who_asks_for_it_goes_online(
    option: str,
    environment: str | None,
    logged_in: bool,
    mode: str | None,
    tmp_path: Path,
    module: Callable[..., FakeWandb],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    monkeypatch.setattr(wandb_run, "_logged_in", lambda: logged_in)
    fake = module(FakeRun())
    with open_loggers(config(tmp_path, f"logger.wandb={option}"), tmp_path, name="x"):
        pass
    assert [one["mode"] for one in fake.asked] == ([mode] if mode else [])
    assert ("no W&B login" in caplog.text) == (option == "online" and not logged_in)


def test_the_default_is_offline(tmp_path: Path) -> None:
    assert {config(tmp_path, command=c).logger.wandb for c in ("train", "pretrain")} == {"offline"}


@pytest.mark.parametrize(
    ("netrc", "variables", "logged_in"),
    [
        ("", {}, False),
        ("", {"WANDB_API_KEY": "0" * 40}, True),
        ("machine api.wandb.ai login user password key\n", {}, True),
        ("machine my.server:80 login user password key\n", {}, False),
        ("machine my.server:80 login user password key\n",
         {"WANDB_BASE_URL": "http://my.server:80"}, True),
        ("machine broken", {}, False),
    ],
)  # fmt: skip
def test_who_is_logged_in(
    netrc: str,
    variables: dict[str, str],
    logged_in: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "netrc").write_text(netrc)
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"NETRC": str(tmp_path / "netrc"), **variables}.items():
        monkeypatch.setenv(name, value)
    assert wandb_run._logged_in() is logged_in


def test_the_environment_is_as_it_was_afterwards(
    tmp_path: Path, module: Callable[..., FakeWandb], monkeypatch: pytest.MonkeyPatch
) -> None:
    module(FakeRun())
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    before = dict(os.environ)
    with open_loggers(config(tmp_path), tmp_path, name="x"):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb"), "pictures of tables"
        assert os.environ["WANDB_INIT_TIMEOUT"] == "7", "who sets it has a reason"
    assert dict(os.environ) == before


def test_other_processes_log_nothing(
    tmp_path: Path, module: Callable[..., FakeWandb], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = module()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with open_loggers(config(tmp_path), tmp_path, name="x") as (_, wandb):
        assert isinstance(wandb, GuardedWandb)
        for call in CALLS.values():
            call(wandb)
        assert not wandb.lost
    assert not fake.asked
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_evaluation_that_goes_on_leaves_no_half_of_it_to_be_synchronised(
    command: str, tmp_path: Path, module: Callable[..., FakeWandb]
) -> None:
    fake = module(FakeRun(), FakeRun())
    with open_loggers(config(tmp_path, command=command), tmp_path, name="x"):
        pass
    starts = [tmp_path / "wandb" / name for name in ("offline-run-1-a", "run-2-a")]
    for start in starts:
        start.mkdir()
    with open_loggers(config(tmp_path, command=command), tmp_path, name="x"):
        pass
    assert [start.exists() for start in starts] == [command == "train"] * 2
    assert fake.asked[0]["id"] == fake.asked[1]["id"]
