"""Configurations that are wrong: all mistakes in one message, before anything is written."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from configs.check import load_config, preflight
from configs.composing import hydra_ready
from configs.help import help_text
from configs.launch import _checked_arguments, _words_of_edit
from configs.overrides import command_groups, group_options
from configs.words import quote_words
from errors import ConfigError
from tests.output_folders import prepared

ROOT = Path(__file__).resolve().parents[3]


def complaint(command: str, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(command, words)
    return str(caught.value)


def count(message: str) -> int:
    return sum(line.strip()[:1].isdigit() for line in message.splitlines())


@pytest.mark.parametrize(
    ("command", "words", "parts"),
    [
        ("train", ["editor=serc"], ["editor=serc", "editor is one of", "mend"]),
        ("train", ["model=llava_tin"], ["model=llava_tin", "did you mean llava_tiny"]),
        ("train", ["editor.lrr=1"], ["no key editor.lrr", "did you mean editor.lr"]),
        ("train", ["lr=1"], ["no key lr", "did you mean editor.lr"]),
        *(
            (
                "train",
                [f"metrics.{word}"],
                [f"{word.partition('=')[0]}: train.py takes of `metrics`", "metrics.positions"],
            )
            for word in (
                "locality_i=top10_rank",
                "generation=true",
                "max_new_tokens=4",
                "cluster=target",
            )
        ),
        (
            "evaluate",
            ["editor=ft", "metrics.cluster=author"],
            ["metrics.cluster=author", "'record', 'subject' or 'target'"],
        ),
        ("train", ["metrics.positions=some"], ["metrics.positions=some", "'answer' or 'all'"]),
        ("train", ["cache=of"], ["cache=of", "auto, off, on"]),
        ("train", ["cache.gigabytes=0"], ["cache.gigabytes=0", "greater than 0"]),
        ("train", [f"cache.folder={__file__}/x"], [f"{__file__} is a file", "cache=off"]),
        ("evaluate", ["ediotr=ft"], ["no key ediotr", "did you mean editor"]),
        ("train", ["trainer.max_step=1"], ["did you mean trainer.max_steps"]),
        ("train", ["+editor.foo=1"], ["no key editor.foo"]),
        ("train", ["+foo=1"], ["no key foo"]),
        (
            "train",
            ["editor.objective=text"],
            ["editor.objective=text: editor.objective is called editor.questions now"],
        ),
        ("train", ["editor=serac", "editor.objective=text"], ["'mixture' or 'supervised'"]),
        ("train", ["editor.lr=abc"], ["editor.lr=abc", "valid number"]),
        ("train", ["editor.lr=0"], ["editor.lr=0", "greater than 0"]),
        ("train", ["editor.shared=1"], ["editor.shared=1", "valid boolean"]),
        ("train", ["seed=1.5"], ["seed=1.5", "valid integer"]),
        ("train", ["overwrite=please"], ["overwrite=please", "valid boolean"]),
        ("train", ["editor.sign=up"], ["editor.sign=up", "'published' or 'descent'"]),
        ("train", ["editor.weights=3"], ["editor.weights"]),
        ("train", ["trainer.devices=two"], ["trainer.devices=two", "'auto'"]),
        ("train", ["seed"], ["'seed'", "did you mean seed=VALUE"]),
        ("train", ["~editor.lr"], ["editor.lr is required"]),
        ("train", ["editor=null"], ["editor=null", "leave it out"]),
        ("train", ["seed=1,2"], ["seed=1,2", "-m"]),
        ("train", ["editor=ft"], ["editor=ft needs no training", "evaluate.py editor=ft"]),
        ("train", ["data=folder"], ["data.root is required"]),
        ("train", ["data=folder", "data.root=nope"], ["data.root=nope", "no such folder"]),
        ("train", ["data=tmke", "data.root=."], ["data.train_files is required"]),
        ("train", ["data.files=[a]"], ["no key data.files"]),
        ("train", ["model.path=./nope"], ["model.path=./nope", "no such folder"]),
        ("train", ["model.device_map=all"], ["model.device_map=all", "'auto'"]),
        ("train", ["model.max_memory={cpu:2GB}"], ["add model.device_map=auto"]),
        ("train", ["model.max_memory={cpu:2}"], ["max_memory", "12GB or 500MB"]),
        ("train", ["model.max_memory={gpu:2GB}"], ["max_memory", "the number of a card"]),
        (
            "train",
            ["editor=mend", "model.device_map=auto", "trainer=ddp_cpu"],
            ["trainer.devices=2 with model.device_map=auto", "use trainer.devices=1"],
        ),
        ("pretrain", ["model.device_map=auto"], ["changes every weight", "leave it out"]),
        (
            "train",
            ["model=smollm_llava_embedding", "model.path=./nope"],
            ["no such folder", "`python -m models smollm --alignment embedding --output ./nope`"],
        ),
        ("train", ["ckpt=nope.ckpt"], ["ckpt=nope.ckpt", "no such file"]),
        ("evaluate", [], ["editor=NAME, or ckpt=FILE"]),
        ("evaluate", ["editor=mend"], ["editor=mend is a trained editor", "ckpt=FILE"]),
        ("evaluate", ["editor.lr=1"], ["choose the editor first"]),
        ("evaluate", ["editor=ft", "editor.teach_end=always"], ["editor.teach_end", "boolean"]),
        (
            "evaluate",
            ["editor=ft_l", "editor.teach_end=true"],
            ["editor.loss_at=prompt_last: with teach_end=true", "set loss_at=answer or teach_end"],
        ),
        *(
            ("evaluate", [f"editor={name}", "editor.teach_end=true"], ["no key editor.teach_end"])
            for name in ("none", "ike")  # neither descends on a target's tokens
        ),
        ("pretrain", ["experiment=demo"], ["pretrain.py has no group experiment"]),
        ("pretrain", ["model=llava"], ["only tiny models"]),
        ("pretrain", ["pretrain.mask_share=2"], ["pretrain.mask_share=2", "equal to 1"]),
        ("pretrain", ["pretrain.text_target=101"], ["pretrain.text_target=101", "equal to 100"]),
        ("pretrain", ["data=tmke", "data.root=."], ["data=tmke", "folder or world"]),
        ("pretrain", ["ckpt=nope.ckpt"], ["ckpt=nope.ckpt", "is not continued"]),
        ("pretrain", ["pretrain.steps=x"], ["pretrain.steps=x", "valid integer"]),
        ("pretrain", ["+pretrain.foo=1"], ["no key pretrain.foo"]),
        ("pretrain", ["pretrain.heads=-1"], ["pretrain.heads=-1", "greater than or equal to 1"]),
    ],
)
def test_a_mistake_is_named(command: str, words: list[str], parts: list[str]) -> None:
    message = complaint(command, *words)
    assert all(part in message for part in parts), message


SEEDS = [
    ("train", "seed"), ("train", "data.seed"),
    ("evaluate", "seed"), ("evaluate", "data.world_seed"),
    *(("evaluate", f"editor={name} editor.seed") for name in ("rome", "ike", "lora")),
    ("pretrain", "seed"), ("pretrain", "pretrain.seed"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "key"), SEEDS)
def test_a_seed_is_one_that_every_library_takes(command: str, key: str) -> None:
    words = ["editor=ft"] if command == "evaluate" and "editor" not in key else []
    load_config(command, [*words, *f"{key}={2**32 - 1}".split()])
    message = complaint(command, *words, *f"{key}={2**32}".split())
    name = key.split()[-1]
    assert f"{name}=4294967296: input should be less than or equal to 4294967295" in message


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("train", f"data.limit={10**30}"), ("train", f"evaluate.batch_size={10**30}"),
        ("train", f"editor.rank={10**30}"), ("train", f"trainer.max_steps={10**30}"),
        ("train", f"trainer.limit_val_batches={10**30}"), ("train", "editor.lr=1e999"),
        ("train", "threads=5000"), ("pretrain", f"pretrain.steps={10**30}"),
        ("evaluate", f"protocol.n=[1,{10**30}]"), ("evaluate", f"editor.contexts=[[5,{10**30}]]"),
    ],
)  # fmt: skip
def test_a_number_beyond_all_reach_is_refused(command: str, word: str) -> None:
    words = ["editor=rome", "protocol=sequential"] if command == "evaluate" else []
    words += ["protocol.n=1"] if "contexts" in word else []
    assert re.search(r"4294967295|finite|1024", complaint(command, *words, word))


def test_all_mistakes_are_told_at_once() -> None:
    message = complaint(
        "train",
        "model=llva",
        "lr=3",
        "editor.lr=abc",
        "editor.rank=0",
        "editor.sgn=descent",
        "trainer.precision=7",
        "seed",
        "data=folder",
        "ckpt=nope.ckpt",
    )
    for part in (
        "model=llva", "there is no key lr", "editor.lr=abc", "editor.rank=0", "editor.sgn",
        "trainer.precision=7", "'seed'", "data.root is required", "ckpt=nope.ckpt",
    ):  # fmt: skip
        assert part in message, message
    assert count(message) == 9
    assert "9 mistakes" in message


def test_a_refused_choice_is_not_complained_about_twice() -> None:
    assert count(complaint("evaluate", "editor=serc")) == 1


def test_an_editor_says_where_it_is_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    from editors.ft.config import FtOptions

    monkeypatch.setattr(FtOptions, "scenarios", frozenset(("unimodal",)))
    message = complaint("evaluate", "editor=ft", "scenario=multimodal")
    assert "editor=ft is not defined for scenario=multimodal: unimodal" in message


def sweep(*words: str) -> list[str]:
    with hydra_ready():
        return preflight("train", list(words), multirun=True)[1]


def test_every_job_of_a_sweep_is_checked() -> None:
    assert sweep("seed=0,1", "editor.lr=1e-3,1e-4", "scenario=unimodal,transitive") == []
    problems = sweep("seed=0,x", "editor=mend,ft,serc")
    assert len(problems) == 2
    assert any("seed=x" in p for p in problems)
    assert any("serc" in p for p in problems)
    assert [p[:23] for p in sweep("editor=mend,ft", "seed=0,1")] == ["editor=ft needs no trai"]


def test_a_sweep_of_parallel_jobs_needs_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = sweep("seed=0,1", "trainer=ddp")
    assert "trainer.devices=auto with -m" in problem
    assert "pip install -e '.[slurm]'" in problem
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert sweep("seed=0,1", "trainer=ddp") == []


def test_a_missing_launcher_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = sweep("seed=0,1", "trainer=ddp", "hydra/launcher=submitit_slurm")
    assert problem.startswith("hydra/launcher=submitit_slurm: hydra-submitit-launcher is missing")
    assert "pip install -e '.[slurm]'" in problem
    (problem,) = sweep("seed=0,1", "hydra/launcher=joblib")
    assert problem.startswith("hydra/launcher=joblib: hydra-joblib-launcher is missing")
    assert "pip install -e '.[joblib]'" in problem


PROGRAM = """
import sys
from configs.launch import run_command
def main(config):
    print("ran", config.seed, config.output_dir, "torch" in sys.modules)
    if config.seed == 13:
        from errors import DataError
        raise DataError("the data are broken.")
run_command("train", main)
"""


def run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as its own process, in a folder of its own."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "TMKE_TEST": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.name != "program.py"}


def test_a_mistake_ends_the_process_with_status_2_and_no_trace(tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = run(tmp_path, "editor=serc", "seed=x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: train.py did not start")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert contents(tmp_path) == before


def test_the_shell_runs_main_before_torch_and_writes_nothing(tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = run(tmp_path, "seed=3", "output_dir=out")
    assert (done.returncode, done.stdout.strip()) == (0, "ran 3 out False"), done.stderr
    assert contents(tmp_path) == before


def test_an_error_of_the_user_inside_main_is_one_paragraph(tmp_path: Path) -> None:
    done = run(tmp_path, "experiment=demo", "seed=13")
    assert (done.returncode, done.stderr) == (2, "error: the data are broken.\n")


def test_help_and_cfg_run_nothing(tmp_path: Path) -> None:
    shown = run(tmp_path, "--cfg", "job", "experiment=demo")
    assert shown.returncode == 0
    assert "sign: descent" in shown.stdout
    assert "ran" not in shown.stdout.split()


@pytest.mark.parametrize("command", ["train", "evaluate", "pretrain", "edit"])
def test_help_has_examples_and_every_option_of_every_group(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check = _words_of_edit if command == "edit" else partial(_checked_arguments, command)
    with pytest.raises(SystemExit) as ended:
        check(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    head, _, listed = text.partition("Groups (group=option")
    assert head.count("  python ") == 5
    for group in command_groups(command):
        purpose = re.search(rf"^  {group}: (.+)$", listed, flags=re.MULTILINE)
        assert purpose is not None, group
        for option in group_options(group):
            assert re.search(rf"^   [ *]{option} +\S.*[.)]$", listed, re.MULTILINE), option
    assert ("editor=ft is the paper's Table 4" in head) is (command == "evaluate")
    assert "configs/ explains its keys" in listed


def test_every_example_of_the_help_is_a_configuration() -> None:
    prepared(load_config("train", ["output_dir=DIR"]))
    for folder in ("DIR/checkpoints", "OUTPUT_DIR/model"):
        Path(folder).mkdir(parents=True)
    for name in ("last", "best"):
        Path(f"DIR/checkpoints/{name}.ckpt").touch()
    for command in ("train", "evaluate", "pretrain"):
        for line in help_text(command).splitlines():
            match = re.match(r"  python (\w+)\.py ((?:\S+ )*\S+)(?:  |$)", line)
            if match is None or "..." in line or "--hydra-help" in line:
                continue
            script, words = match.group(1), match.group(2).split(" ")
            multirun = words[0] == "-m"
            with hydra_ready():
                words = quote_words(words) if not multirun else words[1:]
                problems = preflight(script, words, multirun=multirun)[1]
            assert problems == [], line


def test_settings_for_large_models_on_a_tiny_one_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    load_config("train")
    load_config("evaluate", ["editor=ft"])
    assert caplog.messages == [
        f"editor={name} has settings for models of 7B parameters, and model=llava_tiny is a tiny "
        "one: experiment=demo has settings for it"
        for name in ("mend", "ft")
    ]
    caplog.clear()
    load_config("train", ["experiment=demo"])
    load_config("train", ["editor.rank=8"])
    load_config("train", ["model=llava"])
    load_config("evaluate", ["editor=none"])
    assert not caplog.messages
