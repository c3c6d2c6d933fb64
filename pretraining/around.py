"""Builds a multimodal LLM around a language model that exists: RUN/parts and RUN/model.

    what it knows -> adapter, learned from the training half -> what it knows then
                  -> vision tower -> a projector for each alignment -> what is read from pictures

Liu et al. 2023 (LLaVA), stage 1, after a stage for the tower, whose pictures no pretrained one has
seen. A stage that is done is not repeated when the run goes on.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from configs.around import ALIGNMENTS, AlignmentName, RecipeOptions
from configs.schema import PretrainConfig
from datamodules.world import World
from errors import DataError, ModelError
from models.building import check_disk
from models.language_model import LanguageModel, LanguageSource, find_language_model
from models.llava_assembly import assemble, save_assembled
from models.parts_folder import Adapter, Parts, Tower, merge, write_parts
from pretraining.language.adaptation import adapt
from pretraining.language.facts import Fact
from pretraining.language.perplexity import PARAGRAPHS, Perplexity, perplexity, read_paragraphs
from pretraining.language.probing import After, Before, Probing, marks, table
from pretraining.pictures import PictureBank, image_processor
from pretraining.saving import PACKAGES, world_summary
from pretraining.stage_files import Computed, Done, StageFiles
from pretraining.stages import Stages
from pretraining.vision import TowerResult, align, measure_reading, reading_table, train_tower
from results.files import PARTS, REJECTED, STAGES

log = logging.getLogger(__name__)
MODEL, FAMILY = "model", "llava"
DEFAULT: AlignmentName = "naming"  # what RUN/model has where all are made


def find_parts_of(cfg: PretrainConfig, world: World) -> LanguageSource:
    """Looks at everything that a run needs, before anything is written or read at length.

    Raises:
        DataError: the world has no pictures, or nothing to learn from.
        ModelError: there is no such language model, or the disk is too small for what is made.
    """
    if not world.pictured:
        raise DataError(
            f"{world.root}: no entity of this world has a picture, and the model looks at "
            "pictures. Add `images` to the entities in entities.json."
        )
    assert cfg.language_model is not None
    told = cfg.language_model
    source = find_language_model(told.path, begin=told.begin_token)
    check_disk(Path(cfg.output_dir), source, Parts(Tower({}, {}, {}), {}))
    return source


def build_around(
    cfg: PretrainConfig, world: World, source: LanguageSource, folder: Path, stages: Stages
) -> dict[str, Any]:
    """Builds a model around a language model and writes its parts and itself.

    Args:
        cfg: with a recipe.
        world: whose facts it is asked, and whose pictures it learns to see.
        source: the language model, from `find_parts_of`.
        folder: of the run.
        stages: where it trains.

    Returns:
        The manifest of the model.

    Raises:
        DataError: the world has nothing to learn from.
        ModelError: a training diverged; or the targets are missed and `cfg.gate` is set, and the
            parts lie in `folder/rejected` then.
    """
    files = StageFiles(folder / STAGES, lambda: stages.done)
    run = Around(cfg, world, source.open(), files, stages)
    known = run.language_stages()
    tower = run.tower_stage()
    projectors = {name: run.alignment_stage(name, tower, known) for name in run.alignments}
    manifest = run.manifest(tower, projectors)
    parts = run.parts(tower, projectors, manifest)
    missed = run.missed_targets(projectors) if cfg.gate else []
    write_parts(folder / (REJECTED if missed else PARTS), parts, overwrite=True)
    if missed:
        raise ModelError(
            f"the taught model misses its targets: {'; '.join(missed)}. Its parts were kept in "
            f"{folder / REJECTED} for inspection. Train longer "
            "(recipe.alignment.naming.steps, recipe.tower.steps), or accept it with gate=false, "
            "which goes on from here with resume=true."
        )
    built = assemble(run.language, parts.tower, parts.projector_of(run.chosen))
    said = {**manifest, "alignment": run.chosen}
    return save_assembled(folder / MODEL, built, said, overwrite=True)


def summary_tables(manifest: Mapping[str, Any]) -> list[Table]:
    """What a model of `build_around` knows and reads, for the screen."""
    known = Table(title="facts known in text, % right")
    columns = ("n", "cloze", "few_shot", "zero_shot", "after", "after_all_wordings", "majority")
    for column in ("half", "relation", *columns):
        known.add_column(column)
    for half, lines in manifest["knowledge"].items():
        for relation, line in lines.items():
            known.add_row(half, relation, *(str(line[column]) for column in columns))
    alignments = manifest["alignments"]
    return [known, reading_table({name: said["reading"] for name, said in alignments.items()})]


class Around:
    """The stages of a run, one after the other.

    Args:
        cfg: with a recipe.
        world: what is asked and shown.
        language: on the CPU; it is moved, and gets the adapter merged in.
        files: of the stages.
        stages: where they train.

    Attributes:
        language: adapted once `language_stages` is done.
        alignments: those that are made, naming before naming_and_facts.
        chosen: the one that the model has.
        done: the stages by name.
    """

    def __init__(
        self,
        cfg: PretrainConfig,
        world: World,
        language: LanguageModel,
        files: StageFiles,
        stages: Stages,
    ) -> None:
        assert cfg.recipe is not None
        self.recipe: RecipeOptions = cfg.recipe
        self.cfg, self.world, self.files, self.stages = cfg, world, files, stages
        language.model.requires_grad_(False).eval().to(stages.device)
        self.language = language
        asked = cfg.pretrain.alignment
        self.alignments: tuple[AlignmentName, ...] = ALIGNMENTS if asked == "all" else (asked,)
        self.chosen: AlignmentName = DEFAULT if asked == "all" else asked
        self.done: dict[str, Done] = {}
        size = self.recipe.tower.image_size
        self.processor = image_processor(FAMILY, size)
        self.pictures = PictureBank.of_world(world, self.processor)
        self.texts = [PARAGRAPHS, *map(Path, self.recipe.probing.texts or ())]
        self.paragraphs = {path.stem: read_paragraphs(path) for path in self.texts}

    def language_stages(self) -> list[Fact]:
        """Asks, adapts, and asks again.

        Returns:
            The facts that the adapted model answers right in the first wording.
        """
        seed, options = self.recipe.seed, self.recipe.adaptation
        probing = Probing(self.world, self.recipe.probing, seed)

        def ask() -> Computed:
            found = probing.before(self.language)
            return {}, {**found.plain(), "perplexity": self._perplexities()}

        def learn() -> Computed:
            adapter = adapt(self.language, self.world, options, seed=seed, stages=self.stages)
            return adapter.tensors, {"alpha": adapter.alpha}

        def ask_again() -> Computed:
            return {}, {
                **probing.after(self.language).plain(),
                "perplexity": self._perplexities(),
            }

        before = Before.of_plain(self._stage("knowledge_before", ask).said)
        self._merge(self._stage("adaptation", learn))
        after = After.of_plain(self._stage("knowledge_after", ask_again).said)
        self.knowledge = table(self.world, before, after)
        self.facts = marks(self.world, before, after)
        return sorted(after.first)

    def tower_stage(self) -> TowerResult:
        """Teaches the tower to tell the entities apart."""

        def learn() -> Computed:
            tower = train_tower(
                self.world, self.pictures, self.recipe.tower, self.recipe.augmentation,
                seed=self.recipe.seed, stages=self.stages,
            )  # fmt: skip
            return tower.state, {"config": tower.config, "accuracies": tower.accuracies}

        done = self._stage("tower", learn)
        return TowerResult(done.said["config"], done.tensors, done.said["accuracies"])

    def alignment_stage(
        self, name: AlignmentName, tower: TowerResult, known: list[Fact]
    ) -> dict[str, Tensor]:
        """Teaches a projector, and asks what the language model reads through it.

        naming_and_facts gets as many steps as naming, which stops when it has come far enough. One
        that is done and had others, since it was made before naming was, is made anew.
        """
        naming = self.files.stored("naming") if name == "naming_and_facts" else None
        before = self.files.stored(name)
        if naming and before and before.said["steps"] != naming.said["steps"]:
            log.info(
                "%s had %d steps and naming has %d: it is made anew, so that facts alone are what "
                "differs",
                name, before.said["steps"], naming.said["steps"],
            )  # fmt: skip
            for stale in (f"{name}_reading", name):
                self.files.forget(stale)

        def learn() -> Computed:
            result = align(
                name, self.language, tower, self.world, self.pictures, self.recipe.alignment,
                self.recipe.augmentation, facts=known, seed=self.recipe.seed, stages=self.stages,
                steps=None if naming is None else naming.said["steps"],
            )  # fmt: skip
            return result.state, {"steps": result.steps, "measured": result.measured}

        projector = self._stage(name, learn).tensors

        def read() -> Computed:
            return {}, measure_reading(
                self.language, tower, projector, self.world, self.pictures, known,
                seed=self.recipe.seed, device=self.stages.device,
            )  # fmt: skip

        self._stage(f"{name}_reading", read)
        return projector

    def parts(
        self,
        tower: TowerResult,
        projectors: Mapping[AlignmentName, Mapping[str, Tensor]],
        manifest: Mapping[str, Any],
    ) -> Parts:
        """What is added to the language model."""
        images = self.processor.to_dict()
        return Parts(
            tower=Tower(tower.config, tower.state, images),
            projectors={str(name): state for name, state in projectors.items()},
            adapter=self._adapter(),
            manifest=manifest,
        )

    def manifest(
        self, tower: TowerResult, projectors: Mapping[AlignmentName, Any]
    ) -> dict[str, Any]:
        """How it was made, what it knows and what it reads, as JSON gives it."""
        packages = (*PACKAGES, "peft")
        found = {
            "name": self.cfg.model.name,
            "seed": self.recipe.seed,
            "recipe": {**self.recipe.model_dump(), "alignments": list(projectors)},
            "language_model": dict(self.language.source),
            "world": world_summary(self.world),
            "perplexity": {
                when: self.done[f"knowledge_{when}"].said["perplexity"]
                for when in ("before", "after")
            },
            "knowledge": self.knowledge,
            "facts": self.facts,
            "tower": tower.accuracies,
            "alignments": {
                name: {
                    **self.done[name].said["measured"],
                    "steps": self.done[name].said["steps"],
                    "reading": self.done[f"{name}_reading"].said,
                }
                for name in projectors
            },
            "device": str(self.stages.device),
            "seconds": {name: done.seconds for name, done in self.done.items()},
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in packages},
            },
        }
        return dict(json.loads(json.dumps(found)))

    def missed_targets(self, projectors: Mapping[AlignmentName, Any]) -> list[str]:
        """The targets that naming misses, in words; the other alignments have none."""
        if "naming" not in projectors:
            return []
        names = self.done["naming_reading"].said["names"]
        targets = {
            "seen": self.recipe.targets.named_seen,
            "unseen": self.recipe.targets.named_unseen,
        }
        return [
            f"naming names {names[sort]['right']:.1f} % of the {sort} views (target {target:.1f} %)"
            for sort, target in targets.items()
            if sort in names and names[sort]["right"] < target
        ]

    def _stage(self, name: str, compute: Any) -> Done:
        self.done[name] = self.files.stage(name, compute)
        return self.done[name]

    def _adapter(self) -> Adapter:
        done = self.done["adaptation"]
        return Adapter(done.tensors, done.said["alpha"])

    @torch.no_grad()
    def _merge(self, done: Done) -> None:
        """Merges the adapter, and gives every weight the value that it has in the model's file."""
        merge(self.language.model, Adapter(done.tensors, done.said["alpha"]))
        for parameter in self.language.model.parameters():
            parameter.copy_(parameter.half().float())

    def _perplexities(self) -> dict[str, Perplexity]:
        return {name: perplexity(self.language, texts) for name, texts in self.paragraphs.items()}
