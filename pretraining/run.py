"""One pretraining run: from a world to a folder with a model that knows it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs.pretraining import PretrainOptions
from configs.schema import PretrainConfig
from datamodules.world import World
from errors import ConfigError, DataError, ModelError
from models.families import family_of
from models.folder import MANIFEST
from models.loading import load_model
from models.processor import load_processor
from pretraining.accuracy import evaluate_tiny, sample_encoder
from pretraining.build import build_tiny
from pretraining.editing import findings, measure_editing
from pretraining.module import PretrainingModule
from pretraining.naming import NamingModule, NamingSampler
from pretraining.parts import match_scale
from pretraining.pictures import PictureBank, image_processor, normalise
from pretraining.reading import picture_reading
from pretraining.sampler import SampleBuilder, StepSampler
from pretraining.saving import (
    missed_targets,
    round_to_half,
    save_tiny,
    targets,
    world_summary,
    write_manifest,
)
from pretraining.tokenizer import build_tokenizer, world_texts
from results.files import REJECTED

SCALE_PICTURES = 32
VALIDATE_EVERY, QUESTIONS = 250, 100  # steps between two validations, questions of a kind in each


def pretrain(
    cfg: PretrainConfig,
    world: World,
    output_dir: Path,
    *,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Teach a fresh tiny model a world and save it.

    Args:
        cfg: family, recipe, and the data that the world was opened from.
        world: what is taught; at least some of its entities need pictures.
        output_dir: gets weights (fp16), tokenizer, image processor and manifest.json.
        loggers: for the Trainer.
        callbacks: for the Trainer.

    Raises:
        DataError: the world has no pictures.
        ModelError: the targets are missed and `cfg.gate` is set; the model lies in
            `output_dir/rejected` then, and `output_dir` is otherwise as it was.
    """
    if not world.pictured:
        raise DataError(
            f"{world.root}: no entity of this world has a picture, and the model to teach looks at "
            "pictures. Add `images` to the entities in entities.json."
        )
    options = cfg.pretrain.for_views(min(len(entity.seen) for entity in world.pictured))
    started, cpu = time.time(), time.process_time()
    tokenizer = build_tokenizer(
        world_texts(world, captions=options.by_naming), options.max_positions
    )
    processor = image_processor(cfg.model.family, options.image_size)
    pictures = PictureBank.of_world(world, processor)
    with _fast_on_cpu():
        model = build_tiny(cfg.model.family, options, tokenizer)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=options.total_steps,
            logger=list(loggers) or False,
            callbacks=[*callbacks, AccuracyCallback(world, tokenizer, pictures)],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=cfg.trainer.enable_progress_bar,
            log_every_n_steps=10,
        )
        train(trainer, model, world, options, tokenizer, pictures)
        round_to_half(model)
        trained = time.time()
        accuracy = evaluate_tiny(model, tokenizer, world, pictures)
        reading = picture_reading(model, tokenizer, world, pictures)
        missed = missed_targets(accuracy, options)
        rejected = cfg.gate and bool(missed)
        folder = output_dir / REJECTED if rejected else output_dir
        files = save_tiny(folder, model, tokenizer, processor)
        assessed = {"accuracy": accuracy, "reading": reading, **measure_editing(cfg, folder)}
    manifest = {
        "model": cfg.model.name,
        "world": world_summary(world),
        "settings": options.model_dump(),
        **assessed,
        "seconds": {
            "training": round(trained - started, 1),
            "assessment": round(time.time() - trained, 1),
            "cpu": round(time.process_time() - cpu, 1),
        },
        "held": findings(assessed),
        "targets_missed": missed,
        **files,
    }
    write_manifest(folder, manifest)
    if rejected:
        raise ModelError(
            f"the taught model misses its targets: {'; '.join(missed)}. It was kept in {folder} "
            "for inspection. Train longer (steps), teach an easier world, or accept it with "
            "gate=false."
        )
    return manifest


def reassess(cfg: PretrainConfig) -> dict[str, Any]:
    """Assess the model in the folder `model.path` anew and update its manifest.

    Raises:
        ConfigError: it was taught another world.
        ModelError: the folder holds no model of this project.
    """
    folder, family = Path(cfg.model.path), cfg.model.family
    model = load_model(family, cfg.model.path).hf
    tokenizer = load_processor(family, cfg.model.path).tokenizer
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"model.path={folder}: there is no {MANIFEST}, so it was not made here.")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    world = cfg.data.open_world()
    taught, summary = manifest["world"], world_summary(world)
    if any(taught[key] != summary[key] for key in ("entities", "facts", "pictured", "generator")):
        raise ConfigError(
            f"data={cfg.data.name}: {world.root} is not the world that {folder} was taught, which "
            f"has {taught['entities']} entities, {taught['facts']} facts and was drawn by "
            f"{taught['generator']}."
        )
    pictures = PictureBank.of_world(world, family_of(family).images.from_pretrained(folder))
    with _fast_on_cpu():
        manifest["accuracy"] = evaluate_tiny(model, tokenizer, world, pictures)
        manifest["reading"] = picture_reading(model, tokenizer, world, pictures)
        manifest |= measure_editing(_as_taught(cfg, manifest), folder)
    manifest["held"] = findings(manifest)
    write_manifest(folder, manifest)
    return manifest


def _as_taught(cfg: PretrainConfig, manifest: Mapping[str, Any]) -> PretrainConfig:
    """The configuration with the alignment that the model has."""
    alignment = manifest["settings"].get("alignment", cfg.pretrain.alignment)
    pretrain = cfg.pretrain.model_copy(update={"alignment": alignment})
    return cfg.model_copy(update={"pretrain": pretrain})


@contextmanager
def _fast_on_cpu() -> Iterator[None]:
    """One thread, since the model is too small to gain from a second, and denormals are zero."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


class AccuracyCallback(Callback):
    """Asks the model a sample of questions now and then, and logs the accuracies."""

    def __init__(
        self, world: World, tokenizer: PreTrainedTokenizerFast, pictures: PictureBank
    ) -> None:
        self.world, self.tokenizer, self.pictures = world, tokenizer, pictures

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Validates when a multiple of `VALIDATE_EVERY` steps is done."""
        if trainer.global_step % VALIDATE_EVERY or not isinstance(pl_module, PretrainingModule):
            return
        model = pl_module.model
        accuracy = evaluate_tiny(
            model, self.tokenizer, self.world, self.pictures, limit=QUESTIONS, chains=False
        )
        model.train()
        kinds = [kind for kind in targets(pl_module.options) if kind in accuracy]
        pl_module.log_dict({f"val/{kind}": accuracy[kind] for kind in kinds}, prog_bar=True)


def train(
    trainer: Trainer,
    model: PreTrainedModel,
    world: World,
    options: PretrainOptions,
    tokenizer: PreTrainedTokenizerFast,
    pictures: PictureBank,
) -> None:
    """Teaches the model in place; it is in evaluation mode afterwards."""
    module = make_module(model, world, options, tokenizer, pictures)
    first_views = [pictures.seen[entity.name][0] for entity in world.pictured[:SCALE_PICTURES]]
    match_scale(module.parts, normalise(torch.stack(first_views)), module.slots.words)
    trainer.fit(module, DataLoader(module.sampler, batch_size=None, num_workers=0))
    model.eval()


def make_module(
    model: PreTrainedModel,
    world: World,
    options: PretrainOptions,
    tokenizer: PreTrainedTokenizerFast,
    pictures: PictureBank,
) -> PretrainingModule:
    """What trains a model, by the alignment's recipe, with the sampler of its batches."""
    rng, encoder = random.Random(options.seed), sample_encoder(model, tokenizer)
    builder = SampleBuilder(world, encoder, rng)
    if not options.by_naming:
        sampler = StepSampler(builder, pictures, options)
        return PretrainingModule(model, tokenizer, world, sampler, options)
    captions = SampleBuilder(world, encoder, rng, captions=True)
    stages = NamingSampler(captions, builder, pictures, options)
    return NamingModule(model, tokenizer, world, stages, options)
