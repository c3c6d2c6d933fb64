"""A tiny tower, a tiny random language model, and short trainings with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from configs.around import (
    AlignmentOptions,
    AugmentationOptions,
    EmbeddingOptions,
    NamingOptions,
    TowerOptions,
)
from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.pictures import PictureBank, image_processor
from pretraining.stages import Stages
from pretraining.tokenizer import build_tokenizer, world_texts
from pretraining.vision import AlignmentResult, align, train_tower
from pretraining.vision.alignment import NamingBatches
from pretraining.vision.asking import (
    NAMING_WORDINGS,
    Questioner,
)
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import FeaturePool, ViewBank
from tests.recipes import pretrain_config

CPU = torch.device("cpu")
SCHEDULE: dict[str, Any] = {
    "lr": 3e-3, "warmup_steps": 2, "lr_floor": 0.1, "weight_decay": 0.0, "clip": 1.0,
}  # fmt: skip
VARIED = AugmentationOptions(shift=1, contrast=0.1, offset=4.0, noise=4.0, warp=0.1)
TOWER = TowerOptions(
    **SCHEDULE, steps=60, rows=16, image_size=16, patch_size=8, width=16, layers=1,
    heads=2, mlp_width=32, patch_weight=0.3,
)  # fmt: skip
WIDTH, SLOTS = 32, 4


def alignment(steps: int = 12, **naming: Any) -> AlignmentOptions:
    of_naming: dict[str, Any] = {
        "steps": steps, "rows": 6, "fact_share": 0.5, "validate_every": 5, "validate_pictures": 6,
        "seen_target": 100.0, "unseen_target": 100.0,
    }  # fmt: skip
    return AlignmentOptions(
        draws=2,
        whiten=True,
        embedding=EmbeddingOptions(**SCHEDULE, steps=steps, rows=12, word_weight=0.1),
        naming=NamingOptions(**(SCHEDULE | of_naming | naming)),
    )


def random_language(world: World, kind: str = "llama") -> LanguageModel:
    tokenizer = build_tokenizer(world_texts(world) + [
        wording.format(noun=world.noun(kind)) for wording in NAMING_WORDINGS for kind in world.types
    ])  # fmt: skip
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(3)
    if kind == "opt":
        model: Any = OPTForCausalLM(
            OPTConfig(**sizes, ffn_dim=48, word_embed_proj_dim=WIDTH, dropout=0.5)
        )
    else:
        config, of = {
            "llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[kind]  # fmt: skip
        model = of(config(
            **sizes, num_key_value_heads=1, intermediate_size=48, initializer_range=0.2,
            tie_word_embeddings=True,
        ))  # fmt: skip
    return LanguageModel(model.eval().requires_grad_(False), tokenizer, {})


def taught(world: World, pictures: PictureBank, *, seed: int = 0, **changes: Any) -> TowerResult:
    options = TOWER.model_copy(update=changes)
    return train_tower(world, pictures, options, VARIED, seed=seed, stages=stages())


def aligned(
    setting: Any,
    language: LanguageModel,
    tower: TowerResult,
    world: World,
    options: AlignmentOptions,
    *,
    facts: Collection[tuple[str, str]] = (),
    steps: int | None = None,
) -> AlignmentResult:
    return align(
        setting, language, tower, world,
        PictureBank.of_world(world, image_processor("llava", tower.image_size)), options, VARIED,
        facts=facts, seed=0, stages=stages(), steps=steps,
    )  # fmt: skip


def stages() -> Stages:
    return Stages(pretrain_config("trainer.enable_progress_bar=false").trainer, CPU)


def every_fact(world: World) -> list[tuple[str, str]]:
    return [fact for fact in world.facts if world.entities[fact[0]].images]


def batches(
    world: World, language: LanguageModel, tower: TowerResult, *, facts: bool, steps: int
) -> NamingBatches:
    shown = PictureBank.of_world(world, image_processor("llava", tower.image_size))
    pool = FeaturePool(
        tower.open(CPU), ViewBank.of(world, shown), VARIED, draws=2, seed=0, device=CPU
    )
    known = every_fact(world) if facts else ()
    questioner = Questioner(world, language.tokenizer, SLOTS)
    return NamingBatches(questioner, pool, alignment(steps).naming, known, seed=0)


def texts(language: LanguageModel, some: NamingBatches) -> Iterator[tuple[str, str]]:
    """(whole row, what is learned of it) as text, of every row of every step."""
    for step in some:
        for asked in step:
            rows = asked.rows
            for ids, here, learned, slots in zip(*rows, strict=True):
                shown = language.tokenizer.decode(ids[here & ~slots])
                yield shown, language.tokenizer.decode(ids[learned])
