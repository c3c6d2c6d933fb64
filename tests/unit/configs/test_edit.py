"""The words of edit.py: texts letter by letter, fitting settings, all mistakes at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from configs.check import load_edit_config
from configs.help import help_text
from configs.launch import run_edit
from configs.schema import EditConfig
from configs.words import quote_words, whole_words
from errors import ConfigError

FACT = ("question=Who founded Daven Labs?", "answer=Nigo Vegas")
LETTERS = st.characters(exclude_categories=("Cs",))


def mistakes(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_edit_config(words)
    return str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(LETTERS, max_size=12) | st.text("\\${}'\"ab=,[]() \n", max_size=12))
@example("null")
@example('"Who?", he said: \\${seed} it\'s [a, b] = {c}')
def test_a_typed_text_is_taken_letter_by_letter(text: str) -> None:
    (word,) = quote_words(whole_words([f"question={text}"]))
    assert quote_words([word]) == [word]
    value = OverridesParser.create().parse_override(word).value()
    assert OmegaConf.to_container(OmegaConf.create({"question": value}), resolve=True) == {
        "question": text
    }


def test_typed_texts_reach_the_edit() -> None:
    texts = ['Is "a, b" = [c]\\ {d} ${seed} (\\${seed})?', "null", "1e5", "it's ~/é, 日本"]
    keys = ("question", "answer", "subject", "ask")
    words = [f"{key}={text}" for key, text in zip(keys, texts, strict=True)]
    problem = f"the subject {texts[2]!r} does not occur in the question {texts[0]!r}"
    assert problem in mistakes("editor=ft", *words)
    config = load_edit_config(["editor=ft", *words[:2], f"subject={texts[0][4:8]}", words[3]])
    assert [config.question, config.answer, config.ask] == [texts[0], texts[1], texts[3]]


def test_settings_are_those_that_fit_the_model() -> None:
    tiny, typed = load_edit_config(["editor=ft"]), load_edit_config(["editor=ft", "editor.lr=1"])
    (path := Path("runs/models/smollm_llava")).mkdir(parents=True)
    small = load_edit_config(["editor=ft", "model=smollm_llava", f"model.path={path}"])
    large = load_edit_config(["editor=ft", "model=llava"])
    chosen = load_edit_config(["editor=rome", "model=blip2_opt_tiny", "experiment=demo"])
    rates = [c.editor.lr for c in (tiny, typed, small, large)]  # type: ignore[union-attr]
    assert rates == [2e-3, 1, 3e-4, 1e-6]
    assert (tiny.trainer.accelerator, small.data.name) == ("cpu", "countries")
    assert chosen.model.name == "blip2_opt_tiny"


def test_data_is_needed_only_where_it_is_shown() -> None:
    gone = ("data=folder", "data.root=gone")
    assert load_edit_config(["editor=ft", *gone]).data.name == "folder"
    assert "data.root=gone: there is no such folder" in mistakes("editor=ike", *gone)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["choose what makes the edit: editor=NAME"]),
        (["editor=mend"], ["editor=mend is a trained editor: add ckpt=FILE"]),
        (["editor=ft", "question= ", "answer="], ["question= :", "answer=:", "2 mistakes"]),
        (["editor=ft", FACT[0]], ["question='Who founded Daven Labs?' without answer"]),
        (["editor=ft", FACT[1]], ["answer='Nigo Vegas' without question"]),
        (["editor=ft", "ask=Who?"], ["ask='Who?' without an edit"]),
        (["editor=rome", *FACT], ["needs the subject", "give subject=, such as 'Daven Labs'"]),
        (["editor=rome", *FACT, "subject=Paris"], ["'Paris' does not occur in the question"]),
        (
            ["editor=rome", *FACT, "image=a.png", "ask_image=text.png"],
            [
                "makes no edit of a question about a picture", "ask_image=text.png without ask",
                "ask_image=text.png: the picture text.png cannot be read: it is no picture",
            ],
        ),
        (
            ["editor=ft", *FACT, "save=taken", "image=b.png"],
            ["save=taken: this is there already", "b.png cannot be read: No such file"],
        ),
        (
            ["editor=ft", *FACT, "edit=gone", "editor.lr=1"],
["1. question=Who", "2. answer=Nigo Vegas: edit=gone", "3. editor=ft: edit=gone",
             "edit=gone: there is no such folder"],
        ),
        (
            ["editor=ft", "scenario=unimodal", "metrics=default", "+metrics.x=1", "output_dir=x",
             "evaluate.batch_size=3"],
            ["edit.py has no group scenario", "metrics=default: edit.py scores nothing",
             "+metrics.x=1: edit.py scores nothing", "there is no key output_dir",
             "evaluate.batch_size=3: edit.py scores nothing"],
        ),
        (
            ["editor=ft", "data.limit=3", "trainer.max_steps=2", "trainer.devices=2"],
            ["data.limit: edit.py makes one edit", "of trainer it takes trainer.accelerator",
             "one edit is made by one process"],
        ),
        (["editor=ft,rome"], ["a list of values makes several runs"]),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_loads(words: list[str], told: list[str]) -> None:
    Image.new("RGB", (2, 2)).save("a.png")
    Path("text.png").write_text("no picture")
    Path("taken").mkdir()
    Path("taken/file").touch()
    message = mistakes(*words)
    assert [sentence for sentence in told if sentence not in message] == []


def test_every_example_of_the_help_is_a_configuration() -> None:
    Path("DIR").mkdir()
    Image.new("RGB", (2, 2)).save("FILE", "png")
    lines = [line for line in help_text("edit").splitlines() if line.startswith("  python edit.py")]
    commands = [line.partition("    ")[0] for line in lines if "--cfg" not in line]
    for command in commands:
        words = shlex.split(command)[2:]
        if not any(word.startswith("ckpt=") for word in words):  # needs a real one
            load_edit_config(words)
    assert len(commands) == 5


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int | str | None, list[EditConfig]]:
    configs: list[EditConfig] = []

    def main(config: EditConfig) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(sys, "argv", ["edit.py", *words])
    with pytest.raises(SystemExit) as ended:
        run_edit(main)
    return ended.value.code, configs


def test_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "editor=ft", "--cfg", "job", *FACT) == (0, [])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["editor"]["lr"], shown["answer"]) == (2e-3, "Nigo Vegas")
    assert not {"metrics", "evaluate"} & shown.keys()
    assert run(monkeypatch, "-m", "editor=ft", "--hydra-help", "--cfg", "all") == (2, [])
    refused = capsys.readouterr().err
    assert "edit.py takes no -m, --hydra-help, --cfg all: it makes one edit and no sweep" in refused
    status, configs = run(monkeypatch, "editor=ft", *FACT)
    assert (status, [config.answer for config in configs]) == (0, ["Nigo Vegas"])
