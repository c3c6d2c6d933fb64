"""Bases in 8 and 4 bits: what is quantised, and that edits and gradients do not suffer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Blip2Config, CLIPVisionConfig, LlamaConfig, LlavaConfig, OPTConfig

from configs.check import load_config
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.sources.folder import read_world
from datamodules.world import World, generate_world
from editors.base import Editor
from errors import ModelError
from models.deltas import Site, linear_weight
from models.editable import EditableModel
from models.families import family_of
from models.loading import load_model
from models.minigpt4 import MiniGPT4Config
from models.processor import load_processor
from models.quantisation import Quantise, device_map
from models.rows import EditBatch, Rows, RowText
from runner.assembly import make_encoder, open_model
from tests.builders import IMAGE_TOKEN, SLOTS, VOCABULARY, edit_batch
from tests.editors import fine_tune, lora, mend, rome
from tests.rome_cases import PREFIXES, batch_of
from tests.tokenizers_small import llama_tokenizer

FAMILIES = ("llava", "blip2", "minigpt4")
KINDS: tuple[Quantise, ...] = ("8bit", "4bit")
LAYERS, EDITED, WIDTH, INNER = 4, 3, 64, 192
# Least cosine of the captured gradients with those in float32, and relative error of the weights.
LEAST = {"8bit": 0.98, "4bit": 0.9}
ROUNDING = {"8bit": 0.02, "4bit": 0.15}
TWINS = {"llava": "llava_tiny", "blip2": "blip2_opt_tiny", "minigpt4": "minigpt4_tiny"}


def config_of(
    family: str,
    *,
    inner: int = INNER,
    vocabulary: int = VOCABULARY,
    image_token: int = IMAGE_TOKEN,
) -> Any:
    """Sizes that can be packed.

    Weights of a larger deviation make a random network amplify the rounding: at 0.2 the cosine of
    4-bit gradients falls to 0.6, with right derivatives of the rounded weights.
    """
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    small = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }  # fmt: skip
    seen = {**small, "image_size": 8, "patch_size": 4}
    llama = LlamaConfig(**sizes, intermediate_size=inner, initializer_range=0.05)
    if family == "llava":
        return LlavaConfig(
            vision_config=CLIPVisionConfig(**seen, projection_dim=16), text_config=llama,
            image_token_index=image_token, vision_feature_layer=-1, image_seq_length=SLOTS,
        )  # fmt: skip
    parts: dict[str, Any] = {
        "vision_config": seen, "qformer_config": {**small, "encoder_hidden_size": 16},
        "num_query_tokens": SLOTS, "image_token_index": image_token,
    }  # fmt: skip
    if family == "minigpt4":
        return MiniGPT4Config(**parts, text_config=llama)
    opt = OPTConfig(**sizes, ffn_dim=inner, word_embed_proj_dim=WIDTH, init_std=0.05)
    return Blip2Config(**parts, text_config=opt.to_dict())


def saved(family: str, folder: Path, **sizes: int) -> str:
    torch.manual_seed(0)
    family_of(family).hf(config_of(family, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: saved(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(autouse=True)
def _a_cpu_that_would_repack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer asks the CPU when it is made; here every CPU has bfloat16 instructions."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)


def packed(model: EditableModel) -> set[str]:
    found = (Linear4bit, Linear8bitLt)
    return {name for name, module in model.hf.named_modules() if isinstance(module, found)}


def gradients(model: EditableModel, rows: Rows) -> Tensor:
    """dL/dW of all matrices of the last layers, end to end, after a pass without gradients."""
    with torch.no_grad():
        model(rows)
    sites = model.last_sites(EDITED, list(model.decoder.sites))
    factors, _ = model.capture(model.prefix(rows, sites[0].layer), sites, rows.answers())
    return torch.cat(
        [
            torch.einsum("eno,eni->oi", one.delta * one.mask[..., None], one.x).flatten()
            for one in factors.values()
        ]
    )


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one, other, dim=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_dense_model(
    family: str, kind: Quantise, folders: dict[str, str]
) -> None:
    batch = edit_batch([1, 2, 3], pictures=True)
    rows = batch.rows.select(batch.edit_rows)
    dense = load_model(family, folders[family], dtype="float32")
    model = load_model(family, folders[family], dtype="float32", quantise=kind)
    expected = gradients(dense, rows)
    found = gradients(model, rows)
    assert torch.isfinite(found).all()
    assert 0.5 < float(found.norm() / expected.norm()) < 2
    assert LEAST[kind] <= cosine(found, expected) < 0.9999  # 1 would be the dense model itself


@pytest.mark.parametrize("family", FAMILIES)
def test_4_bit_gradients_are_exact_for_the_rounded_weights(
    family: str, folders: dict[str, str]
) -> None:
    batch = edit_batch([1, 2, 3], pictures=True)
    rows = batch.rows.select(batch.edit_rows)
    model = load_model(family, folders[family], dtype="float32", quantise="4bit")
    rounded = load_model(family, folders[family], dtype="float32")
    for name in packed(model):
        weight = linear_weight(model.hf.get_submodule(name))
        rounded.hf.get_submodule(name).weight.data.copy_(weight)
    assert cosine(gradients(model, rows), gradients(rounded, rows)) > 0.9999


@pytest.mark.parametrize("family", FAMILIES)
def test_4_bit_layers_are_not_repacked(family: str, folders: dict[str, str]) -> None:
    model = load_model(family, folders[family], quantise="4bit")
    layers = [module for module in model.hf.modules() if isinstance(module, Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    batch = edit_batch([1])
    with torch.no_grad():
        model(batch.rows)
    assert not any(
        getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_decoder_layers_are_quantised_and_nothing_else(
    family: str, kind: Quantise, folders: dict[str, str]
) -> None:
    dense = load_model(family, folders[family], dtype="bfloat16")
    model = load_model(family, folders[family], dtype="bfloat16", quantise=kind)
    names = {module: name for name, module in dense.hf.named_modules()}
    inside = {names[m] for m in dense.decoder.layers.modules() if isinstance(m, nn.Linear)}
    assert packed(model) == inside
    weights = model.hf.state_dict()
    rest = {
        name: tensor
        for name, tensor in dense.hf.state_dict().items()
        if name.removesuffix(".weight") not in inside
    }
    assert rest
    for name, tensor in rest.items():
        assert torch.equal(weights[name], tensor), name
        assert weights[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("kind", KINDS)
def test_dense_weights_can_be_had(kind: Quantise, folders: dict[str, str]) -> None:
    site = Site(LAYERS - 1, "mlp_out")
    expected = linear_weight(load_model("blip2", folders["blip2"]).linear(site))
    linear = load_model("blip2", folders["blip2"], quantise=kind).linear(site)
    x = torch.randn(7, INNER, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the first pass moves things about inside 8-bit layers
        found = linear_weight(linear)
        assert found.shape == expected.shape
        assert 0 < float((found - expected).norm() / expected.norm()) < ROUNDING[kind]
        with torch.no_grad():
            assert cosine((linear(x) - linear.bias).flatten(), (x @ found.mT).flatten()) > 0.999


EDITORS: dict[str, Callable[[EditableModel], Editor]] = {
    "ft": lambda _: fine_tune(steps=10, optimizer="adamw", lr=1e-2, layers=2, weight_decay=0.1),
    "ft of the last layer": lambda _: fine_tune(steps=10, lr=1e-2),
    "lora": lambda _: lora(rank=4, alpha=8, steps=10, lr=1e-2, layers=2),
    "mend": lambda model: mend(
        model, layers=2, rank=8, normalise=False, edit_lr=1e-2, sign="descent"
    ),
}


def losses(model: EditableModel, editor: Editor, batch: EditBatch) -> tuple[float, float]:
    """NLL of the edits' own answers after and before the edit."""
    at = batch.rows.answers()
    state = model.prefix(batch.rows, editor.first_layer(model))
    with torch.no_grad():
        pre = model.suffix(state, at=at)
    post = editor.edit(model, batch, state).answer(model, batch.rows, state, at).detach()
    own = torch.isin(at.row, batch.edit_rows)
    one, other = (float(F.cross_entropy(logits[own], at.target[own])) for logits in (post, pre))
    return one, other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EDITORS)
def test_editors_edit_quantised_layers(name: str, kind: Quantise, folders: dict[str, str]) -> None:
    """The answer's loss falls as it does in the dense model, and the base stays as it was."""
    batch = edit_batch([1, 2, 3], pictures=True)
    model = load_model("llava", folders["llava"], quantise=kind)
    dense = load_model("llava", folders["llava"])
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    torch.manual_seed(0)
    post, pre = losses(model, EDITORS[name](model), batch)
    torch.manual_seed(0)
    dense_post, dense_pre = losses(dense, EDITORS[name](dense), batch)
    assert dense_post < dense_pre
    assert (pre - post) / (dense_pre - dense_post) == pytest.approx(1, abs=0.25)
    after = model.hf.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_rome_edits_quantised_layers(kind: Quantise, tmp_path: Path) -> None:
    tokenizer = llama_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<image>")
    path = saved("llava", tmp_path, vocabulary=len(tokenizer), image_token=image)
    encoder = PromptEncoder(tokenizer, PictureLayout(SLOTS, image))
    batch = batch_of(encoder, [0, 1, 2])
    editor = rome(encoder, PREFIXES, layer=1, steps=7, lr=0.5, weight_decay=0.1, clamp=3.0, kl=0.5)
    post, pre = losses(load_model("llava", path, quantise=kind), editor, batch)
    dense_post, dense_pre = losses(load_model("llava", path), editor, batch)
    assert dense_post < dense_pre
    assert (pre - post) / (dense_pre - dense_post) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("family", TWINS)
def test_a_twin_s_4_bit_gradients_on_text_of_a_world(
    family: str, root: Path, tmp_path: Path
) -> None:
    folder = str(root / "models/pretrained" / TWINS[family])
    drawn = generate_world(tmp_path / "world", size=8, cities=8, seen_views=1, unseen_views=1)
    world = World.load(drawn, seed=0)
    records = read_world(world, name="world").records("test")[:16]
    encoder = make_encoder(load_processor(family, folder), "default")
    texts = [RowText(r.knowledge_edit.question, r.knowledge_edit.answer_new) for r in records]
    encoded = [encoder.encode(text.question, text.answer) for text in texts]
    rows = encoder.rows(encoded, texts, edit_index=range(len(texts)))
    expected, found = (
        gradients(load_model(family, folder, dtype="float32", quantise=kind), rows)
        for kind in (None, "4bit")
    )
    assert 0.95 <= cosine(found, expected) < 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_tells_a_quantised_base_and_not_its_type(
    kind: Quantise, folders: dict[str, str], tmp_path: Path
) -> None:
    family_of("llava").hf.from_pretrained(folders["llava"], dtype=torch.bfloat16).save_pretrained(
        tmp_path
    )
    folder = str(tmp_path)
    single = load_model("llava", folder, dtype="float32", quantise=kind)
    whole = single.fingerprint()
    with torch.no_grad():
        single(edit_batch([1]).rows)
    assert single.fingerprint() == whole
    assert load_model("llava", folder, dtype="bfloat16", quantise=kind).fingerprint() == whole
    assert load_model("llava", folder).fingerprint() != whole
    other = "4bit" if kind == "8bit" else "8bit"
    assert load_model("llava", folder, quantise=other).fingerprint() != whole
    changed = load_model("llava", folder)
    changed.linear(Site(0, "mlp_in")).weight.data.mul_(1.1)
    changed.hf.save_pretrained(tmp_path / "changed")
    again = load_model("llava", str(tmp_path / "changed"), dtype="float32", quantise=kind)
    assert again.fingerprint() != whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_weight_is_seen(kind: Quantise, folders: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(folders["llava"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(key for key in weights if key.endswith("layers.1.mlp.up_proj.weight"))
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing: .*layers\.1\.mlp\.up_proj\.weight"):
        load_model("llava", str(tmp_path), quantise=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_another_shape_is_seen(
    kind: Quantise, folders: dict[str, str], tmp_path: Path
) -> None:
    """from_pretrained quantises it as it is."""
    shutil.copytree(folders["llava"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 2 * INNER
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"down_proj\.weight \(64, 192\) instead of \(64, 384\)"):
        load_model("llava", str(tmp_path), quantise=kind)


def test_a_layer_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    path = saved("llava", tmp_path, inner=168)
    message = r"model\.quantise=4bit: decoder layer 0\.mlp\.\w+_proj maps 64 to 168 dimensions"
    with pytest.raises(ModelError, match=message):
        load_model("llava", path, quantise="4bit")
    load_model("llava", path, quantise="8bit")


def test_a_folder_that_is_quantised_already(folders: dict[str, str], tmp_path: Path) -> None:
    made = load_model("llava", folders["llava"], dtype="float32", quantise="4bit")
    made.hf.save_pretrained(tmp_path)
    again = load_model("llava", str(tmp_path), dtype="float32")
    assert again.fingerprint() == made.fingerprint()
    batch = edit_batch([1, 2])
    assert torch.equal(gradients(again, batch.rows), gradients(made, batch.rows))
    with pytest.raises(ModelError, match=r"stored quantised already.*model\.quantise=null"):
        load_model("llava", str(tmp_path), quantise="8bit")


def test_the_option_reaches_the_model(root: Path) -> None:
    path = root / "models/pretrained/llava_tiny"
    words = ["editor=none", "model=llava_tiny", f"model.path={path}", "model.quantise=8bit"]
    model = open_model(load_config("evaluate", words).model)
    assert isinstance(model.linear(Site(0, "mlp_in")), Linear8bitLt)


def test_the_cpu_is_named_where_there_is_a_gpu() -> None:
    """Without a map transformers would put a quantised model on it, whatever the trainer says."""
    assert device_map(None) == device_map(torch.device("cpu")) == {"": "cpu"}
    assert device_map(torch.device("cuda", 1)) == {"": "cuda:1"}
