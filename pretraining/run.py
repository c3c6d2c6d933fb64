"""One pretraining run: from a world to a folder with a model that knows it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs.pretraining import PretrainOptions
from datamodules.world import World
from errors import DataError, ModelError
from pretraining.batches import TrainingBatches
from pretraining.build import build_tiny
from pretraining.edit_checks import ike_check, rome_check
from pretraining.evaluation import encoder_of, evaluate_tiny
from pretraining.findings import findings
from pretraining.model import match_scale
from pretraining.module import PretrainingModule
from pretraining.pictures import PictureBank, image_processor, normalise
from pretraining.samplers import Rows, StepSampler
from pretraining.saving import (
    missed_targets,
    round_to_half,
    save_tiny,
    world_summary,
)
from pretraining.texts import world_texts
from pretraining.tokenizer import world_tokenizer
from pretraining.trace import causal_trace

REJECTED = "rejected"
SCALE_PICTURES = 32
LOOK_EVERY, LOOK_AT = 250, 100  # steps between two looks, questions of a kind at each


def pretrain(
    world: World,
    settings: PretrainOptions,
    output_dir: Path,
    *,
    family: str = "llava",
    name: str = "llava_tiny",
    gate: bool = True,
    threads: int = 1,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Teach a fresh tiny model a world and save it.

    Args:
        world: what is taught; at least some of its entities need pictures.
        settings: the recipe.
        output_dir: gets weights (fp16), tokenizer, image processor and manifest.json.
        family: llava, blip2 or minigpt4.
        name: what the manifest calls the model.
        gate: refuse a model that misses the settings' targets.
        threads: CPU threads; the model is too small to gain from a second one.
        loggers: for the Trainer.
        callbacks: for the Trainer.
        progress_bar: for the Trainer.

    Returns:
        The manifest.

    Raises:
        DataError: the world has no pictures.
        ModelError: the targets are missed and `gate` is set; the model lies in
            `output_dir/rejected` then, and `output_dir` is otherwise as it was.
    """
    if not world.pictured:
        raise DataError(
            f"{world.root}: no entity of this world has a picture, and the model to teach looks at "
            "pictures. Add `images` to the entities in entities.json."
        )
    settings = settings.for_views(min(len(entity.seen) for entity in world.pictured))
    started, cpu = time.time(), time.process_time()
    tokenizer = world_tokenizer(world_texts(world), settings.max_positions)
    processor = image_processor(family, settings.image_size)
    pictures = PictureBank.of_world(world, processor)
    with _fast_on_cpu(threads):
        model = build_tiny(family, settings, tokenizer)
        milestones = Milestones(world, tokenizer, pictures, LOOK_EVERY)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=settings.total_steps,
            logger=list(loggers) or False,
            callbacks=[*callbacks, milestones],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress_bar,
            log_every_n_steps=10,
        )
        _train(trainer, model, world, settings, tokenizer, pictures)
        round_to_half(model)
        trained = time.time()
        assessed = assess(model, tokenizer, world, pictures)
    manifest = {
        "model": name,
        "world": world_summary(world),
        "settings": settings.model_dump(),
        **assessed,
        "seconds": {
            "training": round(trained - started, 1),
            "assessment": round(time.time() - trained, 1),
            "cpu": round(time.process_time() - cpu, 1),
        },
    }
    manifest["held"] = findings(manifest)
    missed = missed_targets(manifest["accuracy"], settings)
    manifest["targets_missed"] = missed
    rejected = gate and bool(missed)
    folder = output_dir / REJECTED if rejected else output_dir
    written = save_tiny(folder, model, tokenizer, processor, manifest)
    if rejected:
        raise ModelError(
            f"the taught model misses its targets: {'; '.join(missed)}. It was kept in {folder} "
            "for inspection. Train longer (steps), teach an easier world, or accept it with "
            "gate=false."
        )
    return written


def assess(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    pictures: PictureBank,
) -> dict[str, Any]:
    """All that the manifest says about what a model knows and how it can be edited."""
    return {
        "accuracy": evaluate_tiny(model, tokenizer, world, pictures),
        "causal_trace": causal_trace(model, tokenizer, world),
        "rome_check": {
            f"layer_{layer}": rome_check(model, tokenizer, world, layer=layer) for layer in (0, 1)
        },
        "ike_check": {
            f"demonstrations_{count}": ike_check(model, tokenizer, world, demonstrations=count)
            for count in (0, 4)
        },
    }


@contextmanager
def _fast_on_cpu(threads: int) -> Iterator[None]:
    """Few threads, and numbers too small to matter flushed to zero: within the block only."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


class Milestones(Callback):
    """Asks the model a sample of questions now and then, and logs the accuracies.

    Args:
        world, tokenizer, pictures: what to ask.
        every: steps between two looks.
    """

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerFast,
        pictures: PictureBank,
        every: int,
    ) -> None:
        self.world, self.tokenizer, self.pictures, self.every = world, tokenizer, pictures, every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Look when a multiple of `every` steps is done."""
        if trainer.global_step % self.every or not isinstance(pl_module, PretrainingModule):
            return
        found = evaluate_tiny(
            pl_module.model, self.tokenizer, self.world, self.pictures, limit=LOOK_AT, chains=False
        )
        pl_module.model.train()
        pl_module.log_dict(
            {f"val/{name}": found[name] for name in ("text", "seen", "unseen") if name in found},
            prog_bar=True,
        )


def _train(
    trainer: Trainer,
    model: PreTrainedModel,
    world: World,
    settings: PretrainOptions,
    tokenizer: PreTrainedTokenizerFast,
    pictures: PictureBank,
) -> None:
    """Teaches the model in place; it is in evaluation mode afterwards."""
    encoder = encoder_of(model, tokenizer)
    sampler = StepSampler(Rows(world, encoder, random.Random(settings.seed)), settings)
    module = PretrainingModule(model, tokenizer, world, sampler, settings)
    shown = [pictures.seen[entity.name][0] for entity in world.pictured[:SCALE_PICTURES]]
    match_scale(module.parts, normalise(torch.stack(shown)), module.slots.words)
    batches = TrainingBatches(sampler, pictures, settings, encoder.pad_id)
    trainer.fit(module, DataLoader(batches, batch_size=None, num_workers=0))
    model.eval()
