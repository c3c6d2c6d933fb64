"""MiniGPT-4's original files: what stands in them, and what transformers calls it.

    --vit         eva_vit_g.pth                   EVA ViT-g, flat names
    --qformer     blip2_pretrained_flant5xxl.pth  {"model": Q-Former, query_tokens, ln_vision}
    --projection  prerained_minigpt4_7b.pth       {"model": llama_proj}; upstream spells it so

The original code loads all three with strict=False, so that a wrong file leaves random weights and
no message. Here a name is expected, on a fixed list of what is dropped, or refused. One is made:

    self_attn.qkv.bias = [q_bias, 0, v_bias]        the original has no bias on the keys
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from errors import ModelError, some_of

Tensors = dict[str, Tensor]

# The head, what only its training used, and nothing that any feature of BLIP-2 passes through.
_VIT_DROPPED = re.compile(r"(norm|fc_norm|head)\.|mask_token$")
_VIT_BLOCK = re.compile(r"blocks\.(\d+)\.")
# The half for text (it shares the self-attention), its embeddings and head, and the map into T5.
_QFORMER_DROPPED = re.compile(
    r"Qformer\.cls\.|t5_proj\.|Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\."
    r"|Qformer\.bert\.embeddings\.(word_embeddings|position_embeddings)\."
    r"|Qformer\.bert\.embeddings\.position_ids$"
)
_QFORMER_LAYER = re.compile(r"Qformer\.bert\.encoder\.layer\.(\d+)\.(crossattention\.)?")
_PROJECTION = {name: name for name in ("llama_proj.weight", "llama_proj.bias")}


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        option: where it belongs on the command line.
        what: in words.
        marker: a name that every file of the kind holds, and no other kind.
    """

    option: str
    what: str
    marker: str


VIT = FileKind("--vit", "an EVA ViT (eva_vit_g.pth)", "patch_embed.proj.weight")
QFORMER = FileKind(
    "--qformer", "a BLIP-2 Q-Former (blip2_pretrained_flant5xxl.pth)", "query_tokens"
)
PROJECTION = FileKind(
    "--projection", "MiniGPT-4's linear map (prerained_minigpt4_7b.pth)", "llama_proj.weight"
)
_LLAMA = FileKind("--vicuna (its folder)", "the weights of a Llama", "model.embed_tokens.weight")


@dataclass(frozen=True)
class Layout:
    """What tensors do not show; the defaults are those of MiniGPT-4.

    Attributes:
        vit_depth: blocks of the ViT; BLIP-2 leaves out the last one, and later ones are dropped.
    """

    vit_depth: int = 39
    vit_heads: int = 16
    qformer_heads: int = 12


@dataclass(frozen=True)
class Converted:
    """What one file gives, under transformers' names.

    Attributes:
        config: sizes read off them.
        dropped: the names that were read and are not used.
    """

    path: Path
    tensors: Tensors
    config: dict[str, Any]
    dropped: list[str]


def read_vit(path: Path, layout: Layout) -> Converted:
    """The ViT, without surplus blocks and head.

    Raises:
        ModelError: the file is unreadable, of another kind, or its names or shapes do not fit.
    """
    tensors = _of_kind(path, VIT)
    matches = [match for match in map(_VIT_BLOCK.match, tensors) if match]
    blocks = 1 + max((int(match[1]) for match in matches), default=-1)
    if not 1 <= layout.vit_depth <= blocks:
        raise ModelError(
            f"{path} has {blocks} ViT blocks, and --vit-depth asks for {layout.vit_depth}. Use the "
            "complete file, or name the depth of this one."
        )

    def surplus(name: str) -> bool:
        block = _VIT_BLOCK.match(name)
        return bool(_VIT_DROPPED.match(name)) or bool(block and int(block[1]) >= layout.vit_depth)

    renamed, dropped = _rename(path, tensors, _vit_names(layout.vit_depth), surplus)
    width, _, patch, _ = _shape(path, tensors, "patch_embed.proj.weight", 4)
    positions = _shape(path, tensors, "pos_embed", 3)[1]
    side = math.isqrt(positions - 1)
    if side**2 + 1 != positions:
        raise ModelError(
            f"{path}: pos_embed has {positions} positions; expected is one "
            "more than a square (class token and a square of patches)."
        )
    _check_heads(path, width, layout.vit_heads, "--vit-heads")
    config = {
        "hidden_size": width,
        "intermediate_size": _shape(path, tensors, "blocks.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": layout.vit_depth,
        "num_attention_heads": layout.vit_heads,
        "image_size": side * patch,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    return Converted(path, _join_biases(renamed), config, dropped)


def read_qformer(path: Path, layout: Layout) -> Converted:
    """Q-Former (its half for pictures), query tokens and ln_vision.

    Raises:
        ModelError: the file is unreadable, of another kind, or its names or shapes do not fit.
    """
    tensors = _of_kind(path, QFORMER)
    matches = [match for match in map(_QFORMER_LAYER.match, tensors) if match]
    layers = 1 + max((int(match[1]) for match in matches), default=-1)
    crossing = sorted({int(match[1]) for match in matches if match[2]})
    frequency = crossing[1] if len(crossing) > 1 else max(layers, 1)
    if crossing != list(range(0, layers, frequency)):
        raise ModelError(
            f"{path}: Q-Former layers {crossing} of {layers} have cross-attention; expected are "
            "layer 0 and every n-th one after it. The file is incomplete or of another model."
        )
    renamed, dropped = _rename(
        path,
        tensors,
        _qformer_names(layers, crossing),
        lambda name: bool(_QFORMER_DROPPED.match(name)),
    )
    _, queries, width = _shape(path, tensors, "query_tokens", 3)
    _check_heads(path, width, layout.qformer_heads, "--qformer-heads")
    layer = "Qformer.bert.encoder.layer.0"
    inner = _shape(path, tensors, f"{layer}.intermediate_query.dense.weight", 2)[0]
    vit_width = _shape(path, tensors, f"{layer}.crossattention.self.key.weight", 2)[1]
    config = {
        "num_query_tokens": queries,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": layout.qformer_heads,
        "cross_attention_frequency": frequency,
        "encoder_hidden_size": vit_width,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    return Converted(path, renamed, config, dropped)


def read_projection(path: Path) -> Converted:
    """The linear map from Q-Former to Llama; whatever else a training saved is dropped.

    Raises:
        ModelError: the file is unreadable, of another kind, or its names or shapes do not fit.
    """
    tensors = _of_kind(path, PROJECTION)
    renamed, dropped = _rename(path, tensors, _PROJECTION, lambda _name: True)
    llama, qformer = _shape(path, tensors, "llama_proj.weight", 2)
    return Converted(path, renamed, {"in_features": qformer, "out_features": llama}, dropped)


def load_pickle(path: Path, *, mmap: bool = False) -> Any:
    """What a torch file holds, as long as that is tensors, numbers, text and containers of them.

    Args:
        path: the file; none of its code is run.
        mmap: read tensors when they are used, where the file's format allows it.

    Raises:
        ModelError: there is no such file, it is damaged, or it holds objects.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file. Check the path.")
    try:
        mapped = mmap and zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged bytes can raise anything
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign:
            raise ModelError(
                f"{path} holds an object of {foreign[1]}, and only tensors, numbers, text and "
                "containers of them are read: an object would run code of the file. Use the "
                "authors' file, or save the tensors alone with torch.save."
            ) from error
        raise ModelError(
            f"{path} is damaged, incomplete or no torch file ({path.stat().st_size} bytes; "
            f"{type(error).__name__}). Fetch it again and compare its size with the source's."
        ) from error


def _of_kind(path: Path, kind: FileKind) -> Tensors:
    content = load_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]  # beside it: epoch, optimizer, options of the training
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path} holds a {type(content).__name__}; expected are named tensors.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"{path} holds values that are no tensors: {some_of(others)}. {kind.option} expects "
            f"{kind.what}."
        )
    if kind.marker not in content:
        raise ModelError(
            f"{kind.option} {path} has no {kind.marker}: it looks like {_described(content)}. "
            f"{kind.option} expects {kind.what}."
        )
    return content


def _described(tensors: Tensors) -> str:
    for kind in (VIT, QFORMER, PROJECTION, _LLAMA):
        if kind.marker in tensors:
            return f"{kind.what}, which belongs to {kind.option}"
    return f"none of MiniGPT-4's files (it has {some_of(list(tensors))})"


def _rename(
    path: Path, tensors: Tensors, names: Mapping[str, str], unused: Callable[[str], bool]
) -> tuple[Tensors, list[str]]:
    """The tensors under their new names, and the names of those that are dropped.

    Raises:
        ModelError: a tensor is missing, or has no new name and is not known to be unused.
    """
    missing = [name for name in names if name not in tensors]
    unknown = [name for name in tensors if name not in names and not unused(name)]
    wrong = [
        f"{kind}: {some_of(keys)}" for kind, keys in (("missing", missing), ("unknown", unknown))
        if keys
    ]  # fmt: skip
    if wrong:
        raise ModelError(
            f"the tensors of {path} are not those expected; {'; '.join(wrong)}. Nothing is left "
            "at random or guessed: use the authors' file."
        )
    return {new: tensors[old] for old, new in names.items()}, sorted(set(tensors) - set(names))


def _shape(path: Path, tensors: Tensors, name: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise ModelError(f"{path}: {name} is {shape}; expected are {dimensions} dimensions.")
    return shape


def _check_heads(path: Path, width: int, heads: int, option: str) -> None:
    if heads < 1 or width % heads:
        raise ModelError(
            f"{option} {heads} does not divide the width {width} of {path}. Give the number of "
            "heads that the model was trained with; the tensors do not show it."
        )


def _weight_and_bias(old: str, new: str) -> dict[str, str]:
    return {f"{old}.{kind}": f"{new}.{kind}" for kind in ("weight", "bias")}


def _vit_names(depth: int) -> dict[str, str]:
    names = {
        "cls_token": "vision_model.embeddings.class_embedding",
        "pos_embed": "vision_model.embeddings.position_embedding",
        **_weight_and_bias("patch_embed.proj", "vision_model.embeddings.patch_embedding"),
    }
    for number in range(depth):
        old, new = f"blocks.{number}", f"vision_model.encoder.layers.{number}"
        names |= {f"{old}.attn.{name}": f"{new}.self_attn.{name}" for name in _ATTENTION}
        for theirs, ours in _VIT_MODULES.items():
            names |= _weight_and_bias(f"{old}.{theirs}", f"{new}.{ours}")
    return names


_ATTENTION = ("qkv.weight", "q_bias", "v_bias")
_VIT_MODULES = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}  # fmt: skip


def _join_biases(tensors: Tensors) -> Tensors:
    joined = dict(tensors)
    for name in tensors:
        if name.endswith(".q_bias"):
            block = name.removesuffix("q_bias")
            query, value = joined.pop(name), joined.pop(f"{block}v_bias")
            joined[f"{block}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return joined


def _qformer_names(layers: int, crossing: list[int]) -> dict[str, str]:
    names = {
        "query_tokens": "query_tokens",
        **_weight_and_bias("ln_vision", "vision_model.post_layernorm"),
        **_weight_and_bias("Qformer.bert.embeddings.LayerNorm", "qformer.layernorm"),
    }
    for number in range(layers):
        old, new = f"Qformer.bert.encoder.layer.{number}", f"qformer.encoder.layer.{number}"
        for block in ("attention", "crossattention") if number in crossing else ("attention",):
            for role in ("query", "key", "value"):
                names |= _weight_and_bias(
                    f"{old}.{block}.self.{role}", f"{new}.{block}.attention.{role}"
                )
        for same in _qformer_layer(number in crossing):
            names |= _weight_and_bias(f"{old}.{same}", f"{new}.{same}")
    return names


def _qformer_layer(crosses: bool) -> list[str]:
    """What transformers calls as the original does."""
    outputs = ["attention.output", "output_query", *(["crossattention.output"] if crosses else [])]
    parts = [f"{name}.{part}" for name in outputs for part in ("dense", "LayerNorm")]
    return ["intermediate_query.dense", *parts]
