"""MiniGPT-4's original files at tiny sizes, a tiny Vicuna for them, and the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from models.minigpt4.__main__ import main
from tests.tokenizers_small import llama_tokenizer


@dataclass(frozen=True)
class Originals:
    """A folder with the three files and their dimensions."""

    folder: Path

    @property
    def dims(self) -> dict[str, Any]:
        return json.loads((self.folder / "dims.json").read_text(encoding="utf-8"))

    @property
    def files(self) -> dict[str, Path]:
        """By their option."""
        patterns = {"vit": "*vit*.pth", "qformer": "blip2*.pth", "projection": "prerained*.pth"}
        found = {option: sorted(self.folder.glob(name)) for option, name in patterns.items()}
        assert all(len(paths) == 1 for paths in found.values()), f"{self.folder}: {found}"
        return {option: paths[0] for option, paths in found.items()}


def vicuna(
    folder: Path,
    width: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    safetensors: bool = True,
    **sizes: Any,
) -> Path:
    """A random Llama in a folder; `sizes` as in its configuration."""
    torch.manual_seed(0)
    tokenizer = tokenizer or llama_tokenizer()
    config = LlamaConfig(
        **{
            "vocab_size": len(tokenizer), "hidden_size": width, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
            "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.2,
        } | sizes
    )  # fmt: skip
    llama = LlamaForCausalLM(config)
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not safetensors:  # as early Vicunas are stored, with the buffers of early versions
        (folder / "model.safetensors").unlink()
        buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
        torch.save(llama.state_dict() | buffer, folder / "pytorch_model.bin")
    return folder


def convert(originals: Originals, llama: Path, output: Path, *words: str, **files: Path) -> int:
    """Runs the command line; `files` replace those of the originals."""
    dims = originals.dims
    paths = originals.files | files | {"vicuna": llama, "output": output}
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    return main(
        [
            "convert", *options, "--vit-depth", str(dims["vdepth"]), "--vit-heads",
            str(dims["vheads"]), "--qformer-heads", str(dims["qheads"]), *words,
        ]
    )  # fmt: skip
