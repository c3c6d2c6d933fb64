"""A tiny random language model and a world of a dozen entities, for what is built around one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.around import AdaptationOptions
from configs.check import load_config
from configs.schema import PretrainConfig
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.world import World, generate_world
from models.language_model import LanguageModel, open_language_model
from tests.local_models import save_language

# Sizes of a recipe that is done in seconds.
FEW = (
    "recipe.adaptation.steps=3", "recipe.adaptation.rows=5", "recipe.adaptation.own_texts=3",
    "recipe.adaptation.own_tokens=9", "recipe.adaptation.own_rows=2", "recipe.tower.steps=3",
    "recipe.tower.rows=8", "recipe.tower.image_size=32", "recipe.tower.patch_size=16",
    "recipe.tower.width=24", "recipe.tower.heads=2", "recipe.tower.layers=1",
    "recipe.tower.mlp_width=32", "recipe.alignment.draws=2", "recipe.alignment.embedding.steps=3",
    "recipe.alignment.naming.steps=3", "recipe.alignment.naming.rows=4",
)  # fmt: skip


def small_world(folder: Path) -> World:
    """Five companies, five landmarks, five people and four cities."""
    return World.load(
        generate_world(folder, size=5, cities=4, seen_views=3, unseen_views=1), seed=0
    )


def tiny_language(folder: Path, kind: str = "llama") -> LanguageModel:
    """A random one, opened as users' own are."""
    if not folder.is_dir():
        save_language(kind, folder)
    return open_language_model(str(folder))


def words(world: Path, language: Path, output: Path) -> list[str]:
    """The command line of a run that takes seconds."""
    return [
        "model=smollm_llava", f"language_model.path={language}", "data=folder",
        f"data.root={world}", f"output_dir={output}", "gate=false", "threads=1",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none", *FEW,
    ]  # fmt: skip


def around_config(*given: str) -> PretrainConfig:
    config = load_config("pretrain", given)
    assert isinstance(config, PretrainConfig)
    return config


def adaptation_options(**changes: Any) -> AdaptationOptions:
    recipe = around_config("model=smollm_llava", *FEW).recipe
    assert recipe is not None
    return AdaptationOptions(**recipe.adaptation.model_dump() | changes)


def text_of(encoder: PromptEncoder, ids: Sequence[int]) -> str:
    """What a row says, specials left out."""
    return str(encoder.tokenizer.decode(ids, skip_special_tokens=True))


def answered(row: Encoded, tokens: Sequence[int]) -> Encoded:
    """The prompt of a row with other tokens as its answer."""
    first = row.answer.index(True)
    prompt = row._replace(
        ids=row.ids[:first],
        answer=row.answer[:first],
        slots=row.slots[:first],
        offsets=row.offsets[:first],
    )
    return prompt.followed_by(tokens)
