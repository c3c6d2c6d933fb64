"""Weights go straight to the device where they stay; the stand-in for a GPU is torch's meta."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.families import FAMILIES, Family
from models.loading import load_model
from tests.auto_cases import save
from tests.builders import PICTURED, llava

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
KINDS = ("llava", "blip2", "minigpt4", "qwen2_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models as they are released; Qwen2-VL is read as `auto`."""
    base = tmp_path_factory.mktemp("released")
    for kind, build in PICTURED.items():
        build().hf.save_pretrained(base / kind)
    save("qwen2_vl", base / "qwen2_vl")
    return {kind: str(base / kind) for kind in KINDS}


class Spy:
    """A family's class whose loaded models are remembered as `from_pretrained` gave them."""

    def __init__(self, hf: Any) -> None:
        self._hf = hf
        self.devices: set[torch.device] = set()

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        model, info = self._hf.from_pretrained(*args, **kwargs)
        self.devices = devices(model)
        return model, info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hf, name)


def devices(module: nn.Module) -> set[torch.device]:
    """Where its weights and buffers are."""
    return {tensor.device for tensor in (*module.parameters(), *module.buffers())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_weight_rests_on_the_host_on_its_way_to_another_device(
    kind: str, dtype: Any, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = kind if kind in PICTURED else "auto"
    entry = FAMILIES[family]
    spy = Spy(entry.hf)
    seen = Family(**(vars(entry) | {"hf": spy}))
    monkeypatch.setattr("models.loading.family_of", lambda _: seen)
    model = load_model(family, folders[kind], dtype=dtype, device=ELSEWHERE)
    assert spy.devices == {ELSEWHERE}
    assert devices(model.hf) == {ELSEWHERE}
    assert model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_map_changes_no_weight(kind: str, dtype: Any, folders: dict[str, str]) -> None:
    """What reads them onto a device gives the very weights that are read without one."""
    family = kind if kind in PICTURED else "auto"
    plain = load_model(family, folders[kind], dtype=dtype)
    hf = FAMILIES[family].hf
    mapped, _ = hf.from_pretrained(
        folders[kind], dtype=getattr(torch, dtype), device_map={"": "cpu"},
        output_loading_info=True, attn_implementation="sdpa",
    )  # fmt: skip
    mapped = FAMILIES[family].wrapper(mapped)
    expected, got = tensors(plain.hf), tensors(mapped.hf)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == got[name].dtype, name
        assert torch.equal(tensor, got[name]), name


def test_tied_embeddings_stay_one_weight(tmp_path: Path) -> None:
    hf = llava().hf
    hf.config.tie_word_embeddings = hf.config.get_text_config().tie_word_embeddings = True
    hf.tie_weights()
    hf.save_pretrained(tmp_path)
    for device in (CPU, ELSEWHERE):
        loaded = load_model("llava", str(tmp_path), device=device).hf
        assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and buffers by name, those that no checkpoint has among them."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.mark.parametrize("kind", ["blip2", "minigpt4"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_q_former_keeps_every_digit_in_half_precision(
    kind: str, dtype: Any, folders: dict[str, str]
) -> None:
    """Rounded weights would not come back by making them float32 again."""
    whole = load_model(kind, folders[kind], dtype="float32").hf
    half = load_model(kind, folders[kind], dtype=dtype)
    assert half.dtype == getattr(torch, dtype)
    names = [name for name in tensors(whole) if name.startswith(("qformer.", "query_tokens"))]
    assert names
    for name in names:
        assert torch.equal(tensors(half.hf)[name], tensors(whole)[name]), name
