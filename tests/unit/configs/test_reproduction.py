"""Tables 1-3: an experiment file per row, its expected values, and docs/reproduce.md about them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from configs import schema
from configs.check import load_config
from configs.overrides import CONFIG_DIR
from editors.ft.config import FtOptions
from editors.ike.config import IkeOptions
from editors.rome.config import RomeOptions
from editors.serac.config import SeracOptions
from reporting.labels import PAPER_MODELS, SCENARIOS
from reporting.paper import deviations, paper_columns, paper_row, paper_tables
from results.folder import RunResult
from tests.checkpoints import bare_checkpoint

ROOT = Path(__file__).parents[3]
DOC = ROOT / "docs" / "reproduce.md"
LEARNED = ("mend", "serac")
MODELS = {label: name for name, label in PAPER_MODELS.items()}
ROWS = {
    f"tmke_table{number}_{editor.lower()}_{MODELS[model]}": (scenario, model, editor)
    for number, scenario in enumerate(SCENARIOS, start=1)
    for model, editors in paper_tables()[scenario]["rows"].items()
    for editor in editors
}
DATA = ("data.root=data", "data.train_files=[train.json]")


@pytest.fixture(autouse=True, scope="module")
def _a_place_to_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = tmp_path_factory.mktemp("root")
    for folder in ("checkpoints/minigpt4-7b", "data"):
        (root / folder).mkdir(parents=True)
    bare_checkpoint(root / "editor.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield


def experiment_file(name: str) -> Path:
    return CONFIG_DIR / "experiment" / f"{name}.yaml"


def is_learned(name: str) -> bool:
    return name.split("_")[2] in LEARNED


@cache  # composing is slow, and every test looks at the same files
def evaluation(name: str) -> schema.EvaluateConfig:
    editor = name.split("_")[2]
    more = [f"editor={editor}", "ckpt=editor.ckpt"] if is_learned(name) else []
    config = load_config("evaluate", [f"experiment={name}", *DATA, *more])
    assert isinstance(config, schema.EvaluateConfig)
    return config


def comment(name: str) -> str:
    """The head of an experiment file as running text."""
    lines = experiment_file(name).read_text(encoding="utf-8").splitlines()
    head = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    return " ".join(head)


def test_every_row_of_the_paper_has_a_file_and_no_other() -> None:
    assert len(ROWS) == 42
    found = {path.stem for path in (CONFIG_DIR / "experiment").glob("tmke_table*.yaml")}
    assert found == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_tells_its_commands_and_what_to_expect(name: str) -> None:
    scenario, model, editor = ROWS[name]
    head = comment(name)
    number = SCENARIOS.index(scenario) + 1
    assert f"Table {number} ({scenario}), row {editor}, {model}, made as published" in head
    assert f"python evaluate.py experiment={name} data.root=DIR" in head
    assert (f"python train.py experiment={name} data.root=DIR" in head) is is_learned(name)
    figures = paper_tables()[scenario]["rows"][model][editor]
    values = zip(paper_columns(scenario), figures, strict=True)
    expected = ", ".join(f"{metric} {figure:.1f}" for metric, figure in values)
    sizes = paper_tables()["records"]
    assert head.endswith(
        f"Expected, percent, to within {paper_tables()['tolerance']:g} points "
        f"({sizes['the test set']:,} records; {sizes['its public part']} of them are public): "
        f"{expected}"
    )


@pytest.mark.parametrize("name", ROWS)
def test_a_run_of_the_file_may_be_held_against_its_row(name: str) -> None:
    """What `summary.json` would say of the run is what `report.py --check` accepts."""
    scenario, model, editor = ROWS[name]
    config = evaluation(name)
    run = RunResult(
        folder=Path(), editor=config.editor.label, model=config.model.name,
        scenario=config.scenario.name, data=config.data.name, n_edits=1324, seed=config.seed,
        protocol=config.protocol.model_dump(), versions={}, metrics={}, seconds_per_edit=None,
        peak_memory_bytes=None,
        settings={
            "editor": config.editor.model_dump(), "prompt": config.data.prompt,
            "positions": config.metrics.positions, "locality_i": config.metrics.locality_i,
            "quantise": config.model.quantise,
        },
    )  # fmt: skip
    assert deviations(run) == []
    row = paper_row(run)
    assert row is not None
    assert list(row.values()) == paper_tables()[scenario]["rows"][model][editor]


@pytest.mark.parametrize("name", [name for name in ROWS if is_learned(name)])
def test_a_row_is_trained_and_judged_with_the_same_options(name: str) -> None:
    trained = load_config("train", [f"experiment={name}", *DATA])
    assert isinstance(trained, schema.TrainConfig)
    judged = evaluation(name)
    assert trained.editor == judged.editor
    assert (trained.data.prompt, trained.scenario) == (judged.data.prompt, judged.scenario)
    assert trained.trainer.devices == 1


def test_models_have_their_published_values() -> None:
    for name, (_, model, editor) in ROWS.items():
        is_blip2, options = model == "BLIP2-OPT", evaluation(name).editor
        if editor == "FT":
            assert isinstance(options, FtOptions)
            lr = 2e-4 if is_blip2 else 1e-4
            assert (options.steps, options.optimizer, options.lr) == (15, "adamw", lr)
        elif editor == "ROME":
            assert isinstance(options, RomeOptions)
            expected = (5, 20, 0.5) if is_blip2 else (5, 25, 1e-3)
            assert (options.layer, options.steps, options.weight_decay) == expected
            assert options.second_moment is None
        elif editor == "SERAC":
            assert isinstance(options, SeracOptions)
            path = "facebook/opt-125m" if is_blip2 else "JackFram/llama-160m"
            assert options.counterfactual.path == path
            assert (options.scope.encoder, options.scope.image) == ("distilbert-base-cased", False)
        elif editor == "IKE":
            assert isinstance(options, IkeOptions)
            assert options.k == 32
            assert options.picture == ("question" if "table1" in name else "front")


def test_tables_1_and_2_share_their_trained_editors() -> None:
    for name in ROWS:
        if "table1" in name and is_learned(name):
            assert evaluation(name).editor == evaluation(name.replace("table1", "table2")).editor


def doc_tables() -> str:
    """The tables of docs/reproduce.md as the experiment files and the paper's numbers have them."""
    parts = []
    for number, scenario in enumerate(SCENARIOS, start=1):
        columns = paper_columns(scenario)
        lines = [
            f"### Table {number}, {scenario}",
            "",
            f"| Model | Editor | NAME | commands | {' | '.join(columns)} |",
            f"|---|---|---|---|{'---:|' * len(columns)}",
        ]
        for name, (own, model, editor) in ROWS.items():
            if own != scenario:
                continue
            commands = "evaluate"
            if is_learned(name):
                own_training = number != 2
                commands = "train, evaluate" if own_training else "evaluate (table 1's checkpoint)"
            figures = paper_tables()[scenario]["rows"][model][editor]
            numbers = " | ".join(f"{figure:.1f}" for figure in figures)
            lines.append(f"| {model} | {editor} | `{name}` | {commands} | {numbers} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def test_the_document_has_the_rows_and_numbers_of_the_files() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert doc_tables() in text, f"docs/reproduce.md should hold\n\n{doc_tables()}"
    assert f"within **{paper_tables()['tolerance']:g} points**" in text
    count = sum(
        len(figures)
        for scenario in SCENARIOS
        for editors in paper_tables()[scenario]["rows"].values()
        for figures in editors.values()
    )
    assert f"{len(ROWS)} rows and {count} numbers" in text


def documented_commands(folder: Path) -> list[list[str]]:
    """What the shell makes of the document's commands, with a python that only writes them down."""
    blocks = re.findall(r"```bash\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    bin_folder, told = folder / "bin", folder / "told"
    bin_folder.mkdir()
    stub = bin_folder / "python"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(told)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    stub.chmod(0o755)
    (folder / "configs").symlink_to(CONFIG_DIR)
    for name in ROWS:
        (folder / "runs" / "tmke" / name).mkdir(parents=True)
    subprocess.run(
        ["bash", "-eu", "-c", "\n".join(blocks)],
        cwd=folder,
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        check=True,
    )
    return [json.loads(line) for line in told.read_text().splitlines()]


def composed(words: list[str]) -> Any:
    """A documented command as a configuration; a checkpoint stands for the one it would read."""
    command, rest = words[0].removesuffix(".py"), words[1:]
    rest = ["data.root=data" if word.startswith("data.root=") else word for word in rest]
    name = next(word.partition("=")[2] for word in rest if word.startswith("experiment="))
    if command == "evaluate" and is_learned(name):
        ckpt = next(word for word in rest if word.startswith("ckpt="))
        made_by = name.replace("table2", "table1")
        assert ckpt == f"ckpt=runs/tmke/train/{made_by}/checkpoints/best.ckpt"
        rest = [word for word in rest if word != ckpt]
        rest += ["ckpt=editor.ckpt", f"editor={name.split('_')[2]}"]
    return load_config(command, rest)


def test_the_documented_commands_make_every_row(tmp_path: Path) -> None:
    commands = documented_commands(tmp_path)
    by_script: dict[str, list[list[str]]] = {}
    for words in commands:
        by_script.setdefault(words[0], []).append(words)
    folders = {
        script: {
            word.partition("=")[2] for words in listed for word in words if "output_dir=" in word
        }
        for script, listed in by_script.items()
    }
    trained = [name for name in ROWS if is_learned(name) and "table2" not in name]
    assert folders["train.py"] == {f"runs/tmke/train/{name}" for name in trained}
    assert folders["evaluate.py"] == {f"runs/tmke/{name}" for name in ROWS}
    check = next(words for words in by_script["report.py"] if "--check" in words)
    assert set(check[2:]) == folders["evaluate.py"]
    # The others differ in the experiment alone, and those are composed above.
    one_model = {tuple(words) for words in commands if words[1].endswith("_llava")}
    assert len(one_model) == 4 + 14
    for typed in one_model:
        trainer = composed(list(typed)).trainer
        assert (trainer.strategy, trainer.devices) == (
            ("auto", 1) if typed[0] == "train.py" else ("ddp", "auto")
        )
