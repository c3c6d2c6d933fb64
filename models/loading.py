"""Loading the weights of a base model from a local folder or a hub id, as they are or quantised."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from errors import ModelError, some_of
from models.editable import EditableModel
from models.families import family_of, without_weights
from models.folder import check_manifest, read_config
from models.placement import DISK, Limits, placement
from models.quantisation import (
    Quantise,
    bits_config,
    device_map,
    is_quantised,
    make_differentiable,
    wrong_shapes,
)
from models.unread import below, from_layer, read_when_needed, without
from models.unreadable import UNREADABLE, reason

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
log = logging.getLogger(__name__)
# What a damaged file, a wrong one, or bitsandbytes on a strange machine may raise.
_UNREADABLE = (*UNREADABLE, RuntimeError, ImportError, SafetensorError)


def load_model(
    family: str,
    path: str,
    *,
    revision: str | None = None,
    dtype: Dtype = "auto",
    attention: str = "sdpa",
    device: torch.device | None = None,
    quantise: Quantise | None = None,
    first_layer: int = 0,
    recorded: str | None = None,
    spread: bool = False,
    limits: Limits | None = None,
) -> EditableModel:
    """Loads a base model, frozen.

    Args:
        family: the model family, as in the model config.
        path: local folder or hub id.
        revision: commit of the hub repository.
        dtype: `auto` is bfloat16 on a GPU and float32 elsewhere.
        attention: transformers' attention implementation.
        device: where the weights go; None for the CPU.
        quantise: the decoder layers in 8 or 4 bits; None as they are stored.
        first_layer: layers below it, and what encodes pictures, are read once a pass needs them
            (`models.unread`); 0 reads everything. Of a family that `can_wait`; no such model is
            spread, of which all is in its place at once.
        recorded: with `first_layer`, the fingerprint of all weights where it is known; a pass that
            has the rest read makes sure of it.
        spread: whether a model that is larger than the device goes to several (`models.placement`).
        limits: bytes of weights by device, for a model that is spread.

    Raises:
        ModelError: files are missing, damaged or of another family, a weight would be left at its
            random initial value, the model cannot be quantised, or it cannot be spread.
    """
    config = read_config(family, path, revision)
    check_manifest(Path(path))
    entry, number_type = family_of(family), torch_dtype(dtype, device)
    quantisation = _quantisation(family, path, config, quantise, number_type)
    is_packed = bool(quantisation) or is_quantised(config)
    places = _placement(device, packed=is_packed)
    if spread:
        _check_plain(path, config)
        model = without_weights(family, config, number_type)
        of_parts = placement(model, device, limits, quantise=quantise)
        if len(of_parts) > 1:
            _check_offloading(path, of_parts)
            places, first_layer = {"device_map": of_parts}, 0
    arguments = {
        "revision": revision or "main",
        "dtype": number_type,
        "attn_implementation": attention,
        "generation_config": _ends(path, revision, config),
        **quantisation,
        **places,
    }
    if not first_layer:
        return entry.wrapper(_read(entry.hf, family, path, arguments))
    decoder_of = entry.wrapper.decoder_of  # type: ignore[attr-defined]
    upper = without(entry.hf, decoder_of, below(first_layer))
    model = entry.wrapper(_read(upper, family, path, arguments))

    def read_rest() -> nn.Module:
        rest = without(entry.hf, decoder_of, from_layer(first_layer))
        return entry.wrapper(_read(rest, family, path, arguments)).hf

    def check_whole() -> None:
        if recorded is not None and (whole := model.fingerprint()) != recorded:
            raise ModelError(
                f"the weights in {path!r} have fingerprint {whole}, and the cache's record of "
                f"these files says {recorded}: they were changed, and look as before by size and "
                "time. What this run took from the cache is of other weights. Begin again with "
                "cache=off, or after `python -m caching clear`."
            )

    model.recorded_fingerprint = recorded
    read_when_needed(model.hf, read_rest, check_whole)
    return model


def can_wait(family: str) -> bool:
    """Whether models of a family can be loaded from a decoder layer on."""
    return hasattr(family_of(family).wrapper, "decoder_of")


def _read(kind: Any, family: str, path: str, arguments: dict[str, Any]) -> PreTrainedModel:
    """A model of transformers with its weights.

    Raises:
        ModelError: they cannot be read, or do not fit.
    """
    try:
        hf, info = kind.from_pretrained(
            path,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # _check_complete refuses them, and names them
            **arguments,
        )
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"the weights in {path!r} cannot be loaded: a .bin file there holds more than tensors, "
            "and unpickling it could run any code. Fetch the safetensors files of this model."
        ) from error
    except _UNREADABLE as error:
        raise ModelError(f"the weights in {path!r} cannot be loaded: {reason(error)}") from error
    _check_complete({**info, "misshapen_keys": wrong_shapes(hf)}, family, path)
    make_differentiable(hf)
    return cast(PreTrainedModel, hf)


def _ends(path: str, revision: str | None, config: PretrainedConfig) -> GenerationConfig:
    """The tokens that end a generated answer, and nothing else of what a model says of that.

    Those of generation_config.json (Llama 3 and Qwen have several), else of config.json.
    """
    try:
        stored = GenerationConfig.from_pretrained(path, revision=revision or "main")
    except UNREADABLE as error:
        if (Path(path) / GENERATION_CONFIG_NAME).exists():
            log.warning(
                "%s in %s cannot be read (%s) A generated answer ends at the end token of "
                "config.json or of the tokenizer",
                GENERATION_CONFIG_NAME, path, reason(error),
            )  # fmt: skip
        stored = GenerationConfig.from_model_config(config)
    named = stored.eos_token_id
    ends = [end for end in (named if isinstance(named, list) else [named]) if type(end) is int]
    return GenerationConfig(eos_token_id=ends or None)


def _check_complete(info: dict[str, Any], family: str, path: str) -> None:
    """Refuses weights that leave a parameter at its random initial value; tells of any left over.

    `info` is what `from_pretrained(output_loading_info=True)` tells, and quantised weights of
    another shape, which it takes as they are.
    """
    missing = sorted(map(str, info.get("missing_keys", ())))
    shapes = [
        f"{name} {tuple(stored)} instead of {tuple(wanted)}"
        for name, stored, wanted in sorted(info.get("mismatched_keys", ()), key=str)
    ]
    shapes += sorted(map(str, info.get("misshapen_keys", ())))
    if missing or shapes:
        found = (("missing", missing), ("of another shape", shapes))
        listed = "; ".join(f"{kind}: {some_of(names)}" for kind, names in found if names)
        raise ModelError(
            f"the weights in {path!r} do not fit config.json and model.family={family}: {listed}. "
            "Such a weight would stay at its random initial value; use a complete checkpoint of "
            "this family."
        )
    if over := sorted(map(str, info.get("unexpected_keys", ()))):
        log.warning(
            "the weights in %r hold %d that the model of config.json has no place for, and they "
            "are left out: %s. Left over from a training they mean nothing; a bias, a layer or an "
            "adapter among them means that config.json is of another model.",
            path, len(over), some_of(over),
        )  # fmt: skip


def _quantisation(
    family: str,
    path: str,
    config: PretrainedConfig,
    quantise: Quantise | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Arguments by which `from_pretrained` quantises; none where it shall not."""
    if quantise is None:
        return {}
    if is_quantised(config):
        raise ModelError(
            f"model.quantise={quantise}, and the weights in {path!r} are stored quantised already "
            "(quantization_config in config.json). Set model.quantise=null to take them as they "
            "are, or give the folder of the unquantised model."
        )
    return {"quantization_config": bits_config(quantise, without_weights(family, config, dtype))}


def _check_plain(path: str, config: PretrainedConfig) -> None:
    if is_quantised(config):
        raise ModelError(
            f"model.device_map=auto, and the weights in {path!r} are stored quantised "
            "(quantization_config in config.json): how large a layer is, only their files know. "
            "Set model.device_map=null, or give the folder of the unquantised model."
        )


def _check_offloading(path: str, of_parts: Mapping[str, str | int]) -> None:
    """Weights on the disk are read from where they are stored, and nothing is written."""
    folder = Path(path)
    if DISK in of_parts.values() and folder.is_dir() and not [*folder.glob("*.safetensors")]:
        raise ModelError(
            f"model.device_map=auto leaves decoder layers on the disk, and {path!r} has no "
            "safetensors file, from which they could be read one by one. Fetch the safetensors "
            "files of this model, or raise model.max_memory so that it fits into memory."
        )


def _placement(device: torch.device | None, *, packed: bool) -> dict[str, Any]:
    """Arguments by which `from_pretrained` puts each weight where it stays as soon as it is read.

    Otherwise every process of a machine would first hold all weights in the machine's own memory. A
    map with the CPU in it is for quantised weights alone: others would count as offloaded there.
    """
    on_cpu = device is None or device.type == "cpu"
    return {} if on_cpu and not packed else {"device_map": device_map(device)}


def torch_dtype(dtype: Dtype, device: torch.device | None) -> torch.dtype:
    """The number type of the weights on a device."""
    if dtype == "auto":
        on_gpu = device is not None and device.type == "cuda"
        return torch.bfloat16 if on_gpu else torch.float32
    return getattr(torch, dtype)
