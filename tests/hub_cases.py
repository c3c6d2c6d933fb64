"""Folders of released multimodal LLMs as the hub has them, at small sizes and with random weights.

Every file has the released one's name and keys: config.json in the form of its time (Qwen's is
flat), weights under the names of the hub, the processor's files, the chat template, a byte-level
vocabulary with the family's own special tokens. Sizes, the token numbers that follow from a small
vocabulary, and sides of pictures are changed; `published` gives the configuration as it is.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.smolvlm import processing_smolvlm

from tests.hub_released import RELEASED, Json, Released
from tests.tokenizers_small import TEXT


def published(name: str) -> PretrainedConfig:
    """The configuration of a released model, at its size."""
    config = copy.deepcopy(RELEASED[name].config)
    return AutoConfig.for_model(config.pop("model_type"), **config)


def _merged(content: Json, changes: Json) -> Json:
    """A copy with changes, those of a section within it."""
    made = copy.deepcopy(content)
    for key, value in changes.items():
        inner = made.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        made[key] = _merged(inner, value) if both else value
    return made


def _vocabulary(special: tuple[str, ...]) -> Tokenizer:
    """Byte-level BPE over a few sentences, numbered from the special tokens on."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + 60,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _write_words(one: Released, folder: Path) -> Tokenizer:
    """The tokenizer's files, all that there are."""
    tokenizer = _vocabulary(one.special)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    numbers = {token: tokenizer.token_to_id(token) for token in one.special}
    added = {
        str(number): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for token, number in numbers.items()
    }  # fmt: skip
    _write(folder / "tokenizer_config.json", {**one.tokenizer, "added_tokens_decoder": added})
    _write(folder / "added_tokens.json", numbers)
    named = {k: v for k, v in one.tokenizer.items() if k.endswith("_token") and v}
    _write(folder / "special_tokens_map.json", named)
    return tokenizer


def _write(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1))


def small_config(name: str, tokenizer: Tokenizer) -> Json:
    """config.json of the same form at a small size."""
    one = RELEASED[name]
    size = tokenizer.get_vocab_size()
    numbers = {key: tokenizer.token_to_id(token) for key, token in one.named.items()}
    config = _merged(one.config, one.small)
    for place in (config, config.get("text_config", {})):
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if key in place:
                place[key] = 2
        if "vocab_size" in place:
            place["vocab_size"] = size
    return _merged(config, {**numbers, "torch_dtype": "float32"})


def videos_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolVLM2's processor asks for num2words, which words a video's prompt, before any picture."""
    if processing_smolvlm.num2words is None:
        monkeypatch.setattr(processing_smolvlm, "num2words", str)


def save(name: str, folder: Path, *, seed: int = 0) -> Path:
    """A small random model of a released one's form, as a folder that `hf download` would give."""
    one = RELEASED[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _write_words(one, folder)
    config = small_config(name, tokenizer)
    _write(folder / "config.json", config)
    for file, content in one.files.items():
        _write(folder / file, _merged(content, one.smaller.get(file, {})))
    if "generation_config.json" in one.files:
        _write(folder / "generation_config.json", {"eos_token_id": 2})
    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)  # wide enough to tell pictures apart
    kept, seen = {}, set()
    for key, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            continue  # tied weights are stored once
        seen.add(tensor.data_ptr())
        for pattern, replacement in one.weights:
            key, changed = re.subn(pattern, replacement, key)
            if changed:
                break
        kept[key] = tensor.contiguous()
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
