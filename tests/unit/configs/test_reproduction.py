"""Tables 1-3: every row composes, has its published settings, and is made by docs/reproduce.md."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from configs import schema
from configs.check import load_config, preflight
from configs.composing import hydra_ready
from editors.ft.config import FtOptions
from editors.ike.config import IkeOptions
from editors.mend.config import MendOptions
from editors.rome.config import RomeOptions
from editors.serac.config import SeracOptions
from errors import ConfigError
from reporting.labels import PAPER_MODELS, PAPER_SCENARIOS
from reporting.paper import deviations, paper_row, paper_tables
from results.folder import RunResult

ROOT = Path(__file__).parents[3]
DOC = ROOT / "docs" / "reproduce.md"
LEARNED = ("mend", "serac")
DATA = ("data.root=data", "data.train_files=[train.json]")


class Row(NamedTuple):
    """A row of the paper, in the words of a command line."""

    editor: str
    model: str
    scenario: str

    @property
    def words(self) -> list[str]:
        return ["experiment=tmke", *(f"{key}={value}" for key, value in self._asdict().items())]

    @property
    def figures(self) -> list[float]:
        name = "FT" if self.editor == "ft_as_run" else self.editor.upper()
        found = paper_tables()[self.scenario]["rows"][PAPER_MODELS[self.model]][name]
        return list(found)


MODELS = {label: name for name, label in PAPER_MODELS.items()}
ROWS = [
    Row("ft_as_run" if editor == "FT" else editor.lower(), MODELS[model], scenario)
    for scenario in PAPER_SCENARIOS
    for model, editors in paper_tables()[scenario]["rows"].items()
    for editor in editors
]
LEARNED_ROWS = [row for row in ROWS if row.editor in LEARNED]
EDITORS = sorted({row.editor for row in ROWS})


def _always(row: Row) -> bool:
    """Composing is slow: a third of the rows, which have every two of their words together."""
    place = EDITORS.index(row.editor) + sorted(MODELS.values()).index(row.model)
    return (place + PAPER_SCENARIOS.index(row.scenario)) % len(PAPER_SCENARIOS) == 0


def _marked(rows: list[Row]) -> list[Any]:
    return [
        pytest.param(row, id="-".join(row), marks=() if _always(row) else pytest.mark.odd)
        for row in rows
    ]


@cache  # composing is slow, and every test looks at the same rows
def evaluation(row: Row) -> schema.EvaluateConfig:
    ckpt = ["ckpt=editor.ckpt"] if row.editor in LEARNED else []
    config = load_config("evaluate", [*row.words, *DATA, *ckpt])
    assert isinstance(config, schema.EvaluateConfig)
    return config


@cache
def training(row: Row) -> schema.TrainConfig:
    config = load_config("train", [*row.words, *DATA])
    assert isinstance(config, schema.TrainConfig)
    return config


@pytest.mark.parametrize("row", _marked(ROWS))
def test_a_run_of_a_row_may_be_held_against_it(row: Row) -> None:
    """What `summary.json` would say of the run is what `report.py --check` accepts."""
    config = evaluation(row)
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
    published = paper_row(run)
    assert published is not None
    assert list(published.values()) == row.figures


@pytest.mark.parametrize("row", _marked(LEARNED_ROWS))
def test_a_row_is_trained_and_judged_with_the_same_options(row: Row) -> None:
    trained, judged = training(row), evaluation(row)
    assert trained.editor == judged.editor
    assert (trained.data.prompt, trained.scenario) == (judged.data.prompt, judged.scenario)
    assert (trained.trainer.devices, trained.trainer.val_every) == (1, 1000)
    assert trained.metrics.positions == judged.metrics.positions == "all"


def test_models_have_their_published_values() -> None:
    for row in filter(_always, ROWS):
        is_blip2, options = row.model == "blip2_opt", evaluation(row).editor
        if isinstance(options, FtOptions):
            lr = 2e-4 if is_blip2 else 1e-4
            assert (options.steps, options.optimizer, options.lr) == (15, "adamw", lr)
        elif isinstance(options, RomeOptions):
            expected = (5, 20, 0.5) if is_blip2 else (5, 25, 1e-3)
            assert (options.layer, options.steps, options.weight_decay) == expected
            assert options.second_moment is None
        elif isinstance(options, SeracOptions):
            path = "facebook/opt-125m" if is_blip2 else "JackFram/llama-160m"
            assert options.counterfactual.path == path
            assert (options.scope.encoder, options.scope.image) == ("distilbert-base-cased", False)
        elif isinstance(options, IkeOptions):
            assert options.k == 32
            assert options.picture == ("question" if row.scenario == "unimodal" else "front")
        elif isinstance(options, MendOptions):
            rates = (options.lr, options.edit_lr, options.lr_of_edit_lr)
            assert rates == (1e-6, 1e-4, 1e-6)  # the last as it was in effect, not as it is written
        else:
            raise AssertionError(row.editor)


def test_tables_1_and_2_share_their_trained_editors() -> None:
    for row in LEARNED_ROWS:
        if row.scenario == "unimodal":
            assert training(row).editor == training(row._replace(scenario="transitive")).editor


def test_rows_are_one_sweep() -> None:
    words = ["editor=ft_as_run,rome", "model=blip2_opt,llava", "scenario=unimodal"]
    with hydra_ready():
        assert preflight("evaluate", ["experiment=tmke", *words, *DATA], multirun=True)[1] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tmke_table1_ft_blip2_opt", Row("ft_as_run", "blip2_opt", "unimodal")),
        ("tmke_table2_mend_llava", Row("mend", "llava", "transitive")),
        ("tmke_table3_serac_minigpt4", Row("serac", "minigpt4", "multimodal")),
    ],
)
def test_an_experiment_of_one_row_answers_with_its_new_form(old: str, new: Row) -> None:
    command = "train" if new.editor in LEARNED else "evaluate"
    with pytest.raises(ConfigError) as caught:
        load_config(command, [f"experiment={old}", *DATA])
    message = str(caught.value)
    assert f"experiment={old}: this experiment is now typed as {' '.join(new.words)}" in message
    assert "one mistake" in message


def test_the_document_has_the_papers_numbers_of_rows_figures_and_points() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert len(ROWS) == 42
    assert f"{len(ROWS)} rows and {sum(len(row.figures) for row in ROWS)} numbers" in text
    assert f"**{paper_tables()['tolerance']:g} points**" in text


def documented_commands(folder: Path) -> list[list[str]]:
    """What the shell makes of the document's commands, with a python that only writes them down."""
    blocks = re.findall(r"```bash\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    bin_folder, typed = folder / "bin", folder / "typed"
    bin_folder.mkdir()
    stub = bin_folder / "python"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(typed)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    stub.chmod(0o755)
    subprocess.run(
        ["bash", "-eu", "-c", "\n".join(blocks)],
        cwd=folder,
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        check=True,
    )
    return [json.loads(line) for line in typed.read_text().splitlines()]


def jobs(command: list[str]) -> Iterator[dict[str, str]]:
    """The words of a command's jobs: one, or as many as its sweep has."""
    words = [word.split("=", 1) for word in command[1:] if word != "-m"]
    values = [value.split(",") if "[" not in value else [value] for _, value in words]
    for number, choice in enumerate(itertools.product(*values)):
        job = dict(zip([key for key, _ in words], choice, strict=True))
        if "-m" in command:
            job["output_dir"] += f"/{number}"
        yield job


def test_the_documented_commands_make_every_row_once(tmp_path: Path) -> None:
    commands = documented_commands(tmp_path)
    trained: dict[str, Row] = {}
    made: list[Row] = []
    folders: list[str] = []
    for command in commands:
        script = command[0]
        for job in jobs(command) if script != "report.py" else ():
            assert job["experiment"] == "tmke"
            row = Row(job.get("editor", ""), job.get("model", ""), job["scenario"])
            if script == "train.py":
                trained[f"{job['output_dir']}/checkpoints/best.ckpt"] = row
                continue
            if "ckpt" in job:
                row = trained[job["ckpt"]]
                assert (row.scenario == "multimodal") is (job["scenario"] == "multimodal")
                row = row._replace(scenario=job["scenario"])
            if "output_dir" in job:  # the first command of the page is an example
                made.append(row)
                folders.append(job["output_dir"])
    assert sorted(made) == sorted(ROWS)
    assert len(trained) == 12
    assert len(set(folders)) == len(ROWS)
    check = next(words for words in commands if "--check" in words)
    assert all(fnmatch(folder, check[2]) for folder in folders)
