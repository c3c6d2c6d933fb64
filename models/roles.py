"""Who is who in a multimodal LLM that no class of this project knows: found by structure.

Edits need the decoder layers and, in each, the norm that reads the residual stream before the MLP,
the MLP's two matrices, and what the MLP adds to the stream. A layer is recognised by the names of
*all* its parts: with one more norm or matrix than a known branch has, its formula is another one.
What is not recognised is refused by name, because a wrong guess would be a wrong edit.

Editors can do without a gate and without the maps of the attention: where these are fused into one,
or differ between layers, the decoder has no such role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from errors import ModelError
from models.decoder import Decoder
from models.deltas import linear_shape
from models.sites import MLP_ROLES, ROLES, Role

_NESTED = ("model", "language_model", "text_model", "decoder")
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "final_norm")
_BODY_PARTS = ("embed_tokens", "embedding_dropout")
_BODY_ARGUMENTS = (
    "input_ids", "attention_mask", "position_ids", "past_key_values", "inputs_embeds", "use_cache",
    "cache_position", "output_attentions", "output_hidden_states", "return_dict",
)  # fmt: skip
_MATRICES = (
    ("up_proj", "down_proj"), ("gate_up_proj", "down_proj"), ("fc1", "fc2"), ("c_fc", "c_proj"),
    ("dense_h_to_4h", "dense_4h_to_h"), ("w3", "w2"),
)  # fmt: skip
_GATES = ("gate_proj", "w1")
_PROJECTIONS: Mapping[Role, tuple[str, ...]] = {
    "query": ("q_proj",), "key": ("k_proj",), "value": ("v_proj",),
    "attention_out": ("o_proj", "out_proj"),
}  # fmt: skip
_FUSED = ("qkv_proj",)
# Factors between a layer and its stream, or between the head and the logits, that edits ignore.
_SCALES = (
    "logit_scale", "logits_scaling", "final_logit_softcapping", "residual_multiplier",
    "mlp_alpha_factor", "layernorm_mlp_alpha",
)  # fmt: skip


@dataclass(frozen=True)
class MLPBranch:
    """How a decoder layer adds its MLP to the residual stream x: x + after(mlp(before(x))).

    Attributes:
        norms: all norms of such a layer.
        before: the one that reads the stream.
        after: the one on the MLP's output, None without.
    """

    norms: frozenset[str]
    before: str
    after: str | None = None
    mlp: str = "mlp"

    def output(self, layer: Any, hidden: Tensor) -> Tensor:
        """What the MLP adds to the stream: (N, d) -> (N, d)."""
        added = getattr(layer, self.mlp)(getattr(layer, self.before)(hidden))
        return added if self.after is None else getattr(layer, self.after)(added)


BRANCHES = {
    "Llama": MLPBranch(
        frozenset({"input_layernorm", "post_attention_layernorm"}), "post_attention_layernorm"
    ),
    "Gemma 3": MLPBranch(
        frozenset({"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                   "post_feedforward_layernorm"}),
        "pre_feedforward_layernorm", after="post_feedforward_layernorm",
    ),
    "GLM-4V": MLPBranch(
        frozenset({"input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm",
                   "post_mlp_layernorm"}),
        "post_attention_layernorm", after="post_mlp_layernorm",
    ),
}  # fmt: skip


def find_roles(hf: PreTrainedModel) -> Decoder:
    """The parts of a multimodal LLM's language model, by role.

    Args:
        hf: a model of transformers' AutoModelForImageTextToText.

    Returns:
        The decoder; its `body` takes `inputs_embeds`.

    Raises:
        ModelError: a role could not be found, or a part is not understood.
    """
    name, text = type(hf).__name__, hf.config.get_text_config()
    body, layers = _body(hf, text)
    _check_scales(name, text)
    norm = _final_norm(name, body, layers)
    branch = _branch(name, layers[0])
    sites = _maps(name, layers[0], branch, text.hidden_size)
    for number, layer in enumerate(layers):
        same = _branch(name, layer) == branch
        maps = _maps(name, layer, branch, text.hidden_size) if same else {}
        if any(maps.get(role) != sites[role] for role in MLP_ROLES):
            raise ModelError(
                f"{name}: decoder layer {number} ({type(layer).__name__}) is built in another way "
                "than layer 0, and editors address all layers alike. Use another model."
            )
        sites = {role: sites[role] for role in sites if maps.get(role) == sites[role]}
    return Decoder(
        body=body,
        layers=layers,
        norm=norm,
        head=_head(name, hf, text),
        mlp_norm=branch.before,
        mlp=branch.output,
        sites=sites,
    )


def _missing(name: str, role: str, tried: Iterable[str], present: Iterable[str]) -> ModelError:
    return ModelError(
        f"{name}: could not find {role}. Tried: {', '.join(tried)}. There is: "
        f"{', '.join(present) or 'nothing'}. This model needs a class of its own: "
        "docs/add-a-model.md says what goes into it."
    )


def _body(hf: PreTrainedModel, text: PretrainedConfig) -> tuple[nn.Module, nn.ModuleList]:
    """The module that runs all decoder layers, and the layers."""
    name, tried = type(hf).__name__, []
    module: Any = hf.get_decoder()
    while isinstance(module, nn.Module):
        tried.append(type(module).__name__)
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) == text.num_hidden_layers:
                _check_body(name, module)
                return module, child
        module = next((getattr(module, n) for n in _NESTED if hasattr(module, n)), None)
    raise _missing(
        name,
        f"a list of {text.num_hidden_layers} decoder layers in the language model",
        tried,
        (f"{n} ({type(m).__name__})" for n, m in hf.named_children()),
    )


def _check_body(name: str, body: nn.Module) -> None:
    """Pictures must enter as embeddings alone: nothing may be added to them further up."""
    more = [p for p in named_arguments(body.forward) if p not in _BODY_ARGUMENTS]
    if more:
        raise ModelError(
            f"{name}: its language model {type(body).__name__} is given {', '.join(more)} besides "
            "token embeddings, so pictures act inside its layers as well. model=auto runs layers "
            "from embeddings, mask and positions alone; use another model."
        )


def _final_norm(name: str, body: nn.Module, layers: nn.ModuleList) -> nn.Module:
    parts = dict(body.named_children())
    norms = [part for part in _FINAL_NORMS if part in parts]
    if len(norms) != 1:
        raise _missing(name, f"the final norm of {type(body).__name__}", _FINAL_NORMS, parts)
    known = {*_BODY_PARTS, norms[0]}
    more = [
        part
        for part, module in parts.items()
        if part not in known and module is not layers and "rotary" not in part
    ]
    if more:
        raise ModelError(
            f"{name}: its language model {type(body).__name__} has parts that are not understood: "
            f"{', '.join(more)}. model=auto knows embeddings, rotary tables, layers and one final "
            "norm; docs/add-a-model.md says how to add a class."
        )
    return parts[norms[0]]


def _branch(name: str, layer: nn.Module) -> MLPBranch:
    """How a layer adds its MLP, known by all its parts."""
    parts = {part: type(module).__name__ for part, module in layer.named_children()}
    norms = {part for part, kind in parts.items() if "norm" in kind.lower()}
    kind = type(layer).__name__
    fitting = [
        branch for branch in BRANCHES.values() if branch.norms == norms and branch.mlp in parts
    ]
    if not fitting:
        raise _missing(
            name,
            f"the norm before the MLP and the MLP in {kind}",
            (f"{' + '.join(sorted(b.norms))} (as {model})" for model, b in BRANCHES.items()),
            parts,
        )
    known = norms | {fitting[0].mlp}
    more = [p for p, k in parts.items() if p not in known and not _harmless(p, k)]
    if more:
        raise ModelError(
            f"{name}: {kind} has parts that are not understood: {', '.join(more)}. Known besides "
            "norms and the MLP is one self-attention. Edits of such a layer would be wrong; "
            "docs/add-a-model.md says how to add a class."
        )
    return fitting[0]


def _harmless(part: str, kind: str) -> bool:
    attention = kind.endswith("Attention") and "cross" not in (part + kind).lower()
    return attention or "dropout" in kind.lower() or kind == "Identity"


def _maps(name: str, layer: nn.Module, branch: MLPBranch, width: int) -> dict[Role, str]:
    """Role -> name inside a layer of its linear map."""
    maps = _projections(layer, width) | _matrices(name, layer, branch, width)
    return {role: maps[role] for role in ROLES if role in maps}


def _projections(layer: nn.Module, width: int) -> dict[Role, str]:
    """The maps of the attention, where all of its linear maps are known; of fused ones the last."""
    attentions = [n for n, m in layer.named_children() if type(m).__name__.endswith("Attention")]
    if len(attentions) != 1:
        return {}
    (attention,) = attentions
    shapes = {
        part: linear_shape(module)
        for part, module in layer.get_submodule(attention).named_children()
        if isinstance(module, nn.Linear)
    }
    known = {role: [n for n in names if n in shapes] for role, names in _PROJECTIONS.items()}
    parts = {role: names[0] for role, names in known.items() if names}
    out, query = parts.get("attention_out"), parts.get("query")
    if set(shapes) - {*parts.values(), *_FUSED} or out is None or shapes[out][1] != width:
        return {}
    if any(shapes[part][0] != width for role, part in parts.items() if role != "attention_out"):
        return {}
    if query is not None and shapes[query][1] != shapes[out][0]:  # it makes a gate besides
        return {}
    return {role: f"{attention}.{part}" for role, part in parts.items()}


def _matrices(name: str, layer: nn.Module, branch: MLPBranch, width: int) -> dict[Role, str]:
    """The MLP's first and second linear map, and the gate where it stands beside the first."""
    mlp = layer.get_submodule(branch.mlp)
    linear = [part for part, module in mlp.named_children() if isinstance(module, nn.Linear)]
    shapes = {part: linear_shape(mlp.get_submodule(part)) for part in linear}
    for first, second in _MATRICES:
        if {first, second} <= set(linear) and not set(linear) - {first, second, *_GATES}:
            (d_in, inner), (back, d_out) = shapes[first], shapes[second]
            if (d_in, d_out) == (width, width) and inner in (back, 2 * back):
                gates = [gate for gate in _GATES if shapes.get(gate) == shapes[first]]
                parts: dict[Role, str] = {"mlp_in": first, "mlp_out": second}
                parts |= {"mlp_gate": gates[0]} if len(gates) == 1 else {}
                return {role: f"{branch.mlp}.{part}" for role, part in parts.items()}
    role = f"the two linear maps of {branch.mlp} ({type(mlp).__name__}) in {type(layer).__name__}"
    raise _missing(
        name,
        role,
        (f"{first} and {second}" for first, second in _MATRICES),
        (f"{part} ({type(module).__name__})" for part, module in mlp.named_children()),
    )


def _head(name: str, hf: PreTrainedModel, text: PretrainedConfig) -> nn.Module:
    head = hf.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.in_features != text.hidden_size:
        raise _missing(
            name,
            f"a head from width {text.hidden_size} to the vocabulary",
            ("get_output_embeddings()",),
            (f"{n} ({type(m).__name__})" for n, m in hf.named_children()),
        )
    return head


def _check_scales(name: str, text: PretrainedConfig) -> None:
    values = {key: getattr(text, key, None) for key in _SCALES}
    wrong = [f"{key}={value}" for key, value in values.items() if value not in (None, 1)]
    if wrong:
        raise ModelError(
            f"{name}: its language model scales layers or logits ({', '.join(wrong)}), which "
            "model=auto does not do. Use another model, or add a class (docs/add-a-model.md)."
        )


def named_arguments(function: Callable[..., Any]) -> list[str]:
    """What a function takes by name."""
    open_ended = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    parameters = signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind not in open_ended]


def layer_kinds(text: PretrainedConfig) -> Sequence[str]:
    """The kind of each decoder layer, where the configuration tells kinds apart."""
    return getattr(text, "layer_types", None) or [""] * text.num_hidden_layers
