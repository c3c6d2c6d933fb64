"""Base models in 8 or 4 bits (bitsandbytes): the decoder layers alone, the rest as it is.

    8bit   LLM.int8 (Dettmers et al. 2022)     w ~ m c / 127   c: 8-bit integer, m: max |w| of a row
    4bit   QLoRA's NF4 (Dettmers et al. 2023)  w ~ m q[c]      q: 16 values, m: max |w| of 64

Vision tower, Q-Former, projection, embeddings and head keep `model.dtype`. Edits are added to a
layer's output by hooks, so quantised layers are edited as others are. Under LLM.int8 the input
columns that are computed in half precision are chosen over a batch, so that the last digits of an
answer may depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from errors import ModelError
from models.editable import EditableModel

Quantise = Literal["8bit", "4bit"]
# Of a quantised value: NF4's half byte and a float32 scale per 64; LLM.int8's scales are per row.
BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
# bitsandbytes' own packed form of NF4 takes output widths in steps of 32, and 64 inputs share m.
_OUT_STEP, _IN_STEP = 32, 64


def bits_config(quantise: Quantise, model: EditableModel) -> BitsAndBytesConfig:
    """What `from_pretrained` has to know to quantise the decoder layers and nothing else.

    Args:
        quantise: the kind.
        model: without weights, in the number type that it will compute in.

    Raises:
        ModelError: a layer has a size that cannot be packed in 4 bits.
    """
    hf, layers = model.hf, model.decoder.layers
    if quantise == "4bit":
        _check_sizes(layers)
    return BitsAndBytesConfig(
        load_in_8bit=quantise == "8bit",
        load_in_4bit=quantise == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=model.dtype,
        # A list replaces the default, which is to leave the head alone.
        llm_int8_skip_modules=unquantised_modules(hf, layers),
    )


def unquantised_modules(hf: nn.Module, layers: nn.Module) -> list[str]:
    """Full names of the largest modules that hold no decoder layer; a short name skips nothing."""
    path = next(name for name, module in hf.named_modules() if module is layers).split(".")
    names = []
    for depth, inside in enumerate(path):
        parent = ".".join(path[:depth])
        for name, _ in hf.get_submodule(parent).named_children():
            if name != inside:
                names.append(f"{parent}.{name}" if parent else name)
    return names


def is_quantised(config: Any) -> bool:
    """Whether a folder's weights are stored quantised, by its config.json."""
    return getattr(config, "quantization_config", None) is not None


def make_differentiable(hf: PreTrainedModel) -> None:
    """Keeps 4-bit layers in the form that autograd knows; before any forward pass.

    On CPUs with bfloat16 instructions the first pass without gradients repacks the weights for a
    kernel that autograd does not know: later gradients are wrong, and nothing says so.
    """
    for module in hf.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def wrong_shapes(hf: PreTrainedModel) -> list[str]:
    """Quantised weights of another shape than their layer's; loading compares dense ones alone."""
    wrong = []
    for name, module in hf.named_modules():
        if isinstance(module, nn.Linear) and not module.weight.is_floating_point():
            # The tensor of 4-bit weights is flat; their state knows the shape.
            state = getattr(module.weight, "quant_state", None)
            shape = tuple(module.weight.shape if state is None else state.shape)
            expected = (module.out_features, module.in_features)
            if shape != expected:
                wrong.append(f"{name}.weight {shape} instead of {expected}")
    return wrong


def device_map(device: torch.device | None) -> dict[str, str]:
    """Where weights go as they are read; quantised ones cannot be moved to a GPU later.

    The CPU is named too: without a map transformers takes a GPU where there is one.
    """
    return {"": "cpu" if device is None else str(device)}


def _check_sizes(layers: nn.Module) -> None:
    for name, module in layers.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        d_in, d_out = module.in_features, module.out_features
        if d_in % _IN_STEP or d_out % _OUT_STEP:
            raise ModelError(
                f"model.quantise=4bit: decoder layer {name} maps {d_in} to {d_out} dimensions, and "
                f"4-bit weights are packed for inputs in steps of {_IN_STEP} and outputs in steps "
                f"of {_OUT_STEP}. Use model.quantise=8bit or null for this model."
            )
