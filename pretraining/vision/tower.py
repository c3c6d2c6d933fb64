"""Stage 0: a small CLIP vision tower learns to tell the pictured entities of a world apart.

    loss = CE(head(mean over patches of x), entity) + patch_weight * CE(head(x_patch), entity)

x are the patch states of the last layer, those that LLaVA's projector reads later; that each patch
has to tell the entity by itself makes every image token carry it. The head is thrown away. No
language model takes part.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import IterableDataset
from transformers import CLIPVisionConfig, CLIPVisionModel

from configs.around import AugmentationOptions, TowerOptions
from datamodules.world import World
from pretraining.descent import descent
from pretraining.pictures import PictureBank, augment, normalise
from pretraining.sampler import Deck
from pretraining.stages import Stages
from pretraining.vision.views import ViewBank, tower_features

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TowerResult:
    """A taught tower.

    Attributes:
        config: `CLIPVisionConfig(**config)` describes it.
        state: its weights, float32 on the CPU, by the names of `CLIPVisionModel`.
        accuracies: percent of views that it tells apart: `seen`, `unseen`, and each kind of view.
            Of the float32 tower, with its head; a run keeps the tower in half precision's values.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    accuracies: dict[str, float]

    @property
    def image_size(self) -> int:
        """Pixels of a picture."""
        return int(self.config["image_size"])

    @property
    def image_tokens(self) -> int:
        """Patches of a picture, and so image slots of a row."""
        return (self.image_size // int(self.config["patch_size"])) ** 2

    def open(self, device: torch.device) -> CLIPVisionModel:
        """The tower itself, frozen and in evaluation mode."""
        model = CLIPVisionModel(CLIPVisionConfig(**self.config))
        model.load_state_dict(self.state)
        return model.requires_grad_(False).eval().to(device)


def train_tower(
    world: World,
    pictures: PictureBank,
    options: TowerOptions,
    augmentation: AugmentationOptions,
    *,
    seed: int,
    stages: Stages,
) -> TowerResult:
    """Teach a fresh tower to tell the pictured entities apart.

    Args:
        world: some of whose entities have pictures.
        pictures: all of them, of `options.image_size` pixels.
        options: sizes and schedule.
        augmentation: how pictures are varied.
        seed: of the weights and of every draw.
        stages: where it trains.
    """
    bank = ViewBank.of(world, pictures)
    config = tower_config(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TowerModule(config, bank, options)
    batches = TowerBatches(bank, module.entities, options, augmentation, seed)
    stages.fit(module, batches, options.steps)
    accuracies = module.accuracies(bank, stages.device)
    state = {name: value.detach().cpu() for name, value in module.tower.state_dict().items()}
    return TowerResult(config.to_dict(), state, accuracies)


def tower_config(options: TowerOptions) -> CLIPVisionConfig:
    """The configuration of a tower of these sizes."""
    return CLIPVisionConfig(
        hidden_size=options.width,
        intermediate_size=options.mlp_width,
        projection_dim=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        image_size=options.image_size,
        patch_size=options.patch_size,
    )


class TowerBatches(IterableDataset[Batch]):
    """Varied seen views, each as often as any other: ((P, 3, S, S) 8-bit levels, (P,) entity)."""

    def __init__(
        self,
        bank: ViewBank,
        entities: dict[str, int],
        options: TowerOptions,
        augmentation: AugmentationOptions,
        seed: int,
    ) -> None:
        super().__init__()
        self.bank, self.entities, self.seed = bank, entities, seed
        self.options, self.augmentation = options, augmentation

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one run, the same ones every time."""
        options = self.options
        generator = torch.Generator().manual_seed(self.seed)
        deck = Deck(self.bank.indices(unseen=False), random.Random(f"tower/{self.seed}"))
        for _ in range(options.steps):
            drawn = deck.draw(options.rows)
            shown = [self.entities[self.bank.views[index].entity] for index in drawn]
            yield (
                augment(self.bank.pixels[drawn], self.augmentation, generator),
                torch.tensor(shown),
            )


class TowerModule(LightningModule):
    """A tower and the head that names what it sees.

    Attributes:
        entities: class of each entity.
    """

    def __init__(self, config: CLIPVisionConfig, bank: ViewBank, options: TowerOptions) -> None:
        super().__init__()
        self.options = options
        names = dict.fromkeys(view.entity for view in bank.views)
        self.entities = {name: index for index, name in enumerate(names)}
        self.tower = CLIPVisionModel(config)
        self.head = nn.Linear(config.hidden_size, len(self.entities))

    def configure_optimizers(self) -> Any:
        """AdamW, a linear warm-up and one cosine."""
        return descent(self.parameters(), self.options)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        del batch_idx
        levels, entity = batch
        patches = self.tower(pixel_values=normalise(levels)).last_hidden_state[:, 1:]
        scores = self.head(patches)  # (P, N, E); linear, so its mean is that of the mean patch
        whole = cross_entropy(scores.mean(1), entity)
        each = cross_entropy(scores.flatten(0, 1), entity.repeat_interleave(scores.shape[1]))
        loss = whole + self.options.patch_weight * each
        self.log("tower/loss", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradient; one that is not finite ends the run."""
        nn.utils.clip_grad_norm_(self.parameters(), self.options.clip, error_if_nonfinite=True)

    @torch.no_grad()
    def accuracies(self, bank: ViewBank, device: torch.device) -> dict[str, float]:
        """Percent of views that are told apart: `seen`, `unseen`, and each kind of view.

        Asked of the weights as they were taught, in float32. What the next stages see is this tower
        rounded to half precision (`pretraining.stage_files`), which is not asked again: the head
        is gone by then.
        """
        self.to(device).eval()
        patches = tower_features(self.tower, bank.pixels, device).to(device)
        told = self.head(patches.mean(1)).argmax(-1).tolist()
        right: dict[str, list[bool]] = defaultdict(list)
        for view, answer in zip(bank.views, told, strict=True):
            hit = answer == self.entities[view.entity]
            right["unseen" if view.unseen else "seen"].append(hit)
            right[f"view {view.kind}"].append(hit)
        return {name: round(100 * sum(hits) / len(hits), 2) for name, hits in right.items()}
