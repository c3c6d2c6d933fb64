"""What the full-size models need, and what is said where a device is too small."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.full_size import full_size
from errors import ModelError
from models import memory
from models.deltas import Site, linear_shape
from models.device_memory import DeviceMemory, device_memory, machine_memory
from models.families import without_weights
from models.memory import (
    ParameterCounts,
    check_fit,
    count_parameters,
    log_memory,
    memory_line,
    smaller_forms,
)
from models.quantisation import unquantised_modules

BIG, SMALL = (
    DeviceMemory("cuda:0", 80 * 10**9, 79 * 10**9),
    DeviceMemory("cuda:0", 12 * 10**9, 11 * 10**9),
)


# Family: millions of parameters, of these in decoder layers; width and inner width of the MLP.
FULL = {
    "blip2": (3744.8, 2517.6, 2560, 10_240),
    "llava": (7063.4, 6476.3, 4096, 11_008),
    "minigpt4": (7832.7, 6476.3, 4096, 11_008),
}


@pytest.mark.parametrize("family", FULL)
def test_full_size_models_have_their_parameters(family: str) -> None:
    size = count_parameters(family, full_size(family))
    total, decoder, *_ = FULL[family]
    assert size.total / 1e6 == pytest.approx(total, abs=0.1)
    assert size.decoder / 1e6 == pytest.approx(decoder, abs=0.1)
    assert 0.999 < size.linear / size.decoder < 1


@pytest.mark.parametrize("family", FULL)
def test_every_edited_layer_of_a_full_size_model_is_found(family: str) -> None:
    model = without_weights(family, full_size(family), torch.bfloat16)
    *_, width, inner = FULL[family]
    assert [(site.layer, site.role) for site in model.last_sites(3)] == [
        (layer, role) for layer in (29, 30, 31) for role in ("mlp_out", "mlp_in")
    ]
    for site in [*model.last_sites(3), Site(5, "mlp_out")]:
        shape = (inner, width) if site.role == "mlp_out" else (width, inner)
        assert linear_shape(model.linear(site)) == shape
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FULL)
def test_bytes_are_those_of_the_weights(family: str, dtype: torch.dtype) -> None:
    """The Q-Former stays in single precision."""
    config = full_size(family)
    weights = without_weights(family, config, dtype).hf.parameters()
    expected = sum(one.numel() * one.element_size() for one in weights)
    assert count_parameters(family, config).bytes(dtype) == expected


def test_nothing_beside_the_decoder_layers_is_quantised() -> None:
    kept = {
        family: unquantised_modules(model.hf, model.decoder.layers)
        for family in FULL
        for model in [without_weights(family, full_size(family), torch.bfloat16)]
    }
    assert {"lm_head", "model.vision_tower", "model.multi_modal_projector"} <= {*kept["llava"]}
    assert {"vision_model", "qformer", "language_model.lm_head"} <= {*kept["blip2"]}
    assert {"vision_model", "qformer", "llama_proj", "language_model.lm_head"} <= {
        *kept["minigpt4"]
    }
    assert not [name for names in kept.values() for name in names if "layers" in name.split(".")]


LLAVA = ParameterCounts(decoder=6_476_000_000, linear=6_476_000_000, rest=587_000_000, single=0)


def test_the_line_names_model_and_device() -> None:
    room = DeviceMemory("cuda:0", 79_200_000_000, 78_100_000_000)
    assert memory_line("llava-hf/llava-1.5-7b-hf", LLAVA, torch.bfloat16, None, room) == (
        "llava-hf/llava-1.5-7b-hf: 7.06 B parameters (6.48 B in decoder layers), 14.1 GB in "
        "bfloat16; cuda:0 has 79.2 GB (78.1 free)"
    )
    assert "4.8 GB in bfloat16 with decoder layers in 4bit" in memory_line(
        "x", LLAVA, torch.bfloat16, "4bit", room
    )


def test_what_would_fit_is_counted() -> None:
    assert smaller_forms(LLAVA, torch.float32, None) == {
        "model.dtype=bfloat16": 14_126_000_000,
        "model.dtype=bfloat16 model.quantise=8bit": 7_650_000_000,
        "model.dtype=bfloat16 model.quantise=4bit": 4_816_750_000,
    }
    assert list(smaller_forms(LLAVA, torch.float16, "8bit")) == [
        "model.quantise=8bit", "model.quantise=4bit",
    ]  # fmt: skip


def test_a_model_that_fits_is_not_remarked_on() -> None:
    assert check_fit("x", LLAVA, torch.bfloat16, None, BIG) is None
    assert check_fit("x", LLAVA, torch.bfloat16, "8bit", SMALL) is None


def test_a_busy_device_is_warned_of() -> None:
    busy = DeviceMemory("cuda:0", 80 * 10**9, 8 * 10**9)
    assert check_fit("x", LLAVA, torch.bfloat16, None, busy) == (
        "the weights of x need 14.1 GB, and cuda:0 has 8.0 GB free. These weights would fit: "
        "model.quantise=8bit (7.7 GB), model.quantise=4bit (4.8 GB)."
    )
    full = DeviceMemory("cuda:0", 80 * 10**9, 10**9)
    assert "take a smaller model" in str(check_fit("x", LLAVA, torch.bfloat16, None, full))


@pytest.mark.parametrize(
    ("dtype", "quantise", "total", "message"),
    [
        (torch.bfloat16, None, 12, "would fit: model.quantise=8bit (7.7 GB), model.quantise=4bit"),
        (torch.float32, None, 16, "would fit: model.dtype=bfloat16 (14.1 GB), model.dtype=bfloat"),
        (torch.bfloat16, "8bit", 5, "would fit: model.quantise=4bit (4.8 GB)."),
        (torch.bfloat16, "4bit", 4, "take a smaller model"),
    ],
)
def test_a_device_that_is_too_small_is_refused(
    dtype: torch.dtype, quantise: Any, total: int, message: str
) -> None:
    room = DeviceMemory("cuda:0", total * 10**9, total * 10**9)
    with pytest.raises(ModelError, match=f"and cuda:0 has {total}.0 GB") as caught:
        check_fit("x", LLAVA, dtype, quantise, room)
    assert message in str(caught.value)


def log_llava(folder: str, **changes: Any) -> None:
    given = {"revision": None, "dtype": "auto", "quantise": None, "device": None} | changes
    log_memory("llava", folder, **given)


def test_large_models_are_told_and_small_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    caplog.set_level(logging.INFO, logger="models.memory")
    full_size("llava").save_pretrained(tmp_path)
    monkeypatch.setattr(
        memory, "device_memory", lambda _: DeviceMemory("cpu", 60 * 10**9, 20 * 10**9)
    )
    log_llava(str(root / "models/pretrained/llava_tiny"))
    assert not caplog.records
    log_llava(str(tmp_path))  # no weights lie there
    info, warned = caplog.records
    assert "7.06 B parameters" in info.message
    assert "28.3 GB in float32; cpu has 60.0 GB (20.0 free)" in info.message
    assert warned.levelno == logging.WARNING
    assert "model.dtype=bfloat16 (14.1 GB)" in warned.message
    caplog.clear()
    log_llava(str(tmp_path), dtype="bfloat16")
    assert len(caplog.records) == 1
    monkeypatch.setattr(memory, "device_memory", lambda _: SMALL)
    with pytest.raises(ModelError, match=r"the weights of .* need 28\.3 GB"):
        log_llava(str(tmp_path))


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_memory_of_a_machine_and_of_a_container(tmp_path: Path) -> None:
    proc = write(
        tmp_path / "proc", meminfo="MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n"
    )
    assert machine_memory(proc, tmp_path / "none") == (1000 * 1024, 600 * 1024)
    stat = "anon 5\ninactive_file 4096\n"
    two = write(
        tmp_path / "two", memory__max="512000\n", memory__current="104096\n", memory__stat=stat
    )
    assert machine_memory(proc, two) == (512_000, 412_000)
    limits = {"memory__limit_in_bytes": "512000", "memory__usage_in_bytes": "600000"}
    write(tmp_path / "one" / "memory", **limits)
    assert machine_memory(proc, tmp_path / "one") == (512_000, 0)
    unlimited = write(tmp_path / "free", memory__max="max\n", memory__current="1")
    assert machine_memory(proc, unlimited) == (1000 * 1024, 600 * 1024)


def test_this_machine_has_memory() -> None:
    room = device_memory(torch.device("cpu"))
    assert room.name == "cpu"
    assert 0 < room.free <= room.total


def test_linear_maps_alone_are_quantised() -> None:
    assert (
        ParameterCounts(decoder=110, linear=100, rest=0, single=0).bytes(torch.float16, "8bit")
        == 120
    )
