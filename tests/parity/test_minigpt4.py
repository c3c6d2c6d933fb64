"""The conversion of MiniGPT-4 against what the authors' code computes from the same files.

A folder holds the original files at small sizes, their dimensions (dims.json) and, for some
pictures, what comes out of the ViT, of ln_vision, of the Q-Former and of the linear map
(golden.npz). Any `minigpt4*` folder in TMKE_GOLDEN is tested, whatever its sizes. The Llama below
is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from models.folder import check_manifest
from models.minigpt4 import MiniGPT4ForConditionalGeneration
from tests.minigpt4_cases import Originals, convert, vicuna
from tests.parity import vectors

pytestmark = pytest.mark.parity
PATTERN = "minigpt4*/dims.json"
STAGES = ("vit_raw", "ln_vision", "qformer", "llama_inputs")
TOLERANCE, ROUNDING = 1e-5, 1e-6  # absolute; and float32's own, since the ViT's values are large


def test_vectors_are_there() -> None:
    vectors.assert_shipped(PATTERN)


@dataclass(frozen=True)
class Converted:
    originals: Originals
    vicuna: Path
    folder: Path

    @property
    def model(self) -> MiniGPT4ForConditionalGeneration:
        return MiniGPT4ForConditionalGeneration.from_pretrained(self.folder).eval()

    def golden(self, name: str) -> Tensor:
        return torch.from_numpy(np.load(self.originals.folder / "golden.npz")[name])


def folders() -> list[object]:
    found = [pytest.param(path.parent, id=path.parent.name) for path in vectors.files(PATTERN)]
    return list(found) or vectors.parameters(PATTERN)  # a skip that says so


@pytest.fixture(scope="module", params=folders())
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    originals = Originals(request.param)
    made = tmp_path_factory.mktemp("minigpt4")
    llama = vicuna(made / "vicuna", originals.dims["llama"])
    words = ("--vicuna-version", "any", "--dtype", "float32")
    assert convert(originals, llama, made / "model", *words) == 0
    return Converted(originals, llama, made / "model")


@torch.no_grad()
def stages(model: MiniGPT4ForConditionalGeneration, pixels: Tensor) -> dict[str, Tensor]:
    """What the converted model computes at each place that the vectors know."""
    seen: dict[str, Tensor] = {}

    def norm(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        if "vit_raw" not in seen:  # transformers norms the class token once more
            seen["vit_raw"], seen["ln_vision"] = args[0], output

    def features(_module: object, _args: object, output: Any) -> None:
        seen["qformer"] = output.last_hidden_state

    hooks = [
        model.vision_model.post_layernorm.register_forward_hook(norm),
        model.qformer.register_forward_hook(features),
    ]
    seen["llama_inputs"] = model.get_image_features(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def test_every_stage(converted: Converted) -> None:
    ours = stages(converted.model, converted.golden("pixel_values"))
    assert set(ours) == set(STAGES)
    for name in STAGES:
        theirs = converted.golden(name)
        torch.testing.assert_close(ours[name], theirs, atol=TOLERANCE, rtol=ROUNDING)


def test_eps_of_the_norms(converted: Converted) -> None:
    """The vectors do not tell ln_vision's 1e-5 from 1e-6."""
    model = converted.model
    assert model.vision_model.post_layernorm.eps == 1e-5
    assert {b.layer_norm1.eps for b in model.vision_model.encoder.layers} == {1e-6}
    assert model.qformer.layernorm.eps == 1e-12


@torch.no_grad()
def test_text_alone_is_the_llama(converted: Converted) -> None:
    bare = LlamaForCausalLM.from_pretrained(converted.vicuna).eval()
    ids = torch.randint(0, bare.config.vocab_size, (3, 9), generator=torch.manual_seed(1))
    ours, theirs = converted.model(input_ids=ids).logits, bare(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert float(theirs.std()) > 0


def test_sizes_are_read_off_the_tensors(converted: Converted) -> None:
    config, dims = converted.model.config, converted.originals.dims
    vision, qformer = config.vision_config, config.qformer_config
    assert (vision.image_size, vision.patch_size) == (dims["img"], dims["patch"])
    assert (vision.hidden_size, vision.num_hidden_layers) == (dims["vdim"], dims["vdepth"])
    assert vision.intermediate_size == int(dims["vdim"] * dims["mlp_ratio"])
    assert (qformer.hidden_size, qformer.num_hidden_layers) == (dims["qdim"], dims["qlayers"])
    assert (qformer.intermediate_size, qformer.encoder_hidden_size) == (dims["qint"], dims["vdim"])
    assert (config.num_query_tokens, config.text_config.hidden_size) == (dims["nq"], dims["llama"])


def test_the_folder_is_whole(converted: Converted) -> None:
    check_manifest(converted.folder)
    assert not [p for p in converted.folder.parent.iterdir() if p.name.startswith(".")]
