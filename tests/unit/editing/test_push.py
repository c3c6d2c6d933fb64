"""What is sent to a hub, what stays on this machine, and what comes back from there."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, constants

from configs.check import load_config
from datamodules.records import Record
from datamodules.source import origin_of
from editing import load_edit, open_editor
from editing.__main__ import main
from editing.edit import FactEdit
from editing.model import OpenedModel
from editing.model_card import Trained, editor_card
from editors.checkpoint import SUBJECTS, read_checkpoint
from editors.hub import checkpoint_file, pinned
from models.__main__ import main as models_main
from results.folder import read_summary
from results.writing import write_summary
from tests.edit_cases import teach, untrained_checkpoint
from tests.hub_stand_in import TOKEN, HubStandIn, forget, serving

BEFORE = Path(__file__).parents[2] / "before"
CKPT = "checkpoints/best.ckpt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with serving(tmp_path / "hub", monkeypatch, token=TOKEN) as stand_in:
        yield stand_in


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A training whose settings name places of this machine, and its owner."""
    folder = Path(shutil.copytree(BEFORE / "run", tmp_path / "home" / "alice" / "run"))
    private = {"output_dir": str(folder), "logger": {"entity": "alice-at-work"}}
    root = {"root": str(tmp_path / "home" / "alice" / "world")}

    def with_places(settings: dict) -> dict:
        return {**settings, **private, "data": {**settings["data"], **root}}

    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(with_places(yaml.safe_load(path.read_text()))))
    content = read_checkpoint(BEFORE / "run" / CKPT)
    content["config"] = with_places(content["config"])
    content["callbacks"]["Private"] = {"dirpath": str(folder)}
    torch.save(content, folder / CKPT)
    return folder


@pytest.fixture
def result(run: Path, tmp_path: Path) -> Path:
    """An evaluation of it."""
    from results.provenance import file_digest

    folder = Path(shutil.copytree(BEFORE / "result", tmp_path / "result"))
    summary = read_summary(folder)
    summary["settings"]["ckpt_digest"] = file_digest(run / CKPT)
    write_summary(folder, summary)
    return folder


def push(*words: object) -> int:
    return main(["push", *map(str, words)])


def test_a_trained_editor_comes_back_as_it_was_sent(
    hub: HubStandIn, run: Path, result: Path, model: OpenedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    status = push(
        f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--results", result, "--license", "mit", "--yes"
    )
    said = capsys.readouterr().out
    assert status == 0, said
    sha = hub.repositories["alice/mend"].branches["main"]
    assert f"Sent as hub:alice/mend@{sha}" in said
    assert f"{hub.url}/alice/mend, branch main (new, public: everyone can read it)" in said
    assert f"not sent, a path of this machine: data.root={run.parent}/world" in said
    files = hub.repositories["alice/mend"].files()
    assert files.keys() - {".gitattributes"} == {"README.md", "config.yaml", CKPT}
    for name, content in files.items():
        assert str(run.parent).encode() not in content, name
        assert b"alice-at-work" not in content, name
    assert len(hub.repositories["alice/mend"].commits) == 2, "one for all files"

    config = load_config("evaluate", ["ckpt=hub:alice/mend"])
    assert config.ckpt == f"hub:alice/mend@{sha}"
    assert config.plain()["data"]["root"] == "runs/worlds/size50-seed0", "as configs/data says"
    first, then = read_checkpoint(run / CKPT), read_checkpoint(config.ckpt)
    assert then[SUBJECTS] == first[SUBJECTS]
    assert "optimizer_states" in then
    editor = open_editor("mend", model, ckpt="hub:alice/mend")
    assert editor.ckpt == config.ckpt
    assert isinstance(editor.editor, torch.nn.Module)
    state = editor.editor.state_dict()
    assert {f"editor.{name}" for name in state} == first["state_dict"].keys()
    for name, value in state.items():
        assert torch.equal(value, first["state_dict"][f"editor.{name}"]), name


def test_its_page_says_what_it_is(hub: HubStandIn, run: Path, result: Path) -> None:
    push(
        f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--results", result, "--license", "mit", "--yes"
    )
    card = ModelCard(hub.repositories["alice/mend"].files()["README.md"].decode())
    metadata = card.data.to_dict()
    assert (metadata["license"], metadata["library_name"]) == ("mit", "tmke")
    assert metadata["datasets"] == ["world"]
    assert {"knowledge-editing", "mend"} <= set(metadata["tags"])
    results: list[EvalResult] = card.data.eval_results  # type: ignore[attr-defined]
    numbers = {result.metric_type: result.metric_value for result in results}
    metrics = read_summary(result)["metrics"]
    assert numbers["Reliability_S"] == round(metrics["Reliability_S"]["mean"], 2)
    for text in (
        "# MEND for llava_tiny",
        "evaluate.py ckpt=hub:alice/mend scenario=unimodal",
        'ckpt="hub:alice/mend")',
        "38d889c3a12ea4d8",
        f"{metrics['Reliability_S']['mean']:.1f} ±",
        "MIT (drawn by this project)",
        "| editor.rank | 2 |",
        "| optimiser steps | 4 |",
    ):
        assert text in card.text, text


def test_its_page_names_the_licence_of_what_it_was_trained_on() -> None:
    trained = Trained(
        {"name": "mend"}, {"name": "llava_tiny"}, "0", origin_of("mcmke"),
        {"data": {"name": "cckeb", "train": {"name": "mcmke"}}}, (),
    )  # fmt: skip
    page = editor_card("alice/mend", None, trained)
    assert "(`data=mcmke`): licence not stated; origin https://arxiv.org/abs/2406.13219" in page
    assert "datasets:\n- mcmke" in page


def test_the_unedited_model_may_stand_beside_it(
    hub: HubStandIn, run: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = read_summary(result)["settings"]
    beside = Path(shutil.copytree(result, tmp_path / "unedited"))
    summary = read_summary(beside) | {"editor": "none", "settings": settings | {
        "ckpt": None, "ckpt_digest": None, "training": None, "editor": {"name": "none"},
    }}  # fmt: skip
    write_summary(beside, summary)
    words = (f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--results", result, beside, "--yes")
    assert push(*words) == 0, capsys.readouterr().err
    page = hub.repositories["alice/mend"].files()["README.md"].decode()
    assert "| llava_tiny | Unedited | 4 |" in page
    summary["settings"]["model_digest"] = "another"
    write_summary(beside, summary)
    assert push(*words) == 2
    assert f"--results {beside} is a result of none" in capsys.readouterr().err


def test_another_branch_is_made_and_main_stays(hub: HubStandIn, run: Path) -> None:
    main_before = hub.put("alice/mend", {"README.md": b"mine"})
    words = (f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--branch", "v2", "--yes")
    assert push(*words) == 0
    branches = hub.repositories["alice/mend"].branches
    assert branches["main"] == main_before
    assert pinned("hub:alice/mend@v2") == f"hub:alice/mend@{branches['v2']}"


def test_without_a_training_state_it_is_smaller_and_no_training_goes_on(
    hub: HubStandIn, run: Path
) -> None:
    from errors import ConfigError
    from runner.continuing import check_continued

    push(f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--weights-only", "--yes")
    file = checkpoint_file("hub:alice/mend")
    assert file.stat().st_size < (run / CKPT).stat().st_size / 2
    config = load_config("train", ["ckpt=hub:alice/mend"])
    with pytest.raises(ConfigError, match="the weights of a trained editor alone"):
        check_continued(config, 1)


def test_an_edit_comes_back_as_it_was_sent(
    hub: HubStandIn, edit: FactEdit, model: OpenedModel, tmp_path: Path
) -> None:
    folder = edit.save(tmp_path / "edit")
    (folder / "notes.txt").write_text("mine")
    assert push(f"edit={folder}", "--to", "hub:alice/lyon", "--private", "--yes") == 0
    repository = hub.repositories["alice/lyon"]
    assert repository.private
    assert repository.files().keys() - {".gitattributes"} == {
        "README.md", "edit.json", "deltas.safetensors",
    }  # fmt: skip
    page = ModelCard(repository.files()["README.md"].decode())
    assert {"ft", "edit"} <= set(page.data.to_dict()["tags"])
    assert "load_edit('hub:alice/lyon', model)" in page.text
    question = edit.facts[0].question
    assert load_edit("hub:alice/lyon", model).ask(question) == edit.ask(question)
    adapter = tmp_path / "adapter"
    words = ["export", "edit=hub:alice/lyon", "--output", str(adapter), "--format", "peft"]
    assert models_main(words) == 0
    assert (adapter / "adapter_config.json").is_file()

    hub.put("alice/lyon", {**repository.files(), "pictures/0.png": b"of an earlier one"})
    assert push(f"edit={folder}", "--to", "alice/lyon", "--yes") == 0
    assert "pictures/0.png" not in repository.files()
    assert repository.private, "as it was"
    (folder / "deltas.safetensors").write_bytes(b"cut")
    assert push(f"edit={folder}", "--to", "alice/other", "--yes") == 2
    assert "alice/other" not in hub.repositories


def test_an_edit_finds_its_editor_on_a_hub(
    hub: HubStandIn, model: OpenedModel, record: Record, tmp_path: Path
) -> None:
    """SERAC's networks answer, and no file of them lies beside its memory."""
    file = untrained_checkpoint("serac", model, record, tmp_path / "serac.ckpt")
    commit = hub.put("alice/serac", {CKPT: file.read_bytes()})
    edit = teach(open_editor("serac", model, ckpt="hub:alice/serac"), record)
    folder = edit.save(tmp_path / "edit")
    assert f'"hub:alice/serac@{commit}"' in (folder / "edit.json").read_text()
    read, question = load_edit(folder, model), record.knowledge_edit.question
    assert read.ask(question) == edit.ask(question)


@pytest.mark.parametrize(("answer", "status", "is_sent"), [("n", 1, False), ("y", 0, True)])
def test_it_is_asked_for_before_anything_is_sent(
    answer: str, status: int, is_sent: bool, hub: HubStandIn, run: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked = []

    def answered(question: str) -> str:
        asked.append((question, list(hub.sent)))
        return answer

    monkeypatch.setattr("builtins.input", answered)
    assert push(f"ckpt={run}/{CKPT}", "--to", "alice/mend") == status
    assert asked == [("Send this? [y/N] ", [])]
    assert bool(hub.sent) is is_sent
    assert ("Nothing was sent." in capsys.readouterr().out) is not is_sent


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ckpt={run}/none.ckpt", "--to", "alice/mend"), "there is no such file"),
        (("edit={run}", "--to", "alice/mend"), "holds no edit.json"),
        (("{run}", "--to", "alice/mend"), "ckpt=FILE of a trained editor is accepted, or edit=DIR"),
        (("ckpt={run}/" + CKPT, "--to", "mend"), "--to=hub:mend: a repository of the hub is named"),
        (("ckpt={run}/" + CKPT, "--to", "a/b@v1"), "--branch names a branch of it"),
        (("ckpt={run}/" + CKPT, "--to", "bob/mend"), r"refused it \(403\).*allowed to write there"),
        (("ckpt={run}/" + CKPT, "--to", "alice/lyon"), "holds an edit (edit.json)"),
        (("ckpt={run}/" + CKPT, "--to", "alice/seen", "--private"), "there already, and public"),
        (("edit={run}", "--to", "alice/x", "--weights-only"), "are of trained editors"),
        (("ckpt={run}/" + CKPT, "--to", "alice/x", "--results", "{before}"), "is a result of mend"),
    ],
)
def test_what_cannot_be_sent(
    words: tuple[str, ...], message: str, hub: HubStandIn, run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hub.put("alice/lyon", {"edit.json": b"{}"})
    hub.put("alice/seen", {})
    assert push(*(word.format(run=run, before=BEFORE / "result") for word in words), "--yes") == 2
    said = capsys.readouterr().err
    assert message in said or re.search(message, said), said
    assert not [call for call in hub.sent if "create" not in call]


def test_nobody_is_asked_in_a_pipe(
    hub: HubStandIn, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert push(f"ckpt={run}/{CKPT}", "--to", "alice/mend") == 2
    assert "--yes sends without a question" in capsys.readouterr().err
    assert not hub.calls


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("token", "", "no token says who sends it"),
        ("token", "hf_other", "refused it (401)"),
        ("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE=1 allows no call"),
        ("ENDPOINT", "http://127.0.0.1:9", "http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_a_hub_that_refuses(
    name: str, value: str | bool, message: str, hub: HubStandIn, run: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name == "token":
        monkeypatch.setenv("HF_TOKEN", str(value))
    else:
        monkeypatch.setattr(constants, name, value)
    forget()
    assert push(f"ckpt={run}/{CKPT}", "--to", "alice/mend", "--yes") == 2
    assert message in capsys.readouterr().err
    assert not hub.sent
