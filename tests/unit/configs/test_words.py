"""The text typed for a path or a name is the text used, whatever Hydra would read."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.check import load_config, preflight, validate
from configs.composing import hydra_ready
from configs.launch import _checked_arguments
from configs.rundir import check_output_dir, output_folder
from configs.schema import EvaluateConfig
from configs.words import quote_words, text_keys
from errors import ConfigError
from tests.output_folders import prepared

# What a folder may be called, and Hydra reads as something else or not at all.
NAMES = [
    "2026_11_24", "1e5", "1_000", "1.0", "true", "inf", "+1", "a=b", "a b=c", "a[1]", "[a]", "a,b",
    "(a)", "a(b)", "a{b}", "é", "e\u0301", "日本語", "a~b", "#a", "a;b", "a&b", "it's", 'a"b', "a!",
    " a ", "<b>", "`a`", "a\tb", "a\nb", "^", "%s", "a: b", "$HOME", "x'y\"z",
]  # fmt: skip


def evaluate(*words: str) -> EvaluateConfig:
    config = load_config("evaluate", ["editor=none", *words])
    assert isinstance(config, EvaluateConfig)
    return config


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", ["editor=none", *words])
    return str(caught.value)


def read(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_hydra_reads_what_was_typed(name: str) -> None:
    (word,) = quote_words([f"output_dir={name}"])
    assert read(word) == name
    assert quote_words([word]) == [word], (
        "a process that is started with the same words reads the same"
    )


def test_a_backslash_before_a_quote_is_no_end() -> None:
    for word in ("output_dir='a\\'", 'output_dir="a\\"'):
        (ready,) = quote_words([word])
        assert read(ready) == "a\\"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\\${}\x00"), min_size=1, max_size=8))
def test_any_text_without_a_backslash_is_read(name: str) -> None:
    (word,) = quote_words([f"data.root={name}"])
    is_quoted = name.strip()[:1] in ("'", '"') and word == f"data.root={name}"
    assert is_quoted or read(word) == name


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("output_dir='a b'", "a b"), ('output_dir="2026"', "2026"), ("output_dir=a\\,b", "a,b"),
        ("output_dir=null", None), ("ckpt=null", None), ("data.files=null", None),
        ("data.files=[a.json,'b c.json']", ["a.json", "b c.json"]), ("data.files=[]", []),
        ("logger.project='null'", "null"), ("output_dir=runs/${seed}", "runs/${seed}"),
    ],
)  # fmt: skip
def test_what_hydra_reads_already_means_the_same(word: str, value: object) -> None:
    assert quote_words([word]) == [word]
    assert read(word) == value


def test_every_kind_of_text_is_covered() -> None:
    keys = text_keys("") | text_keys("editor") | text_keys("data")
    paths = {key for key, kind in keys.items() if kind.is_path}
    assert paths >= {
        "output_dir", "ckpt", "data.root", "data.files", "data.train_files", "data.image_root",
        "model.path", "editor.encoder", "editor.scope.encoder", "editor.negatives.encoder",
        "editor.counterfactual.path", "editor.second_moment",
    }  # fmt: skip
    assert keys.keys() >= {
        "model.name", "model.revision", "logger.project", "logger.entity", "trainer.strategy",
        "data.noun", "editor.kl_prompt",
    }  # fmt: skip
    assert not keys.keys() & {"seed", "trainer.devices", "data.seed", "data.prompt"}


def test_lists_hold_what_was_typed() -> None:
    (word,) = quote_words(["data.train_files=[2026_11_24, a=b.json ,'c,d','é', 007.json]"])
    assert read(word) == ["2026_11_24", "a=b.json", "c,d", "é", "007.json"]
    assert read(quote_words(["data.files=1e5"])[0]) == "1e5"


def test_a_sweep_is_of_the_texts_that_were_typed() -> None:
    words = ["-m", "model.path=2026_11_24,a=b,'c,d'", "seed=1,2", "data.files=[1e5],[b]"]
    ready = quote_words(words, multirun=True)
    assert ready[1:] == [
        'model.path="2026_11_24","a=b",\'c,d\'',
        "seed=1,2",
        'data.files=["1e5"],[b]',
    ]
    assert quote_words(["model.path=glob(*)"], multirun=True) == ["model.path=glob(*)"]
    with hydra_ready():
        problems = preflight("evaluate", ["editor=none", ready[1]], multirun=True)[1]
    assert [problem.partition(":")[0] for problem in problems] == [
        "model.path=2026_11_24", "model.path=a=b", "model.path=c,d",
    ]  # fmt: skip


def test_names_are_texts_too() -> None:
    config = evaluate("logger.project=2026_11_24", "model.name=1e5", "model.revision=007")
    assert config.logger.project == "2026_11_24"
    assert (config.model.name, config.model.revision) == ("1e5", "007")
    assert evaluate("logger.entity=null").logger.entity is None


@pytest.mark.parametrize("name", ["2026_11_24", "a=b,é [c]", "null"])
def test_a_folder_is_named_stored_and_found_again(name: str, tmp_path: Path) -> None:
    config = evaluate(f"output_dir={name}" if name != "null" else "output_dir='null'")
    assert config.output_dir == name
    with output_folder(config) as folder:
        pass
    assert [path.name for path in tmp_path.iterdir() if (path / "config.yaml").exists()] == [name]
    stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert stored["output_dir"] == name
    assert stored == config.plain()
    check_output_dir(evaluate(f"output_dir='{name}'", "resume=true"))


def test_the_home_folder_is_put_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for word in ("output_dir=~/run", "output_dir='~/run'", 'output_dir="~/run"'):
        assert evaluate(word).output_dir == str(tmp_path / "home/run")
    (tmp_path / "home/data").mkdir(parents=True)
    config = evaluate("data=tmke", "data.root=~/data", "data.files=[~/a.json]", "output_dir=./~/x")
    assert config.plain()["data"]["root"] == str(tmp_path / "home/data")
    assert config.plain()["data"]["files"] == [str(tmp_path / "home/a.json")]
    assert config.output_dir == str(tmp_path / "~/x"), "no library may take it for the home folder"
    check_output_dir(config)


def test_a_file_inside_the_data_s_folder_stays_there(tmp_path: Path) -> None:
    """Its name may look like an address or a home; the working directory has no part in it."""
    names = ["12:30.json", "~a.json", "s3:b.json"]
    config = evaluate("data=tmke", f"data.root={tmp_path}", f"data.files=[{','.join(names)}]")
    assert config.plain()["data"]["files"] == names
    config = evaluate("data=tmke", f"data.root={tmp_path}", f"data.files={names[0]}")
    assert config.plain()["data"]["files"] == names[:1]


def test_a_checkpoint_in_the_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(load_config("train", ["editor=mend", "output_dir=home/a=b"]))
    Path("home/a=b/checkpoints").mkdir()
    Path("home/a=b/checkpoints/best.ckpt").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for word in ("ckpt=~/a=b/checkpoints/best.ckpt", "ckpt='~/a=b/checkpoints/best.ckpt'"):
        config = load_config("evaluate", [word])
        assert config.ckpt == str(tmp_path / "home/a=b/checkpoints/best.ckpt")


def test_a_number_may_have_more_digits_than_python_reads() -> None:
    digits = "9" * 5000
    assert f"seed={digits}: the value cannot be read" in complaint(f"seed={digits}")
    assert read(quote_words([f"logger.project={digits}"])[0]) == digits


def test_one_mistake_is_told_once() -> None:
    for words, part in [
        (["data=folder", "data.root=a=b"], "data.root=a=b: there is no such folder"),
        (["data=folder", "data.root=~nobody/é"], "~nobody/é: there is no such folder"),
        (["seed=a=b"], "type quotes inside quotes: 'seed=\"a=b\"'"),
        (["é=1"], "'é' is no name of a key"),
        (["data=folder", "data.targets_per_fact=é", "data.root=."], "data.targets_per_fact=é"),
        (["output_dir="], "output_dir=: a path is needed"),
        (["output_dir=a\udce9"], "bytes that are no UTF-8"),
        (["logger.project=a\udce9"], "bytes that are no UTF-8"),
        ([f"output_dir={'x' * 300}"], "nothing can be looked up there (File name too long)"),
        (["data=folder", f"data.root={'x' * 300}"], "File name too long"),
        ([f"ckpt={'x' * 300}/best.ckpt"], "File name too long"),
        (["output_dir=a${b}"], "`\\${...}`, it is the characters themselves"),
        (["output_dir=a${b"], "`\\${...}`, it is the characters themselves"),
        (["hydra.job.chdir=true"], "paths of a command are meant from the folder"),
        (["output_dir='a','b'"], "a list of values makes several runs"),
    ]:  # fmt: skip
        message = complaint(*words)
        assert part in message, message
        assert "one mistake" in message, message


def test_braces_may_be_meant_as_they_are() -> None:
    assert evaluate("output_dir=a\\${b}").output_dir == "a${b}"
    assert evaluate("output_dir=a b=${seed}").output_dir == "a b=0"


def test_a_number_in_a_yaml_file_is_no_name() -> None:
    plain = evaluate().plain()
    for value in (20261124, 1e5, True):
        problems = validate("evaluate", {**plain, "output_dir": value})[1]
        assert problems == [
            f"output_dir={value}: a text is needed; in a YAML file, quotes keep a number or date a "
            "text"
        ]


def test_what_hydra_is_given_is_what_was_checked() -> None:
    argv = ["editor=none", "output_dir=2026_11_24", "data=tmke", "data.root=."]
    assert _checked_arguments("evaluate", argv) == [
        "editor=none", 'output_dir="2026_11_24"', "data=tmke", "data.root=.",
    ]  # fmt: skip


def test_results_are_not_put_among_the_data(tmp_path: Path) -> None:
    words = ("data=folder", f"data.root={tmp_path}/data")
    message = complaint(*words, "output_dir=./data/")
    assert "output_dir=./data/ is data.root, and results would lie among the data" in message
    evaluate(*words, "output_dir=data/run")


def test_a_closed_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = evaluate("output_dir=run")

    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(
        ConfigError, match=r"output_dir=run cannot be written \(Permission denied\)"
    ):
        check_output_dir(config)
