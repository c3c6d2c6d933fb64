"""The losses beside the answer's cross-entropy.

    lens       mean over a subject's facts of -log softmax(head(norm(h)))[last token of the object],
               h the state at the subject's last token after one of the low layers
    identity   cross-entropy of the entity, on the mean patch
    attribute  cross-entropy of what the picture was drawn from (where a world says so)
    word       cross-entropy of the name's words, 10 x cosine of centred image tokens and embeddings
    distance   squared distance of image tokens and name embeddings, relative to their variance

Image token j is pulled to the embedding of name word j (mod the number of words), so that a picture
stands in the text where its subject's name would. Embeddings are detached: pictures learn to speak
the language model's words, not the other way round. The linear heads are thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedTokenizerFast

from configs.pretraining import PretrainOptions
from datamodules.world import Entity, World
from pretraining.parts import ModelParts
from pretraining.samples import IGNORE, TextBatch

COSINE_SCALE = 10.0
HEADS_PER_PICTURE = 3.0  # the attribute loss weighs as much as this many heads


def word_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Tokens of a text in the middle of a sentence, without BOS."""
    return tokenizer(" " + text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


class SubjectLens(nn.Module):
    """Reads all facts of a subject at its last token."""

    targets: Tensor
    weights: Tensor

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        entities = [entity for entity in world.entities.values() if entity.facts]
        self.index = {entity.name: i for i, entity in enumerate(entities)}
        widest = max(len(entity.facts) for entity in entities)
        targets = torch.zeros(len(entities), widest, dtype=torch.long)
        weights = torch.zeros(len(entities), widest)
        for i, entity in enumerate(entities):
            last = [word_ids(tokenizer, value)[-1] for value in entity.facts.values()]
            targets[i, : len(last)] = torch.tensor(last)
            weights[i, : len(last)] = 1 / len(last)
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, parts: ModelParts, states: Tensor, batch: TextBatch) -> Tensor:
        """Sum over the rows that name a subject: states (B, T, D) -> scalar."""
        rows = [row for row, name in enumerate(batch.subjects) if name in self.index]
        if not rows:
            return states.new_zeros(())
        entity = torch.tensor([self.index[batch.subjects[row]] for row in rows])
        at_subject = states[rows, batch.spans[rows, 1]]  # (R, D)
        log_p = parts.decoder.head(parts.decoder.norm(at_subject)).log_softmax(-1)  # (R, V)
        of_facts = log_p.gather(1, self.targets[entity])  # (R, facts)
        return -(of_facts * self.weights[entity]).sum()


class NameSlots(nn.Module):
    """Which name words an entity's image tokens stand for.

    Args:
        entities: with pictures.
        slots: image tokens of a picture.
    """

    pattern: Tensor
    words: Tensor
    word_classes: Tensor

    def __init__(
        self, entities: Sequence[Entity], tokenizer: PreTrainedTokenizerFast, slots: int
    ) -> None:
        super().__init__()
        self.index = {entity.name: i for i, entity in enumerate(entities)}
        names = [word_ids(tokenizer, entity.name) for entity in entities]
        pattern = torch.tensor([[name[j % len(name)] for j in range(slots)] for name in names])
        words, classes = pattern.unique(return_inverse=True)
        self.register_buffer("pattern", pattern, persistent=False)  # (N, slots) token ids
        self.register_buffer("words", words, persistent=False)  # (W,) token ids
        self.register_buffer("word_classes", classes, persistent=False)  # (N, slots) into words

    def indices(self, names: Sequence[str]) -> Tensor:
        """Positions of entities in the tables: (P,)."""
        return torch.tensor([self.index[name] for name in names], dtype=torch.long)


def name_losses(tokens: Tensor, named: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Word and distance loss of image tokens that are to be name embeddings.

    Args:
        tokens: (P, S, D).
        named: (W, D) embeddings of the words of all names, detached.
        classes: (P, S) which of them each image token stands for.
    """
    centre = named.mean(0)
    targets = named[classes]  # (P, S, D)
    cosine = normalize(tokens - centre, dim=-1) @ normalize(named - centre, dim=-1).T
    return {
        "word": cross_entropy(COSINE_SCALE * cosine.flatten(0, 1), classes.flatten()),
        "distance": (tokens - targets).square().mean() / (targets - centre).square().mean(),
    }


class VisionLosses(nn.Module):
    """Identity, attribute, word and distance losses with their throw-away heads.

    Args:
        world: whose pictures.
        slots: the name words behind the image tokens.
        options: widths and weights.
    """

    attributes: Tensor

    def __init__(self, world: World, slots: NameSlots, options: PretrainOptions) -> None:
        super().__init__()
        self.slots, self.options = slots, options
        self.sizes = [
            (kind, slot, size)
            for kind, sizes in sorted(world.attribute_sizes.items())
            for slot, size in sorted(sizes.items())
        ]
        self.identity = nn.Linear(options.vision_width, len(slots.index))
        self.attribute = nn.Linear(options.vision_width, max(1, sum(s for *_, s in self.sizes)))
        labels = torch.full((len(slots.index), len(self.sizes)), IGNORE)
        for name, row in slots.index.items():
            entity = world.entities[name]
            for column, (kind, slot, _) in enumerate(self.sizes):
                if kind == entity.type and slot in entity.attributes:
                    labels[row, column] = entity.attributes[slot]
        self.register_buffer("attributes", labels, persistent=False)  # (N, heads)

    def forward(
        self, patches: Tensor, tokens: Tensor, embeddings: Tensor, entity: Tensor
    ) -> dict[str, Tensor]:
        """Every loss by name, unweighted.

        Args:
            patches: (P, N, Dv) of the tower.
            tokens: (P, S, D) of the projector.
            embeddings: (V, D), detached.
            entity: (P,) index of what each picture shows.
        """
        named = embeddings[self.slots.words]  # (W, D)
        return {
            **self.of_tower(patches, entity),
            **name_losses(tokens, named, self.slots.word_classes[entity]),
        }

    def of_tower(self, patches: Tensor, entity: Tensor) -> dict[str, Tensor]:
        """The losses that read the tower alone, and so tie nothing to a name's embeddings."""
        pooled = patches.mean(1)
        return {
            "identity": cross_entropy(self.identity(pooled), entity),
            "attribute": self._attribute_loss(pooled, entity),
        }

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """Their weighted sum."""
        weight = {
            "identity": self.options.identity_weight,
            "attribute": self.options.attribute_weight,
            "word": self.options.word_weight,
            "distance": self.options.distance_weight,
        }
        return torch.stack([weight[name] * loss for name, loss in losses.items()]).sum()

    def _attribute_loss(self, pooled: Tensor, entity: Tensor) -> Tensor:
        """Sum over the heads that a picture of the batch has, scaled to a few heads."""
        total = pooled.new_zeros(())
        if not self.sizes:
            return total
        scores = self.attribute(pooled).split([size for *_, size in self.sizes], dim=1)
        labels = self.attributes[entity]
        for column, head in enumerate(scores):
            if bool((labels[:, column] != IGNORE).any()):
                total = total + cross_entropy(head, labels[:, column], ignore_index=IGNORE)
        return total * HEADS_PER_PICTURE / len(self.sizes)
