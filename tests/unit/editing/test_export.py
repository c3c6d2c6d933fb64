"""An edit merged into its base model: what is written, what it says of itself, what is refused."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from configs.models import model_options
from configs.schema import ModelOptions
from datamodules.records import Record
from datamodules.source import RecordSource
from editing import open_editor, open_model
from editing.card import CARD
from editing.edit import FactEdit
from editing.export import Exported, export_merged
from editing.merging import merge_delta
from editing.model import OpenedModel
from errors import ConfigError, ModelError
from models.deltas import DenseDelta, LowRankDelta, Site
from models.folder import check_manifest
from models.loading import load_model
from tests.edit_cases import teach, untrained_checkpoint

ASK = Path(__file__).parents[2] / "plain_transformers.py"
ANSWERS = Path("answers.json")


class Merged(NamedTuple):
    edit: FactEdit
    kept: Path
    done: Exported


@pytest.fixture(scope="module")
def base() -> ModelOptions:
    return model_options(["model=llava_tiny"])


@pytest.fixture(scope="module")
def merged(edit: FactEdit, base: ModelOptions, tmp_path_factory: pytest.TempPathFactory) -> Merged:
    folder = tmp_path_factory.mktemp("export")
    kept = edit.save(folder / "edit")
    done = export_merged(kept, base, folder / "merged", max_shard_size="1MB", say=lambda _: None)
    return Merged(edit, kept, done)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def weight_of(site: Site) -> str:
    """Its name in the files of LLaVA."""
    part = {"mlp_in": "up_proj", "mlp_out": "down_proj"}[site.role]
    return f"language_model.model.layers.{site.layer}.mlp.{part}.weight"


def plain_answers(
    folders: Sequence[Path], asked: Sequence[tuple[str, Path | None]], tmp_path: Path, *, code: bool
) -> list[list[str]]:
    """What transformers alone says, in a process of its own that does not know this project."""
    pairs = [(prompt, picture and str(picture.absolute())) for prompt, picture in asked]
    work = [{"folder": str(folder), "code": code, "asked": pairs} for folder in folders]
    (tmp_path / ANSWERS).write_text(json.dumps(work))
    command = [sys.executable, "-I", str(ASK), str(tmp_path / ANSWERS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[list[str]] = json.loads(done.stdout)
    return answers


def questions(records: Sequence[Record], source: RecordSource) -> list[tuple[str, Path | None]]:
    """Of each record one in text and one about its picture."""
    asked: list[tuple[str, Path | None]] = []
    for record in records:
        fact = record.knowledge_edit
        asked.append((fact.question, None))
        asked.append((str(fact.image_question), source.pictures.path(str(record.image))))
    return asked


def compare(
    edits: Sequence[FactEdit], folders: Sequence[Path], records: Sequence[Record],
    source: RecordSource, tmp_path: Path, *, code: bool = False,
) -> None:  # fmt: skip
    """Every answer of the merged folders is the engine's."""
    asked = questions(records, source)
    encoder = edits[0].model.encoder
    prompts = [(encoder.prompt(question), picture) for question, picture in asked]
    told = plain_answers(folders, prompts, tmp_path, code=code)
    for edit, answers in zip(edits, told, strict=True):
        expected = [edit.ask(*one) for one in asked]
        assert answers == [answer.text for answer in expected]
        if edit.editor.ckpt is None:  # networks that were never trained may teach nothing
            assert answers != [answer.unedited for answer in expected]


def test_transformers_alone_answers_as_the_engine(
    merged: Merged, source: RecordSource, tmp_path: Path
) -> None:
    compare([merged.edit], [merged.done.output], source.records("test")[:4], source, tmp_path)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("llava_tiny", 10, marks=pytest.mark.quality),
        *(
            pytest.param(name, 50, marks=pytest.mark.odd)
            for name in ("llava_tiny", "blip2_opt_tiny", "minigpt4_tiny")
        ),
    ],
)
def test_merged_folders_of_all_methods_answer_as_the_edits(
    name: str, count: int, source: RecordSource, tmp_path: Path
) -> None:
    model, records = open_model(name, device="cpu"), source.records("test")[:count]
    edits = [teach(open_editor(method, model), records[0]) for method in ("ft", "rome", "lora")]
    edits.append(edits[0] + teach(open_editor("ft", model), records[7]))
    trained = untrained_checkpoint("mend", model, records[0], tmp_path / "mend.ckpt")
    edits.append(teach(open_editor("mend", model, ckpt=trained), records[0]))
    folders = [tmp_path / str(number) for number in range(len(edits))]
    for edit, folder in zip(edits, folders, strict=True):
        kept = edit.save(tmp_path / "edit", overwrite=True)
        export_merged(kept, model_options([f"model={name}"]), folder, say=lambda _: None)
    compare(edits, folders, records, source, tmp_path, code=name == "minigpt4_tiny")


def test_what_is_written_is_the_rounded_sum_and_nothing_else_changes(
    merged: Merged, base: ModelOptions
) -> None:
    before, after = weights(Path(base.path)), weights(merged.done.output)
    assert before.keys() == after.keys()  # the head is tied, and stays so
    assert {value.dtype for value in after.values()} == {torch.float16}
    stored = {weight_of(site): d.dense()[0] for site, d in merged.edit.deltas.items()}
    assert stored.keys() <= after.keys()
    for name, value in before.items():
        expected = (value.float() + stored[name]).half() if name in stored else value
        assert torch.equal(after[name], expected), name


def test_the_report_is_measured(merged: Merged, base: ModelOptions) -> None:
    before, after = weights(Path(base.path)), weights(merged.done.output)
    for change, (site, delta) in zip(
        merged.done.changes, sorted(merged.edit.deltas.items()), strict=True
    ):
        name = weight_of(site)
        assert change.name.split("layers.")[1] == name.removesuffix(".weight").split("layers.")[1]
        moved, wanted = after[name].double() - before[name].double(), delta.dense()[0].double()
        assert change.n_changed == int((moved != 0).sum())
        assert change.largest == pytest.approx(float(moved.abs().max()))
        assert change.mean == pytest.approx(float(moved.abs().mean()))
        assert change.error == pytest.approx(float((moved - wanted).norm() / wanted.norm()))


def test_the_folder_has_what_its_base_has(merged: Merged, base: ModelOptions) -> None:
    source, output = Path(base.path), merged.done.output
    names = ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
             "generation_config.json"]  # fmt: skip
    assert filecmp.cmpfiles(source, output, names, shallow=False)[0] == names
    assert len(list(output.glob("model-*.safetensors"))) > 1
    assert all(file.stat().st_size < 1.2e6 for file in output.glob("*.safetensors"))
    assert (output / CARD).read_bytes() == (merged.kept / CARD).read_bytes()
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["merged"]["base"]["fingerprint"] == merged.edit.model.fingerprint()
    assert manifest["merged"]["changes"][0]["n_changed"] == merged.done.changes[0].n_changed
    assert manifest["world"] == json.loads((source / "manifest.json").read_text())["world"]
    check_manifest(output)
    assert str(output.parent) not in (output / "README.md").read_text()


@pytest.mark.parametrize("family", ["llava", "auto"])
def test_this_project_opens_it(merged: Merged, family: str) -> None:
    output = merged.done.output
    if family == "llava":
        opened = open_model(output, device="cpu")
        fact = merged.edit.facts[0]
        again = open_editor("ft", opened, steps=1).edit(fact.question, "steel")
        assert again.ask(fact.question).unedited == fact.answer
        fingerprint = opened.fingerprint()
    else:
        fingerprint = load_model("auto", str(output)).fingerprint()
    assert fingerprint != merged.edit.model.fingerprint()


def test_nothing_is_overwritten_silently(
    merged: Merged, base: ModelOptions, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"already holds an export.*--overwrite"):
        export_merged(merged.kept, base, merged.done.output)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no export"):
        export_merged(merged.kept, base, tmp_path, overwrite=True)
    copy = tmp_path / "copy"
    shutil.copytree(merged.done.output, copy)
    done = export_merged(merged.kept, base, copy, overwrite=True, say=lambda _: None)
    assert (copy / "model.safetensors").is_file()
    assert done.changes == merged.done.changes


def test_another_base_model_is_refused(merged: Merged, tmp_path: Path) -> None:
    other = model_options(["model=minigpt4_tiny"])
    with pytest.raises(ModelError, match=r"was made on llava_tiny.*minigpt4"):
        export_merged(merged.kept, other, tmp_path / "merged", say=lambda _: None)
    assert not (tmp_path / "merged").exists()


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    merged: Merged, base: ModelOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1_000_000))
    with pytest.raises(ModelError, match=r"needs 20\.2 MB of disk.*1\.0 MB free.*--format peft"):
        export_merged(merged.kept, base, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_quantised_weights_are_refused(merged: Merged, base: ModelOptions, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    with pytest.raises(ModelError, match=r"model.quantise=8bit.*unquantised model.*applied"):
        export_merged(merged.kept, base.model_copy(update={"quantise": "8bit"}), output)
    stored = tmp_path / "stored"
    shutil.copytree(base.path, stored)
    config = json.loads((stored / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (stored / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"are stored quantised.*unquantised model.*applied"):
        export_merged(merged.kept, base.model_copy(update={"path": str(stored)}), output)
    kept = tmp_path / "edit"
    shutil.copytree(merged.kept, kept)
    card = json.loads((kept / CARD).read_text())
    card["base"]["quantise"] = "4bit"
    (kept / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"made on llava_tiny in 4bit.*make the edit on it"):
        export_merged(kept, base, output)


def test_an_edit_without_weights_says_what_to_do(
    model: OpenedModel, record: Record, base: ModelOptions, tmp_path: Path
) -> None:
    kept = teach(open_editor("ike", model, k=0), record).save(tmp_path / "edit")
    with pytest.raises(ModelError, match=r"IKE puts demonstrations.*load_edit.*ft, lora, mend"):
        export_merged(kept, base, tmp_path / "merged")


def test_weights_of_several_number_types_stay_what_they_are(record: Record, tmp_path: Path) -> None:
    """As in released BLIP-2 models, whose Q-Former may have more digits than the rest."""
    base = model_options(["model=blip2_opt_tiny"])
    mixed = tmp_path / "mixed"
    shutil.copytree(base.path, mixed, ignore=shutil.ignore_patterns("manifest.json"))
    tensors = load_file(mixed / "model.safetensors")
    types = {
        name: torch.float32 if name.startswith("qformer") else torch.float16 for name in tensors
    }
    save_file({name: value.to(types[name]) for name, value in tensors.items()},
              mixed / "model.safetensors", {"format": "pt"})  # fmt: skip
    edit = teach(open_editor("ft", open_model(mixed, device="cpu"), steps=2), record)
    done = export_merged(
        edit.save(tmp_path / "edit"), base.model_copy(update={"path": str(mixed)}),
        tmp_path / "merged", say=lambda _: None,
    )  # fmt: skip
    assert {name: value.dtype for name, value in weights(done.output).items()} == types
    assert not [note for note in done.notes if "number types" in note]


def test_a_weight_that_several_maps_share_is_refused(
    merged: Merged, base: ModelOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared(*args: Any, **kwargs: Any) -> Any:
        model = load_model(*args, **kwargs)
        first, last = (model.decoder.layers[n].mlp for n in (0, 3))
        first.up_proj.weight = last.up_proj.weight
        return model

    monkeypatch.setattr("editing.export.load_model", shared)
    monkeypatch.setattr("editing.export.check_base", lambda *_: None)
    with pytest.raises(ModelError, match="is one for several maps"):
        export_merged(merged.kept, base, tmp_path / "merged", say=lambda _: None)


def test_what_lies_under_half_an_ulp_is_lost_and_counted() -> None:
    """Between 1 and 2 bfloat16 goes in steps of 1/128."""
    linear = torch.nn.Linear(2, 2, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    linear.weight.fill_(1.0)
    delta = DenseDelta(torch.tensor([[[0.003, 0.005], [0.0, 1 / 64]]]))
    change = merge_delta("a", linear, delta)
    assert linear.weight.tolist() == [[1.0, 1 + 1 / 128], [1.0, 1 + 1 / 64]]
    assert (change.n_weights, change.n_changed, change.largest) == (4, 2, 1 / 64)
    assert change.lost == pytest.approx(1 / 3)
    left = torch.tensor([0.003, 1 / 128 - 0.005])
    moved = torch.tensor([0.003, 0.005, 1 / 64])
    assert change.error == pytest.approx(float(left.norm() / moved.norm()), rel=1e-5)


def test_transposed_matrices_and_factors() -> None:
    module = Conv1D(3, 2).requires_grad_(False)  # 2 inputs, 3 outputs
    before = module.weight.clone()
    delta = LowRankDelta(torch.randn(1, 1, 2), torch.randn(1, 1, 3))
    merge_delta("a", module, delta)
    torch.testing.assert_close(module.weight, before + delta.dense()[0].mT)


def test_a_sum_beyond_the_number_type_is_refused() -> None:
    linear = torch.nn.Linear(2, 2, bias=False, dtype=torch.float16).requires_grad_(False)
    before = linear.weight.clone()
    with pytest.raises(ModelError, match="beyond the largest float16"):
        merge_delta("a", linear, DenseDelta(torch.full((1, 2, 2), 70000.0)))
    assert torch.equal(linear.weight, before)
