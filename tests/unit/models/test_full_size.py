"""The published models and the tabulated options of every editor, at full size without values.

Models lie on torch's meta device: every shape is there and takes no memory. What breaks only at
seven billion parameters (a layer that is not there, heads that do not divide a width, a picture of
another number of tokens, room for no edit at all) breaks here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.full_size import full_size
from configs.check import load_config
from editors import answer_descent, answering
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from editors.lora.editor import Lora
from editors.mend.editor import Mend
from editors.options import BaseFacts
from editors.rome.update import Factored, unit_direction
from editors.serac.counterfactual import build_counterfactual
from editors.serac.published import published_counterfactual, published_encoder
from editors.serac.scope import build_scope, kind_and_vocabulary
from editors.teaching import Teaching
from lightning_modules.scoring import _rows_at_once
from models.deltas import Site, linear_shape
from models.editable import EditableModel
from models.families import FAMILIES, without_weights
from models.multimodal import MultimodalModel
from models.rows import Answers, text_rows
from models.state import LayerState, PrefixState
from tests.editors import editor_options
from tests.tokenizers_small import opt_tokenizer

ROOT, META = Path(__file__).parent, torch.device("meta")
# Of `model=`: its family; width and inner width of an MLP.
MODELS = {
    "llava": ("llava", 4096, 11_008), "blip2_opt": ("blip2", 2560, 10_240),
    "minigpt4": ("minigpt4", 4096, 11_008),
}  # fmt: skip
LONGEST = 1024  # tokens of a row with demonstrations or a picture


@cache
def model_of(name: str) -> EditableModel:
    """The released model in bfloat16, as on a GPU."""
    family, *_ = MODELS[name]
    return without_weights(family, full_size(family), torch.bfloat16)


@cache
def options_of(name: str, editor: str) -> Any:
    """The options that a run of the paper's experiment has; of most editors those of their file."""
    if editor in ("ft", "ft_l", "ft_bf", "lora", "mend"):
        return editor_options(editor)
    given = ["experiment=tmke", f"model={name}", "model.path=owner/x", f"editor={editor}"]
    config: Any = load_config(
        "train" if editor == "serac" else "evaluate",
        [*given, f"data.root={ROOT}", "data.train_files=[x.json]", "output_dir=unused"],
    )
    return config.editor


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_takes_what_the_one_before_gives(name: str) -> None:
    model = model_of(name)
    _, width, _ = MODELS[name]
    embeddings = torch.empty(2, 64, width, dtype=torch.bfloat16, device=META)
    hidden = model.decoder.body(
        inputs_embeds=embeddings, use_cache=False,
        # What looks at no value: a finished mask, and positions.
        attention_mask=torch.empty(2, 1, 64, 64, dtype=torch.bfloat16, device=META),
        position_ids=torch.zeros(2, 64, dtype=torch.int64, device=META),
    ).last_hidden_state  # fmt: skip
    assert (hidden.shape, hidden.dtype) == (embeddings.shape, torch.bfloat16)
    logits = model.head_logits(hidden)
    assert (logits.shape, logits.dtype) == ((2, 64, kind_and_vocabulary(model)[1]), torch.float32)
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["llava", "minigpt4"])
def test_a_picture_is_as_many_tokens_as_its_family_says(name: str) -> None:
    """BLIP-2's own pass looks at values; its parts are MiniGPT-4's."""
    model = model_of(name)
    assert isinstance(model, MultimodalModel)
    family, width, _ = MODELS[name]
    side, slots = model.hf.config.vision_config.image_size, FAMILIES[family].slots
    assert slots is not None
    features = model.picture_features(torch.empty(2, 3, side, side, device=META))
    assert features.shape == (2, slots(model.hf.config), width)


@pytest.mark.parametrize(
    "editor", ["ft", "ft_as_run", "ft_l", "ft_bf", "lora", "rome", "mend", "ike"]
)
@pytest.mark.parametrize("name", MODELS)
def test_the_tabulated_options_fit(name: str, editor: str) -> None:
    text = model_of(name).hf.config.get_text_config()
    facts = BaseFacts(text.model_type, text.vocab_size, text.num_hidden_layers, text.hidden_size)
    options_of(name, editor).check_base(facts)


@pytest.mark.parametrize("editor", ["ft", "ft_as_run", "ft_l", "ft_bf"])
@pytest.mark.parametrize("name", MODELS)
def test_ft_has_room_for_an_edit(name: str, editor: str) -> None:
    """Its moves, gradients and moments are in single precision beside weights of two bytes."""
    model, options = model_of(name), options_of(name, editor)
    assert isinstance(options, FtOptions)
    sites = FineTune(options).sites(model)
    last = model.n_layers - 1 if options.layer is None else options.layer
    assert {site.layer for site in sites} == set(range(last + 1 - options.layers, last + 1))
    weights = [model.weight(site) for site in sites]
    (_, width, inner) = MODELS[name]
    assert {tuple(sorted(weight.shape)) for weight in weights} == {(width, inner)}
    assert_room(weights, model, sites)


@pytest.mark.parametrize("name", MODELS)
def test_lora_adapts_every_mlp(name: str) -> None:
    model = model_of(name)
    options = options_of(name, "lora")
    adapters = Lora(options).adapters(model)
    assert len(adapters) == 2 * model.n_layers
    for site, adapter in adapters.items():
        d_in, d_out = linear_shape(model.linear(site))
        assert adapter.a.shape == (options.rank, d_in)
        assert adapter.b.shape == (d_out, options.rank)
        assert adapter.a.dtype == adapter.b.dtype == torch.float32
    start = [tensor for each in adapters.values() for tensor in (each.a, each.b)]
    assert_room(start, model, list(adapters))


def assert_room(start: Sequence[torch.Tensor], model: EditableModel, sites: Sequence[Site]) -> None:
    """At least one edit fits into the memory set aside, and not by the floor of one alone."""
    layers = model.n_layers - 1 - min(site.layer for site in sites)
    _, width, _ = next(found for name, found in MODELS.items() if model is model_of(name))
    hidden = torch.empty(1, LONGEST, width, dtype=torch.bfloat16, device=META)
    needed = sum(16 * parameter.numel() for parameter in start)
    needed += answering.KEPT_VALUES * hidden.numel() * hidden.element_size() * layers
    assert needed <= model.budget.bytes
    state = PrefixState((LayerState(hidden, {}),), model.n_layers - 1 - layers)
    one = torch.zeros(1, dtype=torch.int64)
    teaching = Teaching(Answers(one, one, one, 1), one, 1, state)
    assert answer_descent.edits_at_once(model, start, teaching, sites) == min(
        answer_descent.MOST_AT_ONCE, model.budget.bytes // needed
    )


@pytest.mark.parametrize("name", MODELS)
def test_mend_has_a_network_for_each_shape(name: str) -> None:
    model, options = model_of(name), options_of(name, "mend")
    _, width, inner = MODELS[name]
    with META:
        editor = Mend(options, model)
    assert editor.first_layer(model) == 29
    assert sorted(editor.transforms) == sorted([f"{width}x{inner}", f"{inner}x{width}"])
    for network in editor.transforms.values():
        assert network.mlp.layers[0].v.shape == (1920, width + inner)
        assert network.mlp.layers[0].scale.shape == (3, width + inner)  # one row per edited layer
    # Two networks of two layers: U and V, a bias, scale and shift for each of three layers.
    networks = 2 * 2 * (width + inner) * (2 * 1920 + 1 + 2 * 3)
    assert sum(parameter.numel() for parameter in editor.parameters()) == networks + 6
    x = torch.empty(7, inner, device=META)
    delta = torch.empty(7, width, device=META)
    moved = editor.transforms[f"{inner}x{width}"].mlp(torch.cat([x, delta], -1), 2)
    assert moved.shape == (7, width + inner)


@pytest.mark.parametrize("name", MODELS)
def test_rome_s_layer_and_its_solve(name: str) -> None:
    model, options = model_of(name), options_of(name, "rome")
    _, width, inner = MODELS[name]
    site = Site(options.layer, "mlp_out")
    assert linear_shape(model.linear(site)) == (inner, width)
    keys = torch.empty(3, inner, dtype=torch.bfloat16, device=META)
    moment = Factored(
        torch.empty(inner, inner, dtype=torch.float64, device=META),
        torch.empty(inner, dtype=torch.int32, device=META),
    )
    direction = unit_direction(keys, moment)
    assert (direction.shape, direction.dtype) == ((3, inner), torch.float32)


@pytest.mark.parametrize("name", MODELS)
def test_serac_s_networks(name: str) -> None:
    model, options = model_of(name), options_of(name, "serac")
    kind, vocabulary = kind_and_vocabulary(model)
    published = "facebook/opt-125m" if name == "blip2_opt" else "JackFram/llama-160m"
    assert options.counterfactual.path == published
    assert published_counterfactual(kind, vocabulary) == published
    assert published_encoder(kind, vocabulary) == options.scope.encoder == "distilbert-base-cased"
    fresh = editor_options("serac", scope={"encoder": "fresh"}, counterfactual={"path": "fresh"})
    tokenizer = opt_tokenizer()
    with META:
        scope = build_scope(fresh.scope, model, tokenizer)
        counterfactual = build_counterfactual(fresh.counterfactual, model, tokenizer)
    _, width, _ = MODELS[name]
    ids = torch.zeros(2, 9, dtype=torch.int64, device=META)
    assert scope.encoder(input_ids=ids).last_hidden_state.shape == (2, 9, width)
    logits = counterfactual.lm(input_ids=ids).logits
    assert logits.shape == (2, 9, vocabulary)


@pytest.mark.parametrize("name", MODELS)
def test_every_position_is_compared_in_parts(name: str) -> None:
    """The logits of all positions of all rows would not fit."""
    model = model_of(name)
    ids = torch.zeros(64, LONGEST, dtype=torch.int64, device=META)
    assert 1 <= _rows_at_once(model, text_rows(ids)) < 64
    assert model.max_positions >= LONGEST
