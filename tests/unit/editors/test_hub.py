"""A trained editor or an edit on a hub is fetched, pinned to its commit, or refused with a way."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from configs.check import load_config, load_edit_config
from configs.launch import _start_logging
from configs.rundir import check_output_dir, output_folder
from configs.schema import EvaluateConfig, TrainConfig
from configs.stored import stored_config
from configs.words import quote_words
from editors.checkpoint import read_checkpoint
from editors.hub import HubReference, checkpoint_file, edit_folder, pinned
from errors import ConfigError, ModelError, TmkeError
from runner.continuing import check_continued, steps_done, take_along
from tests.hub_stand_in import TOKEN, Files, HubStandIn, forget, serving

RUN = Path(__file__).parents[2] / "before" / "run"
CKPT = "checkpoints/best.ckpt"
EDITOR: Files = {name: (RUN / name).read_bytes() for name in ("config.yaml", CKPT)}
EDIT: Files = {"edit.json": b"{}", "deltas.safetensors": b"1", "pictures/a.png": b"2"}
WORDS = ("data.root=elsewhere", "logger=none")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with serving(tmp_path, monkeypatch) as stand_in:
        yield stand_in


def evaluation(*words: str) -> EvaluateConfig:
    config = load_config("evaluate", [*words, *WORDS])
    assert isinstance(config, EvaluateConfig)
    return config


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hub:alice/mend", HubReference("alice/mend")),
        ("hub:a-b/c.d_e@feature/x", HubReference("a-b/c.d_e", revision="feature/x")),
        ("hub:a/b/runs/1/last.ckpt@v1", HubReference("a/b", "runs/1/last.ckpt", "v1")),
    ],
)
def test_a_reference_is_read_and_written_alike(text: str, reference: HubReference) -> None:
    assert HubReference.parse(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text", ["hub:", "hub:mend", "hub:a/b@", "hub:a/b/../c", "hub:a/..", "hub://a/b", "hub:a b/c"]
)
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^ckpt=.*hub:OWNER/NAME.*hub:alice/mend-llava") as error:
        HubReference.parse(text)
    assert text in str(error.value)


def test_a_trained_editor_is_used_as_the_commit_that_it_is(hub: HubStandIn) -> None:
    commit = hub.put("alice/mend", EDITOR)
    config = evaluation(*quote_words(["ckpt=hub:alice/mend"]))
    assert config.ckpt == f"hub:alice/mend@{commit}", "what a result says of where it is from"
    assert (config.editor.name, config.data.name, config.model.name) == (
        "mend", "world", "llava_tiny",
    )  # fmt: skip
    assert checkpoint_file(config.ckpt).read_bytes() == EDITOR[CKPT]
    assert read_checkpoint(config.ckpt)["global_step"] == 4
    assert load_edit_config(["ckpt=hub:alice/mend@main"]).ckpt == config.ckpt
    hub.put("alice/mend", {})
    forget()
    assert checkpoint_file(config.ckpt).is_file(), "main has moved, the commit has not"


def test_a_branch_is_asked_for_once_in_a_process(hub: HubStandIn) -> None:
    first = hub.put("alice/mend", EDITOR)
    assert pinned("hub:alice/mend").endswith(first)
    calls = len(hub.calls)
    hub.put("alice/mend", {**EDITOR, "more": b""})
    assert pinned("hub:alice/mend").endswith(first)
    assert len(hub.calls) == calls


def test_calls_to_a_hub_are_not_on_the_screen(
    hub: HubStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    hub.put("alice/mend", EDITOR)
    _start_logging()
    with caplog.at_level(logging.INFO):
        pinned("hub:alice/mend")
    assert not [record for record in caplog.records if record.name.startswith("httpx")]


def test_a_run_goes_on_with_the_commit_that_it_began_with(hub: HubStandIn, tmp_path: Path) -> None:
    first = hub.put("alice/mend", EDITOR)
    output = f"output_dir={tmp_path}/out"
    with output_folder(evaluation("ckpt=hub:alice/mend", output)):
        pass
    check_output_dir(evaluation("ckpt=hub:alice/mend", output, "resume=true"))
    second = hub.put("alice/mend", {**EDITOR, "more": b""})
    forget()
    with pytest.raises(ConfigError, match=rf"ckpt.*@{first}.*@{second}"):
        check_output_dir(evaluation("ckpt=hub:alice/mend", output, "resume=true"))
    check_output_dir(evaluation(f"ckpt=hub:alice/mend@{first}", output, "resume=true"))


def test_a_training_goes_on_from_a_hub_in_a_folder_of_its_own(
    hub: HubStandIn, tmp_path: Path
) -> None:
    files = {f"run/{name}": content for name, content in EDITOR.items()}
    hub.put("alice/mend", files)
    config = load_config("train", [f"ckpt=hub:alice/mend/run/{CKPT}", *WORDS])
    assert isinstance(config, TrainConfig)
    assert config.output_dir.startswith("runs/train/mend-"), "not where the checkpoint lies"
    check_continued(config, 1)
    assert steps_done(config.ckpt) == (4, True)
    take_along(config.ckpt, tmp_path)
    for name in ("best.ckpt", "last.ckpt"):
        assert (tmp_path / "checkpoints" / name).read_bytes() == EDITOR[CKPT]


def test_settings_are_read_beside_the_checkpoint_or_inside(hub: HubStandIn) -> None:
    settings = yaml.safe_load(EDITOR["config.yaml"]) | {"seed": 11}
    hub.put("alice/beside", {**EDITOR, "config.yaml": yaml.safe_dump(settings).encode()})
    assert stored_config("hub:alice/beside")["seed"] == 11
    hub.put("alice/inside", {"mend.ckpt": EDITOR[CKPT]})
    assert stored_config("hub:alice/inside/mend.ckpt")["seed"] == 0


def test_an_edit_is_fetched_without_what_else_lies_there(hub: HubStandIn) -> None:
    hub.put("alice/lyon", {**EDIT, "notes.txt": b"", **{f"b/{k}": v for k, v in EDIT.items()}})
    for reference in ("hub:alice/lyon", "hub:alice/lyon/b"):
        folder = edit_folder(reference)
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert {name for name in files if not name.startswith("b/")} == EDIT.keys()
    assert edit_folder("a/folder") == Path("a/folder")


def test_a_download_is_used_without_a_network(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.put("alice/mend", EDITOR)
    pinned("hub:alice/mend")
    forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pinned("hub:alice/mend") == f"hub:alice/mend@{commit}"
    with pytest.raises(ModelError, match=r"^ckpt=hub:alice/other: .*HF_HUB_OFFLINE=1.*Unset it"):
        pinned("hub:alice/other")


def test_a_private_one_needs_a_token(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("alice/mend", EDITOR, private=True)
    with pytest.raises(ModelError, match=r"private and no token is set.*HF_TOKEN"):
        pinned("hub:alice/mend")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelError, match="private and the token here may not read it"):
        pinned("hub:alice/mend")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pinned("hub:alice/mend")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hub:alice/absent", "has no such repository, or it is private"),
        ("hub:alice/mend@v9", "has no revision v9: give a branch"),
        ("hub:alice/mend/last.ckpt", r"no trained editor \(last.ckpt\); it has config.yaml, check"),
        ("hub:alice/lyon", "no trained editor .*it is an edit: open it with load_edit"),
        ("hub:alice/llava", r"it has config.json; name one of its files, as hub:OWNER/NAME"),
        ("hub:alice/empty", "cannot be read"),
        ("hub:alice/worded", "config.yaml is no YAML"),
    ],
)
def test_what_cannot_be_had_says_what_to_do(reference: str, message: str, hub: HubStandIn) -> None:
    hub.put("alice/mend", EDITOR)
    hub.put("alice/lyon", EDIT)
    hub.put("alice/llava", {"config.json": b"{}"})
    hub.put("alice/empty", {CKPT: b"PK nothing"})
    hub.put("alice/worded", {**EDITOR, "config.yaml": b"a: b: c"})
    with pytest.raises(TmkeError, match=f"^ckpt={reference}") as error:
        stored_config(reference)
    assert re.search(message, str(error.value))


def test_it_is_told_with_the_other_mistakes_of_a_command_line(hub: HubStandIn) -> None:
    with pytest.raises(ConfigError, match=r"2 mistakes(.|\n)*ckpt=hub:alice/absent(.|\n)*seed"):
        evaluation("ckpt=hub:alice/absent", "seed=x")


def test_a_trained_editor_is_no_edit(hub: HubStandIn) -> None:
    hub.put("alice/mend", EDITOR)
    with pytest.raises(ModelError, match=r"^edit=hub:alice/mend: .*no edit.*give it as ckpt="):
        edit_folder("hub:alice/mend")


def test_a_download_that_is_cut_is_no_checkpoint(hub: HubStandIn) -> None:
    hub.put("alice/mend", EDITOR)
    hub.cut = (".ckpt",)
    with pytest.raises(ModelError, match=r"^ckpt=hub:alice/mend: the download has failed"):
        checkpoint_file("hub:alice/mend")
    hub.cut = ()
    assert checkpoint_file("hub:alice/mend").read_bytes() == EDITOR[CKPT]


def test_a_hub_that_does_not_answer(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9 cannot be reached. Connect"):
        pinned("hub:alice/mend")


def test_a_file_of_that_name_is_still_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub:a").mkdir()
    (tmp_path / "hub:a" / "b.ckpt").write_bytes(EDITOR[CKPT])
    assert json.dumps(stored_config("./hub:a/b.ckpt")["seed"]) == "0"
