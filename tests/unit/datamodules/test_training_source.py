"""data=A data.train=B: trained on one source, judged on another, no subject in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.check import load_config
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.scenarios import SCENARIOS, training_scenario
from errors import ConfigError, DataError
from tests.benchmark_files import CCKEB, CCKEB_PICTURES, write_json
from tests.unit.datamodules.test_datamodule import pixels, prompt_encoder
from tests.unit.datamodules.test_text_benchmarks import COUNTERFACT, ZSRE

SUBJECTS = [f"Firm {number}" for number in range(10)]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The data of a training on zsRE for a test on CCKEB."""
    write_json(tmp_path / "vlkeb" / "eval.json", CCKEB_PICTURES)
    write_json(tmp_path / "cckeb" / "eval.json", CCKEB)
    firms = [{**ZSRE, "subject": s, "src": f"What is made by {s}?"} for s in SUBJECTS]
    write_json(tmp_path / "zsre" / "train.json", firms)
    write_json(tmp_path / "zsre" / "broken.json", ["no record, and of the test files, so unread"])
    return [
        "data=cckeb", f"data.root={tmp_path}/cckeb", f"data.vlkeb_root={tmp_path}/vlkeb",
        "data.train=zsre", f"data.train.root={tmp_path}/zsre",
        "data.train.train_files=[train.json]",
    ]  # fmt: skip


def train(*words: str) -> Any:
    return load_config("train", ["experiment=demo", "editor=mend", *words])


def test_training_records_are_those_of_the_other_source(words: list[str]) -> None:
    cfg = train(*words, "scenario=transitive")
    source = cfg.data.open()
    assert [r.subject for r in source.records("test")] == ["Port Vell", "Ida Stone"]
    learned = [r.subject for split in ("train", "val") for r in source.records(split)]
    assert sorted(learned) == SUBJECTS
    assert len(source.records("val")) == 1
    assert source.named("train") == "the train split of data=zsre"
    assert source.named("test") == "the test split of data=cckeb"
    assert [r.reason.split(" of ")[0] for r in source.left_out["test"]] == [
        "the files"
    ]  # of the entity that is not joined
    assert not cfg.data.open(training=False).training_records
    assert cfg.plain()["data"]["train"]["name"] == "zsre"


def test_each_split_is_asked_in_the_form_of_its_source(words: list[str], tmp_path: Path) -> None:
    write_json(
        tmp_path / "cloze" / "a.json",
        [{**COUNTERFACT, "case_id": n, "subject": s} for n, s in enumerate(SUBJECTS)],
    )
    words = [*words[:3], "data.train=counterfact", f"data.train.root={tmp_path}/cloze"]
    cfg = train(*words, "data.train.train_files=[a.json]", "scenario=transitive")
    source = cfg.data.open()
    learned = training_scenario("transitive", "text", {"generality"})
    splits = {"train": learned, "test": SCENARIOS["unimodal"]}
    data = EditDataModule(source, splits, batch_size=9)
    data.connect(prompt_encoder(), ImageStore(pixels))
    data.setup("fit")
    (batch,), (tested,) = list(data.train_dataloader()), list(data.test_dataloader())
    assert {text.plain for text in batch.rows.texts} == {True}  # clozes
    assert {text.plain for text in tested.rows.texts} == {False}
    assert set(batch.subjects) < set(SUBJECTS)


def test_a_subject_of_both_sources_is_refused(words: list[str], tmp_path: Path) -> None:
    write_json(tmp_path / "zsre" / "train.json", [{**ZSRE, "subject": "IDA  stone"}])
    with pytest.raises(
        DataError,
        match=r"test split of data=cckeb shares 1 of 2 subjects \(Ida Stone \(there 'IDA  stone'"
        r"\)\) with the train split of data=zsre. An editor would be judged on what it was",
    ):
        train(*words).data.open()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["data.train=zsrr"], r"data\.train=zsrr: there is no configs/data/zsrr\.yaml; data\.train "
         r"is one of .*did you mean zsre"),
        (["data.train=zsre"], r"data\.train\.root is required: add data\.train\.root=VALUE"),
        (["data.train=zsre", "data.train.root=DIR"], r"data\.train\.train_files is required to "
         r"train on data=zsre: name the files inside data\.train\.root"),
        (["data.train=zsre", "data.train.root=nowhere"], r"data\.train\.root=nowhere: there is no"),
        (["data.train=zsre", "data.train.root=DIR", "data.train.limit=3"],
         r"data\.train\.limit: limit holds for a whole run; say data\.limit"),
        (["data.train=zsre", "data.train.rot=DIR"], r"there is no key data\.train\.rot"),
        (["data.train=zsre", "data.train.root=DIR", "data.train.train_files=[a.json]",
          "scenario=multimodal"], r"scenario=multimodal: data\.train=zsre is text alone.*use "
         r"scenario=unimodal or transitive"),
        (["data.train=zsre", "data.train.root=DIR", "data.train.train_files=[a.json]",
          "data.train.filter_known=pictures"], r"data\.train\.filter_known=pictures: "
         r"data\.train=zsre is text alone"),
        (["data.train=zsre", "data.train.root=DIR", "data.train.train_files=[a.json]",
          "scenario=transitive", "editor.questions=transitive"], r"editor\.questions=transitive: "
         r"data\.train=zsre is text alone; use editor\.questions=text"),
        (["data.train=vlkeb", "data.train.root=DIR", "data.train.train_files=[a.json]",
          "scenario=multimodal", "editor.questions=transitive"], r"editor\.questions=transitive: "
         r"the edits of data\.train=vlkeb have no text question; use editor\.questions=image_text"),
        (["data.train=vlkeb", "data.train.root=DIR", "data.train.train_files=[a.json]"],
         r"scenario=unimodal: the edits of data\.train=vlkeb have a question about a picture"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_their_own_keys(
    words: list[str], tmp_path: Path, changed: list[str], said: str
) -> None:
    changed = [word.replace("DIR", str(tmp_path)) for word in changed]
    with pytest.raises(ConfigError, match=said):
        train(*words[:3], *changed)


def test_pretraining_has_one_world(tmp_path: Path) -> None:
    words = ["data.train=zsre", f"data.train.root={tmp_path}"]
    with pytest.raises(ConfigError, match=r"data\.train=zsre: a model is pretrained on one world"):
        load_config("pretrain", words)


def test_an_evaluation_needs_the_other_source_only_to_show_it(
    words: list[str], tmp_path: Path
) -> None:
    gone = [*words[:4], f"data.train.root={tmp_path}/gone"]
    load_config("evaluate", ["experiment=demo", "editor=ft", "scenario=transitive", *gone])
    with pytest.raises(ConfigError, match=r"data\.train\.root=.*gone: there is no such folder"):
        load_config("evaluate", ["experiment=demo", "editor=ike", *gone])
