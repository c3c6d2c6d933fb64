"""Who is who in a language model: found for what is understood, refused by name for the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as hub
from torch.nn import functional as F
from transformers import AutoConfig

from errors import ModelError
from models.auto import AutoMLLM
from models.deltas import LowRankDelta, linear_shape, linear_weight
from models.folder import read_config
from models.pictures import PictureForm
from models.roles import find_roles
from models.sites import ROLES, Role
from tests.auto_cases import TEXT_LAYERS, around
from tests.builders import Prompt, rows_of

EXACT = {"atol": 5e-6, "rtol": 5e-5}
TEXT = TEXT_LAYERS | {"vocab_size": 97}
NO_HEAD_DIM = {k: v for k, v in TEXT.items() if k != "head_dim"}
FORM = PictureForm(None, "", 16, (), 5, (), {"image_sizes": torch.tensor([[16, 16]])})

UNDERSTOOD: dict[str, Any] = {
    "llama": lambda: hub.LlamaConfig(**TEXT),
    "qwen3": lambda: hub.Qwen3Config(**TEXT),
    "windows": lambda: hub.Qwen2Config(
        **TEXT, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "starcoder2": lambda: hub.Starcoder2Config(**NO_HEAD_DIM, use_bias=True),
    "phi3": lambda: hub.Phi3Config(**TEXT, pad_token_id=0),
    "glm4": lambda: hub.Glm4Config(**TEXT, pad_token_id=0),
    "gemma2": lambda: hub.Gemma2Config(
        **TEXT, sliding_window=4, query_pre_attn_scalar=8, final_logit_softcapping=None
    ),
}


@pytest.fixture(scope="module", params=UNDERSTOOD)
def model(request: pytest.FixtureRequest) -> AutoMLLM:
    return AutoMLLM(around(UNDERSTOOD[request.param]()), FORM)


def test_the_parts_make_up_the_plain_forward_and_its_gradients(model: AutoMLLM) -> None:
    draw = torch.Generator().manual_seed(0)
    prompts = [
        Prompt(tuple(torch.randint(6, 97, (length,), generator=draw).tolist()), 1 + edit % 2, edit)
        for edit, length in enumerate((9, 12, 7))
    ]
    rows = rows_of(prompts, extra=1)
    at, sites = rows.answers(), model.last_sites(2, list(model.decoder.sites))
    given = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask.long()}
    for layer in range(model.n_layers):
        found = model.suffix(model.prefix(rows, layer), at=at)
        torch.testing.assert_close(found, model.hf(**given).logits[at.row, at.position], **EXACT)
    deltas = {}
    for site in sites:
        d_in, d_out = linear_shape(model.linear(site))
        pairs = (torch.randn(3, 2, d, generator=draw) * 0.3 for d in (d_in, d_out))
        deltas[site] = LowRankDelta(*pairs)
    state = model.prefix(rows, 1)
    answers = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    factors, _ = model.capture(state, sites, at)
    for edit in range(3):
        mine = at.row == edit
        changed, graded = copy.deepcopy(model), copy.deepcopy(model)
        for site in sites:
            linear_weight(changed.linear(site)).add_(deltas[site].dense()[edit])
            graded.linear(site).get_parameter("weight").requires_grad_(True)
        expected = changed.hf(**given).logits[at.row, at.position]
        torch.testing.assert_close(answers[mine], expected[mine], atol=5e-5, rtol=5e-4)
        logits = graded.hf(**given).logits[at.row, at.position][mine]
        F.cross_entropy(logits, at.target[mine]).backward()
        for site in sites:
            part = factors[site]
            got = (part.delta[edit] * part.mask[edit][:, None]).mT @ part.x[edit]
            expected = graded.linear(site).get_parameter("weight").grad
            torch.testing.assert_close(got, expected, atol=5e-6, rtol=5e-4)


# Phi-3 has queries, keys and values in one matrix, and the gate in the MLP's first, as GLM-4 has.
MISSING: dict[str, set[Role]] = {
    "phi3": {"query", "key", "value", "mlp_gate"}, "glm4": {"mlp_gate"}, "starcoder2": {"mlp_gate"},
}  # fmt: skip


def roles_of(hf: Any) -> set[Role]:
    return set(find_roles(hf).sites)


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_roles_are_those_of_maps_that_do_one_thing(kind: str) -> None:
    with torch.device("meta"):
        hf = around(UNDERSTOOD[kind]())
    assert roles_of(hf) == set(ROLES) - MISSING.get(kind, set())


def test_an_attention_with_other_maps_in_it_is_left_alone() -> None:
    def attention(layer: int) -> Any:
        return hf.model.language_model.layers[layer].self_attn

    with torch.device("meta"):
        hf = around(hub.LlamaConfig(**TEXT))
        attention(2).gate = torch.nn.Linear(16, 16)
        assert roles_of(hf) == {"mlp_gate", "mlp_in", "mlp_out"}
        del attention(2).gate
        attention(1).q_proj = torch.nn.Linear(16, 32)  # queries, and a gate on what comes out
        assert roles_of(hf) == {"mlp_gate", "mlp_in", "mlp_out"}
        attention(1).q_proj = torch.nn.Identity()
        assert roles_of(hf) == set(ROLES) - {"query"}


NOT_UNDERSTOOD: dict[str, tuple[Any, str]] = {
    "parallel attention": (
        lambda: hub.Cohere2Config(**NO_HEAD_DIM, logit_scale=1.0),
        r"could not find the norm before the MLP and the MLP in Cohere2DecoderLayer\. Tried: "
        r"input_layernorm \+ post_attention_layernorm \(as Llama\).*There is: self_attn, mlp, "
        r"input_layernorm",
    ),
    "norms after the branches": (
        lambda: hub.Olmo2Config(**NO_HEAD_DIM),
        "the MLP in Olmo2DecoderLayer.*post_feedforward_layernorm",
    ),
    "experts": (
        lambda: hub.MixtralConfig(**TEXT, num_local_experts=2),
        r"the two linear maps of mlp \(MixtralSparseMoeBlock\) in MixtralDecoderLayer\. Tried: "
        "up_proj and down_proj, .*There is: .*experts",
    ),
    "experts in some layers": (
        lambda: hub.Qwen3MoeConfig(
            **TEXT, mlp_only_layers=[0], num_experts=2, moe_intermediate_size=8
        ),
        r"the two linear maps of mlp \(Qwen3MoeSparseMoeBlock\)",
    ),
    "scaled branches": (
        lambda: hub.GraniteConfig(**NO_HEAD_DIM, residual_multiplier=0.5),
        "scales layers or logits .*residual_multiplier=0.5",
    ),
    "capped logits": (
        lambda: hub.Gemma2Config(**TEXT),
        "final_logit_softcapping=30.0",
    ),
    "linear attention": (
        lambda: hub.Qwen3NextConfig(**TEXT, num_experts=0, linear_num_value_heads=2,
                                    linear_num_key_heads=2),
        "parts that are not understood: linear_attn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_refused_by_name(what: str) -> None:
    text, message = NOT_UNDERSTOOD[what]
    with torch.device("meta"):
        hf = around(text())
    with pytest.raises(ModelError, match=f"(?s)LlavaNextForConditionalGeneration.*{message}"):
        find_roles(hf)


def test_matrices_of_other_widths_are_refused() -> None:
    hf = around(hub.LlamaConfig(**TEXT))
    hf.model.language_model.layers[1].mlp.up_proj = torch.nn.Linear(16, 20)
    with pytest.raises(ModelError, match=r"two linear maps of mlp \(LlamaMLP\)"):
        find_roles(hf)


def test_pictures_inside_the_layers_are_refused() -> None:
    config = hub.Qwen3VLConfig(
        text_config=TEXT, vision_config={"depth": 2, "hidden_size": 16, "num_heads": 2}
    )
    with torch.device("meta"):
        hf = hub.Qwen3VLForConditionalGeneration(config)
    with pytest.raises(ModelError, match=r"Qwen3VLTextModel is given .*deepstack_visual_embeds"):
        AutoMLLM(hf, FORM)


def test_a_prompt_read_in_both_directions_is_refused() -> None:
    config = hub.PaliGemmaConfig(text_config=TEXT | {"model_type": "gemma"})
    config.vision_config.num_hidden_layers = 1
    with torch.device("meta"):
        hf = hub.PaliGemmaForConditionalGeneration(config)
    with pytest.raises(ModelError, match=r"PaliGemma.* whole prompt in both directions"):
        AutoMLLM(hf, FORM)


def test_an_argument_that_nobody_gives_is_refused() -> None:
    hf = around(hub.LlamaConfig(**TEXT))
    forward = type(hf.model).forward

    def forward_with_clock(self: Any, clock: Any = None, **given: Any) -> Any:
        return forward(self, **given)

    hf.model.forward = forward_with_clock.__get__(hf.model)
    with pytest.raises(ModelError, match="is given clock besides tokens and pixels"):
        AutoMLLM(hf, FORM)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (hub.GPT2Config(n_layer=1), "holds a 'gpt2' model, which sees no pictures"),
        (hub.Florence2Config(), "holds a 'florence2' model, an encoder-decoder"),
    ],
)
def test_folders_of_other_models_are_refused(config: Any, message: str, tmp_path: Any) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{message}.*model=auto accepts multimodal LLMs"):
        read_config("auto", str(tmp_path))


def test_a_family_with_a_class_of_its_own_is_named(root: Any) -> None:
    with pytest.raises(ModelError, match=r"'minigpt4' model, .* model\.family=minigpt4 reads it"):
        read_config("auto", str(root / "models" / "pretrained" / "minigpt4_tiny"))


def test_any_picture_model_passes(tmp_path: Any) -> None:
    hub.Qwen2VLConfig().save_pretrained(tmp_path)
    assert read_config("auto", str(tmp_path)) == AutoConfig.from_pretrained(tmp_path)
