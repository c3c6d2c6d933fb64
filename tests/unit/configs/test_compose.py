"""Configurations that are right: every option, experiment and default composes and passes."""

from itertools import pairwise

import pytest
import yaml

from configs import schema
from configs.check import load_config
from configs.composing import CONFIG_DIR
from configs.overrides import group_options
from datamodules.source import source_options
from datamodules.sources.tmke import TmkeData
from editors.ft.config import FtOptions
from editors.mend.config import MendOptions
from editors.registry import editor_names, registration

SMOLLM = ["experiment=smollm", "model.path=data"]  # the model is built by the user
TRAINED = {name for name in editor_names() if registration(name).options.trained}


def train(*words: str) -> schema.TrainConfig:
    config = load_config("train", words)
    assert isinstance(config, schema.TrainConfig)
    return config


def evaluate(*words: str) -> schema.EvaluateConfig:
    config = load_config("evaluate", words)
    assert isinstance(config, schema.EvaluateConfig)
    return config


def needed(data: str) -> list[str]:
    words = [] if data == "world" else ["data.root=data"]
    words += ["data.vlkeb_root=data"] if data == "cckeb" else []
    options = source_options(data)
    return words if options.has_text and data != "mmke" else [*words, "scenario=multimodal"]


def test_the_experiments_are_these() -> None:
    """Below, demo and smollm are composed with every editor; tmke's rows: test_reproduction.py."""
    assert group_options("experiment") == ["demo", "smollm", "tmke"]


@pytest.mark.parametrize(
    ("group", "option"),
    [
        (group, option)
        for group in ("model", "scenario", "trainer", "cache", "logger", "data")
        for option in group_options(group)
    ],
)
def test_every_option_of_a_group_passes(group: str, option: str) -> None:
    words = needed(option) if group == "data" else []
    absent = option == "auto" or option.startswith("smollm")  # brought or built by the user
    words += ["model.path=data"] if absent else []
    config = evaluate("editor=none", f"{group}={option}", *words)
    if group in ("model", "scenario", "data"):
        assert getattr(config, group).name == option


@pytest.mark.parametrize("option", group_options("editor"))
@pytest.mark.parametrize("experiment", [[], ["experiment=demo"], SMOLLM])
def test_every_editor_passes_with_and_without_an_experiment(
    option: str, experiment: list[str]
) -> None:
    name = yaml.safe_load((CONFIG_DIR / "editor" / f"{option}.yaml").read_text())["name"]
    ckpt = ["ckpt=editor.ckpt"] if name in TRAINED else []
    assert evaluate(f"editor={option}", *experiment, *ckpt).editor.name == name
    if name in TRAINED:
        assert train(f"editor={option}", *experiment).editor.name == name


def test_every_editor_folder_has_an_option_of_its_name() -> None:
    assert set(editor_names()) <= set(group_options("editor"))


def test_mend_without_an_experiment_has_the_tabulated_settings() -> None:
    mend = train("editor=mend").editor
    assert isinstance(mend, MendOptions)
    table = (mend.max_iterations, mend.lr, mend.edit_lr, mend.lr_of_edit_lr, mend.rank, mend.layers)
    assert table == (30_000, 1e-6, 1e-4, 1e-4, 1920, 3)
    assert (mend.batch_size, mend.accumulate, mend.grad_clip, mend.sign) == (
        1,
        2,
        100.0,
        "published",
    )
    assert mend.weights.model_dump() == {
        "reliability": 0.0, "generality": 0.1, "portability": 0.1, "image": 0.1, "transfer": 0.1,
        "named": 0.0, "locality": 1.0, "specificity": 1.0,
    }  # fmt: skip
    assert mend.optimiser_steps() == 15_000
    assert mend.optimiser_steps(processes=4) == 3_750


def test_ft_has_the_tabulated_and_the_as_run_settings() -> None:
    tabulated, as_run = evaluate("editor=ft").editor, evaluate("editor=ft_as_run").editor
    assert isinstance(tabulated, FtOptions)
    assert isinstance(as_run, FtOptions)
    assert (tabulated.steps, tabulated.optimizer, tabulated.lr) == (20_000, "adam", 1e-6)
    assert (as_run.steps, as_run.optimizer, as_run.lr) == (15, "adamw", 1e-4)
    assert (as_run.stop_loss, as_run.stop_when_argmax) == (None, False)


def test_demo_changes_what_tiny_models_need_and_no_more() -> None:
    demo, table = train("experiment=demo").editor, train().editor
    assert isinstance(demo, MendOptions)
    assert isinstance(table, MendOptions)
    assert (demo.sign, demo.edit_lr, demo.lr, demo.rank) == ("descent", 1e-3, 1e-3, 128)
    assert demo.weights.generality == demo.weights.locality == 1.0
    assert 80 <= demo.optimiser_steps() <= 150
    assert (demo.layers, demo.n_hidden, demo.init) == (table.layers, table.n_hidden, table.init)
    assert evaluate("experiment=demo", "editor=ft").model.name == "llava_tiny"


def test_smollm_changes_what_a_small_real_model_needs() -> None:
    table, ft = evaluate("editor=rome", *SMOLLM), evaluate("editor=ft", *SMOLLM).editor
    assert (table.model.name, table.data.name, table.data.filter_known) == (
        "smollm_llava", "countries", "text",
    )  # fmt: skip
    mend = train("editor=mend", *SMOLLM).editor
    assert isinstance(mend, MendOptions)
    assert isinstance(ft, FtOptions)
    assert (ft.lr, ft.steps, ft.layers) == (3e-4, 50, 1)
    assert 192 <= mend.rank <= 512
    assert 70 <= mend.optimiser_steps() <= 100


def test_the_command_line_wins_over_an_experiment() -> None:
    config = train("experiment=demo", "editor.lr=0.5", "data=folder", "data.root=data")
    assert isinstance(config.editor, MendOptions)
    assert (config.editor.lr, config.data.name) == (0.5, "folder")


def test_gradients_stay_possible_while_validating() -> None:
    for option in group_options("trainer"):
        assert train(f"trainer={option}").trainer.arguments()["inference_mode"] is False


def test_trainer_arguments_are_lightnings_own() -> None:
    import inspect

    from lightning import Trainer

    assert set(train().trainer.arguments()) <= set(inspect.signature(Trainer).parameters)


def test_the_seed_of_a_run_leaves_the_split_alone() -> None:
    one, two = train("seed=1"), train("seed=2")
    assert (one.seed, two.seed) == (1, 2)
    assert one.data == two.data


def test_a_configuration_survives_yaml() -> None:
    config = train("experiment=demo")
    assert yaml.safe_load(yaml.safe_dump(config.plain())) == config.plain()


def test_a_checked_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        train().seed = 3  # type: ignore[misc]


def test_pretraining_takes_the_seed_of_the_run() -> None:
    config = load_config("pretrain", ["seed=5"])
    assert isinstance(config, schema.PretrainConfig)
    assert config.pretrain.seed == 5


def test_numbers_are_fine_where_text_is_asked_for() -> None:
    config = train("output_dir=2026", "model.revision=123")
    assert (config.output_dir, config.model.revision) == ("2026", "123")


def test_one_file_is_a_list_of_one() -> None:
    config = evaluate("editor=none", "data=tmke", "data.root=data", "data.files=a.json")
    assert isinstance(config.data, TmkeData)
    assert config.data.files == ["a.json"]


# Files that only set keys which other files explain, and keys whose name says all.
SETS_ONLY = (
    "experiment", "trainer/ddp", "logger/csv", "logger/none", "cache/on", "cache/off", "base.yaml",
    "pretrain.yaml",
)  # fmt: skip
SELF_EXPLAINING = {"name", "lr", "steps", "optimizer", "width", "num_nodes", "csv"}


def test_every_key_is_explained() -> None:
    """The YAML files are the manual: a key has a comment on its line, or stands below one."""
    bare = []
    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        name = str(path.relative_to(CONFIG_DIR))
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#"), f"{name} has no head comment"
        if name.startswith(SETS_ONLY) or "/experiment" in name:
            continue
        for previous, line in pairwise(lines):
            key = line.strip().partition(":")[0]
            is_section = line.rstrip().endswith(":")
            explained = "#" in line or "#" in previous or key in SELF_EXPLAINING or is_section
            if key.isidentifier() and not explained:
                bare.append(f"{name}: {line.strip()}")
    assert not bare
