"""What may be typed anew for a training that goes on, and what cannot be changed any more."""

from pathlib import Path

import pytest
import yaml

from configs import schema
from configs.check import load_config
from configs.continuing import changes
from configs.rundir import check_output_dir, output_folder, resumes
from configs.stored import merge_stored, trained_source, training_settings, with_current_keys
from errors import ConfigError


def train(*words: str) -> schema.TrainConfig:
    config = load_config("train", ["experiment=demo", *words])
    assert isinstance(config, schema.TrainConfig)
    return config


BEFORE = train().plain()


@pytest.mark.parametrize(
    "word",
    ["editor.max_iterations=7", "trainer.max_steps=7", "trainer.patience=7", "trainer.val_every=7",
     "trainer.save_every=7", "editor.lr=0.5", "editor.lr_of_edit_lr=0.5", "editor.grad_clip=7.0"],
)  # fmt: skip
def test_lengths_and_rates_are_applied(word: str) -> None:
    applied, refused = changes(BEFORE, train(word).plain())
    assert not refused
    assert len(applied) == 1
    assert applied[0].startswith(f"{word} is applied from here on; it was")


@pytest.mark.parametrize(
    "word",
    ["seed=7", "data.limit=7", "data.seed=7", "editor.accumulate=7", "editor.rank=7",
     "editor.edit_lr=0.5", "editor.lr_schedule=constant", "editor.weights.locality=7",
     "scenario=transitive", "model=blip2_opt_tiny", "editor=serac", "trainer.precision=bf16-mixed",
     "metrics.positions=all", "editor.sites={mlp_in:[1]}",
     "trainer.limit_val_batches=7"],
)  # fmt: skip
def test_what_a_training_rests_on_is_refused(word: str) -> None:
    applied, refused = changes(BEFORE, train(word).plain())
    assert any(clause.startswith(word.partition("=")[0]) for clause in refused), (applied, refused)


@pytest.mark.parametrize(
    "word",
    ["threads=1", "logger=none", "data.num_workers=7", "evaluate.batch_size=7", "output_dir=x",
     "trainer.enable_progress_bar=false", "trainer=ddp_cpu", "data.root=elsewhere",
     "model.device_map=auto"],
)  # fmt: skip
def test_where_and_how_fast_it_runs_is_free(word: str) -> None:
    assert changes(BEFORE, train(word).plain()) == ([], [])


def test_a_base_model_may_be_spread_in_another_way() -> None:
    before, after = (
        train("model.device_map=auto", f"model.max_memory={{cpu:{size}}}").plain()
        for size in ("5GB", "6GB")
    )
    assert changes(before, after) == ([], [])


def test_an_earlier_training_compared_at_the_answers_whatever_was_typed() -> None:
    every = {"positions": "all", "locality_i": "top1", "generation": False, "max_new_tokens": 16}
    older = with_current_keys({**BEFORE, "metrics": every})
    assert changes(older, train().plain()) == ([], [])
    refused = changes(older, train("metrics.positions=all").plain())[1]
    assert refused == ["metrics.positions was 'answer' and is 'all'"]
    assert training_settings(older)["metrics"] == {"positions": "answer"}
    evaluation = {**older, "metrics": every, "protocol": {"name": "single"}}
    assert with_current_keys(evaluation)["metrics"] == every | {"cluster": "record"}


def test_an_evaluation_of_before_is_the_same_run_where_nothing_is_asked_by_a_name(
    tmp_path: Path,
) -> None:
    """A finished one is then shown again, as `resume=true` has it, and not refused."""
    folder = tmp_path / "run"
    words = [
        "experiment=demo",
        "editor=none",
        "scenario=transitive",
        "resume=true",
        f"output_dir={folder}",
    ]
    config = load_config("evaluate", words)
    with output_folder(config):
        pass
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert stored["evaluate"].pop("name_first") is False
    assert (stored["protocol"].pop("turn"), stored["protocol"].pop("contradictions")) == (None,) * 2
    older = f"# Resolved settings of evaluate.py\n{yaml.safe_dump(stored)}"
    (folder / "config.yaml").write_text(older)
    check_output_dir(config)
    with pytest.raises(ConfigError, match=r"evaluate\.name_first was False and is True"):
        check_output_dir(load_config("evaluate", [*words, "evaluate.name_first=true"]))


def test_edits_in_sequence_were_made_one_by_one() -> None:
    older = {**BEFORE, "protocol": {"name": "sequential", "n": [1, 10]}}
    words = ("editor=none", "protocol=sequential", "protocol.n=1,10")
    assert (
        with_current_keys(older)["protocol"] == load_config("evaluate", words).plain()["protocol"]
    )


@pytest.mark.parametrize("word", ["data.on_error=skip", "data.num_workers=2", "data.root=x"])
def test_where_its_data_were_and_how_they_were_read_tells_no_training_from_another(
    word: str,
) -> None:
    """A report takes trainings that differ in the seed alone together, older ones among them."""
    assert training_settings(train(word).plain()) == training_settings(BEFORE)
    older = {key: value for key, value in BEFORE["data"].items() if key != "on_error"}
    assert training_settings({**BEFORE, "data": older}) == training_settings(BEFORE)


@pytest.mark.parametrize(("before", "now"), [(True, "pictures"), (False, "none")])
def test_an_earlier_filter_of_known_facts_has_a_name(before: bool, now: str) -> None:
    """It was a boolean, in stored settings and on command lines, and no model had marks."""
    words = ("editor=none", f"data.filter_known={before}", "experiment=demo")
    assert load_config("evaluate", words).plain()["data"]["filter_known"] == now
    older = {key: value for key, value in BEFORE["data"].items() if key != "taught"}
    stored = with_current_keys({**BEFORE, "data": older | {"filter_known": before}})
    assert stored["data"] == BEFORE["data"] | {"filter_known": now}
    assert changes(stored, train(f"data.filter_known={now}").plain())[1] == []
    assert training_settings(stored)["data"]["filter_known"] == now
    evaluation = load_config("evaluate", words).plain()
    typed = evaluation | {"data": evaluation["data"] | {"filter_known": before}}
    merged, notes = merge_stored("evaluate", typed, stored, ["data.filter_known"])
    assert merged["data"]["filter_known"] == now
    assert not any("filter_known" in note for note in notes)


def test_matrices_that_are_named_role_by_role_are_one_setting() -> None:
    """Those of a checkpoint, or those that were typed in their place, and never some of both."""
    trained, typed = (
        train(f"editor.sites={value}").plain()
        for value in ("{mlp_in:[1],mlp_out:[1]}", "{mlp_in:[1]}")
    )
    refused = changes(trained, typed)[1]
    assert refused == [
        "editor.sites was {'mlp_in': [1], 'mlp_out': [1]} and is {'mlp_in': [1]}",
    ]
    evaluation = load_config("evaluate", ["editor=none", "experiment=demo"]).plain()
    evaluation["editor"] = typed["editor"]
    merged, notes = merge_stored("evaluate", evaluation, trained, ["editor.sites"])
    assert merged["editor"]["sites"] == {"mlp_in": [1]}
    assert [note.partition(" is ")[0] for note in notes] == ["editor.sites={'mlp_in': [1]}"]
    assert merge_stored("evaluate", evaluation, trained, [])[0]["editor"] == trained["editor"]


def test_a_key_of_another_version_says_nothing() -> None:
    older = {**BEFORE, "trainer": {"gone": 1}}
    assert changes(older, BEFORE) == ([], [])


def test_resume_asks_for_the_same_run() -> None:
    with output_folder(train("output_dir=run")) as folder:
        pass
    check_output_dir(train("output_dir=run", "resume=true", "editor.lr=0.5"))
    for word, says in (("seed=7", "seed was 0 and is 7"), ("editor=serac", "editor was 'mend'")):
        with pytest.raises(ConfigError, match=f"holds another run: .*{says}"):
            check_output_dir(train("output_dir=run", "resume=true", word))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match="continue its training with resume=true"):
        check_output_dir(train("output_dir=run"))


def test_a_job_that_is_started_again_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    config = train("output_dir=run")
    assert not resumes(config)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resumes(config)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert resumes(config)


def test_resume_and_overwrite_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        train("output_dir=run", "resume=true", "overwrite=true")


@pytest.mark.parametrize(
    ("stored", "source"),
    [
        ({"data": {"name": "zsre"}}, "zsre"),
        ({"data": {"name": "cckeb", "train": {"name": "zsre"}}}, "zsre"),
        ({"data": {"name": "cckeb", "train": None}}, "cckeb"),
        ({"data": {}}, None),
        ({}, None),
    ],
)
def test_a_training_took_its_records_from_what_it_was_told(
    stored: dict[str, object], source: str | None
) -> None:
    assert trained_source(stored) == source
    assert trained_source(training_settings(stored)) == source
