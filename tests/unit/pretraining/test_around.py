"""A whole run around a tiny language model: its stages, what is written, and how it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pretraining.around as around
from configs.schema import PretrainConfig
from datamodules.world import World
from errors import DataError, ModelError
from models.building import build
from models.loading import load_model
from models.parts_folder import read_parts
from pretraining.around import build_around, find_parts_of, summary_tables
from pretraining.language.facts import teachable
from pretraining.stage_files import SAID, TENSORS, StageFiles
from pretraining.stages import Stages
from tests.language_worlds import around_config, small_world, tiny_language, words

STAGES = ["knowledge_before", "adaptation", "knowledge_after", "tower"]


class Run:
    """One run, and the stages that it computed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.computed = root, list[str]()
        self.world = small_world(root / "world")
        tiny_language(root / "language")
        original = StageFiles.stage

        def stage(files: StageFiles, name: str, compute: Callable[[], Any]) -> Any:
            def counted() -> Any:
                self.computed.append(name)
                return compute()

            return original(files, name, counted)

        monkeypatch.setattr(StageFiles, "stage", stage)

    def config(self, *more: str) -> PretrainConfig:
        world, language, output = (self.root / name for name in ("world", "language", "run"))
        return around_config(*words(world, language, output), *more)

    def __call__(self, *more: str) -> dict[str, Any]:
        cfg = self.config(*more)
        source = find_parts_of(cfg, self.world)
        folder = Path(cfg.output_dir)
        folder.mkdir(exist_ok=True)
        return build_around(
            cfg, self.world, source, folder, Stages(cfg.trainer, torch.device("cpu"))
        )

    @property
    def folder(self) -> Path:
        return self.root / "run"


@pytest.fixture(scope="module")
def patch() -> Any:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Run:
    run = Run(tmp_path_factory.mktemp("around"), patch)
    run.manifest = run("pretrain.alignment=all")  # type: ignore[attr-defined]
    return run


def test_all_stages_are_done_and_all_parts_written(whole: Run) -> None:
    named = ["embedding", "naming", "naming_and_facts"]
    of_alignments = [stage for name in named for stage in (name, f"{name}_reading")]
    assert whole.computed[: len(STAGES) + 6] == [*STAGES, *of_alignments]
    parts = read_parts(whole.folder / "parts")
    assert sorted(parts.projectors) == named
    assert parts.adapter is not None
    states = {name: parts.projectors[name]["linear_1.weight"] for name in named}
    assert not torch.equal(states["embedding"], states["naming"])
    # A random model knows no fact that could be asked of pictures, and a warning says so.
    assert torch.equal(states["naming"], states["naming_and_facts"])
    assert parts.manifest["alignments"]["naming_and_facts"]["fact_rows"] == 0
    model = load_model("llava", str(whole.folder / "model")).hf
    found = dict(model.named_parameters())
    projector = found["model.multi_modal_projector.linear_1.weight"]
    assert torch.equal(projector, parts.projectors["naming"]["linear_1.weight"])


def test_the_manifests_hold_the_facts_and_how_it_was_made(whole: Run) -> None:
    for folder in ("parts", "model"):
        manifest = json.loads((whole.folder / folder / "manifest.json").read_text())
        assert manifest["recipe"]["adaptation"]["steps"] == 3
        assert manifest["seed"] == 0
        marked = [tuple(fact) for facts in manifest["facts"].values() for fact in facts]
        assert set(manifest["facts"]) == {"known_before", "taught", "unlocked"}
        assert len(set(marked)) == len(marked)
        known = {tuple(fact) for fact in manifest["facts"]["known_before"]}
        taught = {tuple(fact) for fact in manifest["facts"]["taught"]}
        assert taught == set(teachable(whole.world)) - known
        assert {"before", "after"} == set(manifest["perplexity"])
        assert manifest["perplexity"]["after"]["paragraphs"]["tokens"] > 1000
        assert manifest["knowledge"]["test"]["all"]["n"] > 0
        assert manifest["language_model"]["architecture"] == "llama"
        assert manifest["world"]["digest"] == whole.world.digest
        assert set(manifest["seconds"]) >= {*STAGES, "naming", "naming_reading"}
        assert manifest["sha256"]
    assert manifest["alignment"] == "naming"
    tables = summary_tables(manifest)
    assert [bool(table.row_count) for table in tables] == [True, True]


def test_the_model_is_what_its_parts_build(whole: Run, tmp_path: Path) -> None:
    """`python -m models smollm` on the parts gives the same weights to the last bit."""
    build(
        tmp_path / "built", parts=whole.folder / "parts", alignment="naming",
        language_model=str(whole.root / "language"),
    )  # fmt: skip
    for name in ("model.safetensors", "tokenizer.json"):
        built, made = (folder / name for folder in (tmp_path / "built", whole.folder / "model"))
        assert built.read_bytes() == made.read_bytes(), name


def test_what_is_done_is_not_done_again(whole: Run) -> None:
    """Whatever stages are missing are computed, from the others as they were, to the same end."""
    first = {p.name: p.read_bytes() for p in (whole.folder / "parts").glob("*.safetensors")}
    whole.computed.clear()
    whole("pretrain.alignment=all")
    assert whole.computed == []
    for lost in ("naming", "knowledge_after", "adaptation"):
        shutil.rmtree(whole.folder / "stages" / lost)
        whole("pretrain.alignment=all")
        assert whole.computed == [lost]
        whole.computed.clear()
    again = {p.name: p.read_bytes() for p in (whole.folder / "parts").glob("*.safetensors")}
    assert again == first


def test_a_damaged_stage_is_named(whole: Run, tmp_path: Path) -> None:
    for name in (TENSORS, SAID):
        shutil.copytree(whole.folder / "stages", tmp_path / name)
        damaged = tmp_path / name / "tower" / name
        damaged.write_bytes(damaged.read_bytes()[:20])
        with pytest.raises(ModelError, match=r"tower.* cannot be read .*Remove .*tower, and"):
            StageFiles(tmp_path / name).stage("tower", lambda: ({}, {}))


def test_a_stage_that_diverged_is_not_kept(tmp_path: Path) -> None:
    files = StageFiles(tmp_path / "stages")
    with pytest.raises(ModelError, match=r"adaptation: a is not finite.*recipe\.adaptation"):
        files.stage("adaptation", lambda: ({"a": torch.tensor([1e6]), "b": torch.ones(1)}, {}))
    assert not list((tmp_path / "stages").glob("*"))
    done = files.stage("adaptation", lambda: ({"a": torch.tensor([0.1])}, {"steps": (1, 2)}))
    assert torch.equal(done.tensors["a"], torch.tensor([0.1]).half().float())
    assert done.said == {"steps": [1, 2]}
    assert set(done.seconds) == {"wall", "cpu"}


def test_a_model_that_misses_its_targets_is_kept_apart(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, patch)
    with pytest.raises(ModelError, match=r"misses its targets: naming names .* of the seen views"):
        run("gate=true", "recipe.targets.named_seen=100")
    assert (run.folder / "rejected" / "manifest.json").is_file()
    assert not (run.folder / "parts").exists()
    assert not (run.folder / "model").exists()
    run.computed.clear()
    run("gate=true", "recipe.targets.named_seen=0", "recipe.targets.named_unseen=0")
    assert run.computed == []
    assert (run.folder / "model" / "manifest.json").is_file()


@pytest.mark.parametrize("alignment", ["embedding", "naming_and_facts"])
def test_one_alignment_alone(tmp_path: Path, patch: pytest.MonkeyPatch, alignment: str) -> None:
    run = Run(tmp_path, patch)
    manifest = run(f"pretrain.alignment={alignment}", "gate=true")
    assert run.computed == [*STAGES, alignment, f"{alignment}_reading"]
    assert manifest["alignment"] == alignment
    assert list(read_parts(run.folder / "parts").projectors) == [alignment]


def test_facts_made_before_naming_get_its_steps_beside_it(
    tmp_path: Path, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path, patch)
    wanted = run("pretrain.alignment=all")
    kept = (run.folder / "parts" / "projector_naming_and_facts.safetensors").read_bytes()
    stages = run.folder / "stages"
    for name in ("naming", "naming_and_facts"):
        shutil.rmtree(stages / name)
        shutil.rmtree(stages / f"{name}_reading")
    alone = ("pretrain.alignment=naming_and_facts", "recipe.alignment.naming.steps=2")
    assert run(*alone)["alignments"]["naming_and_facts"]["steps"] == 2
    run.computed.clear()
    with caplog.at_level("INFO"):
        again = run("pretrain.alignment=all")
    remade = ("naming_and_facts", "naming_and_facts_reading")
    assert run.computed == ["naming", "naming_reading", *remade]
    assert "naming_and_facts had 2 steps and naming has 3" in caplog.text
    steps = {name: said["steps"] for name, said in again["alignments"].items()}
    assert steps == {name: said["steps"] for name, said in wanted["alignments"].items()}
    parts = run.folder / "parts" / "projector_naming_and_facts.safetensors"
    assert parts.read_bytes() == kept


def test_what_a_run_lacks_is_told_before_anything_is_written(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, patch)
    bare = World.__new__(World)
    bare.__dict__ = {**run.world.__dict__, "entities": {}}
    with pytest.raises(DataError, match="no entity of this world has a picture"):
        find_parts_of(run.config(), bare)
    cfg = run.config()
    patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ModelError, match="bytes of disk"):
        find_parts_of(cfg, run.world)
    patch.undo()
    assert not run.folder.exists()


def test_the_default_alignment_is_one_of_them() -> None:
    assert around.DEFAULT in around.ALIGNMENTS
