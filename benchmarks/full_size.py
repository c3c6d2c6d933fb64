"""Time and memory of the editors on full-size models with random weights; no download is needed.

    python -m benchmarks.full_size llava minigpt4 --device cuda
    python -m benchmarks.full_size blip2 --device cpu --dtype bfloat16   (12 GB of memory, minutes)
    python -m benchmarks.full_size blip2 --device cpu --tiny             (a rehearsal, seconds)

One training step of MEND (tabulated networks), one edit by FT and one by ROME (tabulated settings,
but 25 steps of FT), and all questions of one record of the multimodal scenario. The number type is
that of `model.dtype=auto`: bfloat16 on a GPU, float32 elsewhere. The sizes are those of the
released models; the answers are noise, so no edit stops early.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    OPTConfig,
    PretrainedConfig,
)
from transformers import __version__ as transformers_version
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from configs.check import load_config
from configs.schema import EvaluateConfig, TrainConfig
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.scenarios import SCENARIOS, training_scenario
from datamodules.source import Split
from datamodules.sources.folder import read_world
from datamodules.world import World, generate_world
from editors.base import EditorInputs
from editors.objective import Objective
from editors.registry import build_editor
from models.editable import EditableModel
from models.families import family_of
from models.loading import Dtype, torch_dtype
from models.minigpt4 import MiniGPT4Config
from models.rows import EditBatch
from pretraining.tokenizer import build_tokenizer, world_texts
from results.provenance import peak_memory_bytes, reset_peak_memory
from runner import training

FAMILIES = ("llava", "minigpt4", "blip2")
FT_STEPS = 25
WEIGHTS = {"generality": 0.1, "portability": 0.1, "locality": 1.0, "reliability": 0.0, "image": 0.1}


def full_size(family: str) -> PretrainedConfig:
    """The configuration of the released model of a family.

    Args:
        family: llava (1.5, 7B), blip2 (OPT, 2.7B) or minigpt4 (7B).
    """
    if family == "llava":
        vision = CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
            image_size=336, patch_size=14, projection_dim=768,
        )  # fmt: skip
        return LlavaConfig(
            vision_config=vision,
            text_config=LlamaConfig(vocab_size=32064),
            image_token_index=32000,
            image_seq_length=576,
        )
    if family == "minigpt4":
        return MiniGPT4Config(text_config=LlamaConfig(vocab_size=32001))
    opt = OPTConfig(
        hidden_size=2560, ffn_dim=10240, num_hidden_layers=32, num_attention_heads=32,
        vocab_size=50304, word_embed_proj_dim=2560,
    )  # fmt: skip
    return Blip2Config(
        vision_config=Blip2VisionConfig().to_dict(),
        qformer_config=Blip2QFormerConfig().to_dict(),
        text_config=opt.to_dict(),
        image_token_index=50265,
    )


def shrink(config: PretrainedConfig) -> PretrainedConfig:
    """The same at a width of 64 and with few layers, for a rehearsal."""
    for part, layers in (("text_config", 32), ("vision_config", 2), ("qformer_config", 2)):
        sub = getattr(config, part, None)
        if sub is None:
            continue
        sub.update({"num_hidden_layers": layers, "hidden_size": 64, "num_attention_heads": 4})
        for name in ("intermediate_size", "ffn_dim"):
            if hasattr(sub, name):
                setattr(sub, name, 96)
        for name in ("num_key_value_heads", "head_dim", "word_embed_proj_dim"):
            if hasattr(sub, name):
                setattr(sub, name, {"num_key_value_heads": 4, "head_dim": 16}.get(name, 64))
    if hasattr(config, "qformer_config"):
        config.qformer_config.encoder_hidden_size = 64
    return config


def build(family: str, device: torch.device, dtype: torch.dtype, *, tiny: bool) -> EditableModel:
    """A model with random weights, made on the device where it stays."""
    config = shrink(full_size(family)) if tiny else full_size(family)
    with device:
        hf = family_of(family).hf._from_config(config, dtype=dtype)
    return family_of(family).wrapper(hf)


def encoder_of(model: EditableModel, world: World) -> PromptEncoder:
    """A prompt function with the family's picture slots; the words are the world's."""
    config, kind = model.hf.config, family_of(model.family)
    assert kind.slots is not None
    layout = PictureLayout(kind.slots(config), config.image_token_index, kind.before_bos)
    return PromptEncoder(build_tokenizer(world_texts(world)), layout)


def batch_of(
    model: EditableModel, world: World, encoder: PromptEncoder, scenario: str, split: Split
) -> EditBatch:
    """One edit of a small world with its probes or training questions, on the model's device."""
    size = model.hf.config.vision_config.image_size
    images = BlipImageProcessorPil(size={"height": size, "width": size})

    def pixels(image: Image.Image) -> Tensor:
        return torch.as_tensor(images(images=image, return_tensors="np")["pixel_values"][0])

    served = SCENARIOS[scenario]
    if split == "train":
        questions = Objective("text", WEIGHTS)
        served = training_scenario(served.name, "text", questions.probes)
    source = read_world(world, name="world", filter_known="none")
    data = EditDataModule(source, {split: served}, batch_size=1, eval_batch_size=1, limit=1)
    data.connect(encoder, ImageStore(pixels))
    data.setup()
    loader = data.train_dataloader() if split == "train" else data.test_dataloader()
    batch: EditBatch = next(iter(loader))
    return batch.to(model.device)


def measured(device: torch.device, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a piece of work and the peak memory in it, GB: weights and all that stands."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    reset_peak_memory(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, (peak_memory_bytes(device) or math.nan) / 1e9


def work_of(model: EditableModel, world: World) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    encoder = encoder_of(model, world)
    inputs = EditorInputs(encoder)
    text = batch_of(model, world, encoder, "unimodal", "test")
    pictures = batch_of(model, world, encoder, "multimodal", "test")

    def edit(*words: str) -> Callable[[], object]:
        cfg = load_config("evaluate", ["model=llava_tiny", "output_dir=unused", *words])
        assert isinstance(cfg, EvaluateConfig)
        editor = build_editor(cfg.editor, model, inputs)
        layer = editor.first_layer(model)
        return lambda: editor.edit(model, text, model.prefix(text.rows, layer))

    def judge() -> Tensor:
        with torch.no_grad():
            rows = model.encode_pictures(pictures.rows)
            state = model.prefix(rows, model.n_layers - 1)
            return model.suffix(state, at=rows.answers()).argmax(-1)

    return {
        "MEND, one training step": mend_step(model, world, encoder),
        f"FT, one edit of {FT_STEPS} steps": edit("editor=ft", f"editor.steps={FT_STEPS}"),
        "ROME, one edit": edit("editor=rome", "editor.contexts=[]"),
        f"the {len(pictures.rows)} questions of a record with pictures": judge,
    }


def mend_step(model: EditableModel, world: World, encoder: PromptEncoder) -> Callable[[], object]:
    """Forward, backward and Adam of the tabulated MEND over one edit."""
    cfg = load_config("train", ["model=llava_tiny", "output_dir=unused", "editor=mend"])
    assert isinstance(cfg, TrainConfig)
    module: Any = training.make_module(cfg, model, EditorInputs(encoder))
    module.to(model.device)
    batch = batch_of(model, world, encoder, "unimodal", "train")
    optimizer = torch.optim.Adam(module.editor.parameters(), lr=1e-6)

    def step() -> None:
        _, _, loss = module.edit_and_judge(batch)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Prints a table for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("families", nargs="+", choices=FAMILIES)
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--dtype", default="auto", choices=get_args(Dtype))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal at a width of 64")
    arguments = parser.parse_args()
    device: torch.device = arguments.device
    dtype = torch_dtype(arguments.dtype, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    if device.type == "cpu":
        name += f", {torch.get_num_threads()} threads"
    print(f"{date.today()}, torch {torch.__version__}, transformers {transformers_version}, {name}")
    with TemporaryDirectory() as folder:
        world = World.load(generate_world(Path(folder) / "world", size=8, seen_views=2))
        for family in arguments.families:
            torch.manual_seed(0)
            model = build(family, device, dtype, tiny=arguments.tiny)
            size = sum(p.numel() for p in model.hf.parameters())
            print(f"{family}: {size / 1e6:,.1f} M parameters in {model.dtype}")
            for what, work in work_of(model, world).items():
                work()  # what is done once, such as choosing kernels
                seconds, peak = measured(device, work)
                print(f"  {what:45s} {seconds:8.2f} s   {peak:6.1f} GB at most")
            del model, work


if __name__ == "__main__":
    main()
