"""The second moment of ROME's keys: the sum and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from editors.rome.moments import load_second_moment, save_second_moment, second_moments
from editors.rome.update import factored, unit_direction
from errors import ModelError, TmkeError
from models.deltas import Site
from models.editable import EditableModel
from tests.builders import text_model
from tests.disks import files_up_to
from tests.rome_cases import KINDS, model_and_encoder


def batches(*, left: bool = False) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for lengths in ((9, 4, 7), (5, 12)):
        ids = torch.randint(4, 90, (len(lengths), max(lengths)), generator=draw)
        steps = torch.arange(max(lengths))
        mask = torch.stack([steps >= max(lengths) - n if left else steps < n for n in lengths])
        found.append((ids, mask))
    return found


@torch.no_grad()
def slow_moment(model: EditableModel, site: Site) -> tuple[Tensor, int]:
    """One unpadded document at a time through transformers' own model."""
    keys: list[Tensor] = []
    handle = model.linear(site).register_forward_hook(
        lambda _module, args, _output: keys.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    for ids, mask in batches():
        for row, real in zip(ids, mask, strict=True):
            model.hf(input_ids=row[real][None])
    handle.remove()
    each = torch.cat(keys).double()
    total = torch.stack([torch.outer(key, key) for key in each]).sum(0)
    return total / len(each), len(each)


def moments_of(
    model: EditableModel, *sites: Site, times: int = 1
) -> tuple[list[tuple[Site, Tensor]], int]:
    """C of each site, and the tokens that it is of."""
    found, tokens = second_moments(model, sites, batches() * times)
    return list(found.items()), tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [0, 2])
def test_padding_does_not_count(kind: str, layer: int) -> None:
    model, _ = model_and_encoder(kind)
    site = Site(layer, "mlp_out")
    ((_, found),), tokens = moments_of(model, site)
    expected, count = slow_moment(model, site)
    assert tokens == count == 9 + 4 + 7 + 5 + 12
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("kind", ["llava", "gpt2"])
def test_several_layers_are_read_in_one_pass(kind: str) -> None:
    model, _ = model_and_encoder(kind)
    sites, passes = [Site(layer, "mlp_out") for layer in (2, 0, 1)], []
    handle = model.decoder.layers[0].register_forward_hook(lambda *_: passes.append(1))
    together, tokens = moments_of(model, *sites)
    handle.remove()
    assert (len(passes), tokens) == (len(batches()), 37)
    assert [site.layer for site, _ in together] == [0, 1, 2]
    for site, found in together:
        torch.testing.assert_close(found, moments_of(model, site)[0][0][1], rtol=1e-6, atol=1e-9)


def test_the_sum_is_kept_in_float64() -> None:
    model = text_model("llama").to(torch.bfloat16)
    ((_, found),), _ = moments_of(model, Site(1, "mlp_out"), times=50)
    ((_, once),), _ = moments_of(model, Site(1, "mlp_out"))
    torch.testing.assert_close(found, once, rtol=1e-12, atol=0)


def test_a_nearly_singular_moment_is_solved_in_float64() -> None:
    draw = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(40, 40, generator=draw, dtype=torch.float64))[0]
    sizes = torch.logspace(0, -9, 40, dtype=torch.float64)
    moment = directions @ torch.diag(sizes) @ directions.mT
    key = torch.randn(1, 40, generator=draw)
    exact = directions @ torch.diag(1 / sizes) @ directions.mT @ key[0].double()
    found = unit_direction(key, factored(moment))[0]
    assert found.dtype == torch.float32
    assert (found - exact / exact.norm()).abs().max() <= 1e-6
    rounded = torch.linalg.solve(moment.float(), key[0])
    assert (rounded / rounded.norm() - exact / exact.norm()).abs().max() > 1e-4


def test_a_file_is_taken_by_its_own_model_and_layer_alone(tmp_path: Path) -> None:
    model, other = text_model("llama"), text_model("llama", seed=1)
    path = tmp_path / "c.safetensors"
    moment = torch.rand(24, 24, dtype=torch.float64)
    save_second_moment(path, moment, facts={"model": model.fingerprint(), "layer": "1"})
    assert torch.equal(load_second_moment(str(path), model, 1), moment)
    with pytest.raises(ModelError, match=f"model {model.fingerprint()} instead of"):
        load_second_moment(str(path), other, 1)
    with pytest.raises(ModelError, match=r"layer 1 instead of 2.*--layer 2"):
        load_second_moment(str(path), model, 2)
    for tensors, message in (
        ({"second_moment": moment[:-1].clone()}, r"second_moment of shape \(23, 24\).*--layer 1"),
        ({"moment": moment}, r"has no second_moment; it has moment\. .*--layer 1"),
    ):
        save_file(tensors, path, {"model": model.fingerprint(), "layer": "1"})
        with pytest.raises(ModelError, match=message):
            load_second_moment(str(path), model, 1)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"cannot be read.*--layer 1"):
        load_second_moment(str(path), model, 1)
    with pytest.raises(ModelError, match=r"cannot be read.*analysis second_moment"):
        load_second_moment(str(tmp_path / "d"), model, 1)


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    path, facts = tmp_path / "moment.safetensors", {"model": "m", "layer": "0"}
    save_second_moment(path, torch.eye(4), facts=facts)
    before = path.read_bytes()
    with (
        files_up_to(4096),
        pytest.raises(TmkeError, match=r"moment\.\w+ cannot be written"),
    ):
        save_second_moment(path, torch.eye(64), facts=facts)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
