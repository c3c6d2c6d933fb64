"""Where the parts of a base model go that is larger than one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from errors import ConfigError, ModelError
from models import placement as placing
from models.cache_scope import scope_of
from models.deltas import Site
from models.device_memory import DeviceMemory
from models.editable import EditableModel
from models.loading import load_model
from models.offloaded import is_spread
from models.placement import DISK, placement, told
from runner import assembly
from tests.builders import PICTURED, any_model, edit_batch
from tests.spread import on_disk, room_for, weight_bytes

LAYERS = 3


def layer_places(places: dict[str, Any]) -> list[Any]:
    return [place for name, place in places.items() if ".layers." in name]


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A machine with two cards, of which the second one is the run's."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        placing, "device_memory", lambda device: DeviceMemory(str(device), 10**12, 10**12)
    )
    return torch.device("cuda", 1)


@pytest.mark.parametrize("family", [*PICTURED])
def test_every_weight_has_a_place_and_lower_layers_leave_first(family: str) -> None:
    model = PICTURED[family]()
    for on_cpu in range(LAYERS - 1):  # one more is the room for a layer that is brought in
        places = placement(model, None, {"cpu": room_for(model, on_cpu)})
        layers = layer_places(places)
        assert layers == [DISK] * (LAYERS - on_cpu) + ["cpu"] * on_cpu
        assert {place for name, place in places.items() if ".layers." not in name} == {"cpu"}
        for name in model.hf.state_dict():
            assert sum(name == place or name.startswith(f"{place}.") for place in places) == 1, name


def test_a_model_that_fits_stays_whole(two_cards: torch.device) -> None:
    model = any_model("llava")
    assert placement(model, None, {"cpu": weight_bytes(model.hf)}) == {"": "cpu"}
    assert placement(model, two_cards) == {"": 1}


def test_the_run_s_card_comes_first_then_the_others_then_memory(two_cards: torch.device) -> None:
    model = any_model("llava")
    one = weight_bytes(model.decoder.layers[0])
    limits = {"1": room_for(model, 1), "0": one, "cpu": one}
    places = placement(model, two_cards, limits)
    assert layer_places(places) == ["cpu", 0, 1]
    assert places["lm_head"] == 1
    assert layer_places(placement(model, two_cards, {**limits, "0": 0, "cpu": 0})) == [
        DISK, DISK, 1,
    ]  # fmt: skip
    assert layer_places(placement(model, two_cards, {"1": room_for(model, 1)})) == [0, 0, 1]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    rooms=st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
def test_no_room_holds_more_than_it_has(sizes: list[int], rooms: list[int]) -> None:
    of_rooms: dict[str | int, int] = dict(enumerate(rooms))
    places = placing._fill(sizes, of_rooms)
    for name, room in of_rooms.items():
        assert sum(s for s, place in zip(sizes, places, strict=True) if place == name) <= room
    order = [*of_rooms, DISK]
    assert [*map(order.index, places)] == sorted(map(order.index, places), reverse=True)


def test_what_cannot_be_is_refused(two_cards: torch.device) -> None:
    model = any_model("llava")
    with pytest.raises(ModelError, match=r"for one decoder layer takes .* for cpu \(now 0\.0 MB"):
        placement(model, None, {"cpu": 40_000})
    with pytest.raises(ModelError, match=r"max_memory names card 0, and this run has cpu"):
        placement(model, None, {"0": 1})
    with pytest.raises(ModelError, match=r"names card 7, and this run has card 1, card 0, cpu"):
        placement(model, two_cards, {"7": 1})
    with pytest.raises(ModelError, match=r"this run is on mps.*trainer\.accelerator=cpu"):
        placement(model, torch.device("mps"))
    rest = room_for(model, -1)
    tight = {"1": rest + 2 * placing._bytes(model.decoder.layers[0], "8bit"), "0": 0}
    with pytest.raises(ModelError, match=r"quantise=8bit: 2 of 3 decoder layers fit on no card"):
        placement(model, two_cards, tight, quantise="8bit")
    assert layer_places(placement(model, two_cards, tight | {"0": 10**9}, quantise="8bit")) == [
        0, 0, 1,
    ]  # fmt: skip


def test_what_is_told() -> None:
    assert told([DISK, "cpu", "cpu", 1]) == "0 on the disk, 1 to 2 on cpu, 3 on card 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    any_model("llava").hf.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def offloaded(folder: Path) -> EditableModel:
    return on_disk("llava", folder, layers=2)


def test_an_offloaded_model_is_the_same_base_model(folder: Path, offloaded: EditableModel) -> None:
    """Its checkpoints and what is cached of it are those of the whole one."""
    whole = load_model("llava", str(folder), dtype="float32")
    assert is_spread(offloaded.hf)
    assert not is_spread(whole.hf)
    assert offloaded.fingerprint() == whole.fingerprint()
    assert scope_of(offloaded, "a") == scope_of(whole, "a")
    site = Site(0, "mlp_out")
    assert offloaded.linear(site).get_parameter("weight").is_meta
    assert torch.equal(offloaded.weight(site), whole.weight(site))
    rows = edit_batch([1, 2], pictures=True).rows
    at = rows.answers()
    torch.testing.assert_close(offloaded(rows, at=at), whole(rows, at=at), atol=1e-6, rtol=0)


def test_it_stays_where_it_is(offloaded: EditableModel) -> None:
    before = {name: value.device for name, value in offloaded.hf.state_dict().items()}
    assert offloaded.to("meta") is offloaded
    torch.nn.ModuleList([offloaded]).to("meta")  # as Lightning moves it, inside another module
    assert {name: value.device for name, value in offloaded.hf.state_dict().items()} == before
    assert offloaded.device == torch.device("cpu")


def test_weights_are_read_from_safetensors_alone(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(any_model("llava").hf.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no safetensors file"):
        on_disk("llava", tmp_path, layers=2)


def test_several_processes_are_refused_before_anything_is_read() -> None:
    from configs.models import model_options

    options = model_options(["model=llava_tiny", "model.device_map=auto"])
    with pytest.raises(ConfigError, match=r"model\.device_map=auto with 2 processes"):
        assembly.open_model(options, processes=2)
