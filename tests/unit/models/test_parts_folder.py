"""The parts folder: what is written is read, what is damaged is refused, an adapter is merged."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

from errors import ModelError
from models.__main__ import PARTS
from models.folder import MANIFEST
from models.parts_folder import Adapter, Parts, merge, read_parts, write_parts
from tests.local_models import (
    MAPS,
    language_model,
    random_adapter,
    random_parts,
    random_projector,
    random_tower,
)


@pytest.fixture(scope="module")
def llama() -> torch.nn.Module:
    return language_model("llama")


@pytest.fixture
def folder(llama: torch.nn.Module, tmp_path: Path) -> Path:
    write_parts(tmp_path / "parts", random_parts(llama, recipe="r", facts={"taught": [["a", "b"]]}))
    return tmp_path / "parts"


def test_what_is_written_is_read(folder: Path, llama: torch.nn.Module) -> None:
    expected, found = random_parts(llama), read_parts(folder)
    assert found.adapter is not None
    assert found.adapter.alpha == 8
    assert found.manifest["facts"] == {"taught": [["a", "b"]]}
    for one, other in (
        (found.adapter.tensors, random_adapter(llama).tensors),
        (found.tower.state, expected.tower.state),
        *((found.projectors[a], expected.projectors[a]) for a in ("naming", "embedding")),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert found.tower.config["image_size"] == expected.tower.config["image_size"]
    assert found.tower.images == json.loads(json.dumps(expected.tower.images))


def test_two_writings_of_one_are_equal(folder: Path, llama: torch.nn.Module) -> None:
    other = folder.parent / "again"
    write_parts(other, random_parts(llama, recipe="r", facts={"taught": [["a", "b"]]}))
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert all((folder / n).read_bytes() == (other / n).read_bytes() for n in names)


def test_an_alignment_may_have_a_tower_of_its_own(tmp_path: Path) -> None:
    parts = Parts(
        random_tower(), {"naming": random_projector(), "embedding": random_projector()},
        own_towers={"naming": random_tower(seed=9)},
    )  # fmt: skip
    write_parts(tmp_path / "parts", parts)
    found = read_parts(tmp_path / "parts")
    name = next(iter(parts.tower.state))
    assert torch.equal(found.tower_of("embedding").state[name], parts.tower.state[name])
    own = parts.own_towers["naming"].state[name]
    assert torch.equal(found.tower_of("naming").state[name], own)
    assert found.adapter is None


def test_a_folder_that_is_taken_stays(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(ModelError, match="is not empty"):
        write_parts(folder, random_parts())
    assert (folder / MANIFEST).read_bytes() == before
    write_parts(folder, random_parts(), overwrite=True)
    assert not (folder / "adapter.safetensors").exists()


@pytest.mark.parametrize("name", ["tower.safetensors", "projector_naming.safetensors"])
def test_a_changed_or_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} does not match its manifest"):
        read_parts(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} does not match .*no file"):
        read_parts(folder)


def test_no_folder_and_no_alignment_say_what_makes_them(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere holds no parts .*pretrain\.py"):
        read_parts(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"'naming_and_facts'; there are: embedding, naming"):
        read_parts(folder).projector_of("naming_and_facts")


def test_the_parts_that_ship_are_whole_and_small() -> None:
    folder = Path(__file__).resolve().parents[3] / PARTS
    parts = read_parts(folder)
    assert set(parts.projectors) == {"embedding", "naming", "naming_and_facts"}
    assert parts.adapter is not None
    assert set(parts.manifest["facts"]) == {"known_before", "unlocked", "taught"}
    assert parts.manifest["language_model"]["license"] == "apache-2.0"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 14e6
    assert {path.name for path in folder.iterdir()} == {*parts.manifest["sha256"], MANIFEST}


def test_a_weight_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    state = random_projector()
    state["linear_1.bias"][0] = 1e6  # more than half precision holds
    with pytest.raises(ModelError, match=r"linear_1\.bias is not finite"):
        write_parts(tmp_path / "parts", Parts(random_tower(), {"naming": state}))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it
@torch.no_grad()
def test_merging_is_what_peft_does(llama: torch.nn.Module) -> None:
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(MAPS), init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(llama), config)
    state = get_peft_model_state_dict(adapted)
    in_memory = {n: t for n, t in adapted.state_dict().items() if "lora_" in n}  # lora_A.default
    reference = adapted.merge_and_unload().state_dict()
    for tensors in (state, in_memory):
        ours = copy.deepcopy(llama)
        merge(ours, Adapter(tensors, alpha=6))
        assert all(torch.equal(reference[n], t) for n, t in ours.state_dict().items())
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(reference[name], llama.state_dict()[name])


def test_an_adapter_of_another_model_is_refused_by_name(llama: torch.nn.Module) -> None:
    adapter = random_adapter(llama)
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    wide = {**adapter.tensors, name: torch.zeros(7, 4)}
    with pytest.raises(ModelError, match=r"layers.1.mlp.up_proj is \(7, 32\).*is \(48, 32\)"):
        merge(llama, Adapter(wide, 8))
    elsewhere = {n.replace("layers.1", "layers.9"): t for n, t in adapter.tensors.items()}
    with pytest.raises(ModelError, match=r"layers\.9\..* is not there"):
        merge(llama, Adapter(elsewhere, 8))
    half = {n: t for n, t in adapter.tensors.items() if n != name}
    with pytest.raises(ModelError, match=r"pairs of lora_A and lora_B"):
        merge(llama, Adapter(half, 8))
