"""What a tiny model knows: accuracies over every fact, wording and picture of its world.

An answer is right when all its tokens are (teacher forced, EOS not counted). Chains are different:
they are generated, so that no step is handed over.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.world import World
from pretraining.batches import TextBatch, collate
from pretraining.generation import generate
from pretraining.model import parts_of
from pretraining.pictures import PictureBank, normalise
from pretraining.samplers import (
    Chain,
    Rows,
    chain_questions,
    one_hop_questions,
)
from pretraining.samples import Encoder, Sample

Item = TypeVar("Item")

BATCH = 128
CHAINS_GENERATED = 400


@torch.no_grad()
def evaluate_tiny(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    pictures: PictureBank,
    *,
    seed: int = 0,
    limit: int | None = None,
    chains: bool = True,
) -> dict[str, float]:
    """Percent right by kind of question, through the model's own forward pass.

    Args:
        model: in evaluation mode afterwards.
        tokenizer: its tokenizer.
        world: what is asked.
        pictures: of the world.
        seed: of the views (one per question) and of sub-samples.
        limit: questions of a kind; all by default (chains: `CHAINS_GENERATED`).
        chains: also ask two-hop questions; generating them takes the longest.

    Returns:
        `text`, `seen`, `unseen`: one-hop questions by name and by picture; `identity_*`,
        `refusal_*`; `two_hop_direct` of the test half beside `two_hop_majority`, the share of the
        most frequent answer; `chain_bridge` and `chain_answer` of the test half by generation.
    """
    model.eval()
    rng = random.Random(seed)
    rows = Rows(world, encoder_of(model, tokenizer), rng)
    test = _Test(model, pictures, seed)

    text = [rows.one_hop(q, by_picture=False) for q in _some(one_hop_questions(world), limit, rng)]
    shown = _some(one_hop_questions(world, pictured=True), limit, rng)
    image = [rows.one_hop(q, by_picture=True) for q in shown]
    names = [rows.identity(entity.name) for entity in world.pictured]
    result = {
        "text": test.accuracy(text),
        "seen": test.accuracy(image),
        "unseen": test.accuracy(image, unseen=True),
        "identity_seen": test.accuracy(names),
        "identity_unseen": test.accuracy(names, unseen=True),
    }
    for kind, by_picture in (("text", False), ("image", True)):
        asked = world.pictured if by_picture else list(world.entities.values())
        refused = [rows.refusal(entity.name, by_picture=by_picture) for entity in asked]
        result[f"refusal_{kind}"] = test.accuracy([sample for sample in refused if sample])
    asked_chains = chain_questions(world, tested=True) if chains else []
    if asked_chains:
        generated = _some(asked_chains, limit or CHAINS_GENERATED, rng)
        result |= _two_hops(test, rows, _some(asked_chains, limit, rng), generated)
    return {name: round(value, 2) for name, value in result.items() if value == value}


def encoder_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Encoder:
    """The encoder of a saved or trained model's rows."""
    parts = parts_of(model)
    return Encoder(tokenizer, parts.image_tokens, before_bos=parts.first_slot == 0)


def right_rows(model: PreTrainedModel, batch: TextBatch, pixels: Tensor | None) -> Tensor:
    """(B,) bool: every graded token of a row is the most likely one."""
    logits = parts_of(model).logits(batch.input_ids, batch.attention_mask, pixels)
    hit = logits[:, :-1].argmax(-1) == batch.input_ids[:, 1:]
    return (hit | ~batch.graded[:, 1:]).all(1)


def _some(items: list[Item], most: int | None, rng: random.Random) -> list[Item]:
    return items if most is None or len(items) <= most else rng.sample(items, most)


class _Test:
    """Runs rows through a model."""

    def __init__(self, model: PreTrainedModel, pictures: PictureBank, seed: int) -> None:
        self.model, self.pictures = model, pictures
        self.generator = torch.Generator().manual_seed(seed)

    def accuracy(self, samples: Sequence[Sample], *, unseen: bool = False) -> float:
        """Percent of rows answered right, nan without rows; a random view of every picture."""
        if unseen:
            samples = [s for s in samples if s.picture in self.pictures.unseen]
        ordered = sorted(samples, key=lambda sample: len(sample.ids))
        right = 0
        for start in range(0, len(ordered), BATCH):
            batch = collate(
                ordered[start : start + BATCH], self.model.config.get_text_config().pad_token_id
            )
            pixels = None
            if batch.pictures:
                drawn = self.pictures.draw(batch.pictures, self.generator, unseen=unseen)
                pixels = normalise(drawn)
            right += int(right_rows(self.model, batch, pixels).sum())
        return 100 * right / len(ordered) if ordered else float("nan")


def _two_hops(
    test: _Test, rows: Rows, direct: Sequence[Chain], generated: Sequence[Chain]
) -> dict[str, float]:
    """Two-hop questions about the test half: answered at once, and worked out step by step."""
    world, encoder = rows.world, rows.encoder
    answers = [
        world.facts[world.facts[entity, first], second] for entity, first, second, _ in direct
    ]
    asked = [
        encoder.question(world.two_hop_question(first, second, wording, entity), answer)
        for (entity, first, second, wording), answer in zip(direct, answers, strict=True)
    ]
    most_frequent: dict[str, Counter[str]] = {}
    for (_, _, second, _), answer in zip(direct, answers, strict=True):
        most_frequent.setdefault(second, Counter())[answer] += 1
    lucky = sum(counts.most_common(1)[0][1] for counts in most_frequent.values())
    samples = [rows.chain(chain) for chain in generated]
    texts = generate(test.model, rows.encoder.tokenizer, samples)
    bridge, final = zip(
        *[_chain_right(rows, chain, text) for chain, text in zip(generated, texts, strict=True)],
        strict=True,
    )
    return {
        "two_hop_direct": test.accuracy(asked),
        "two_hop_majority": 100 * lucky / len(direct),
        "chain_bridge": 100 * sum(bridge) / len(bridge),
        "chain_answer": 100 * sum(final) / len(final),
    }


def _chain_right(rows: Rows, chain: Chain, text: str) -> tuple[bool, bool]:
    """Whether a generated chain names the right bridge, and the right answer after it."""
    entity, first, second, _ = chain
    bridge = rows.world.facts[entity, first]
    steps = text.strip().split("; ")
    named = steps[0].endswith(f" {bridge}")
    answered = len(steps) > 1 and steps[-1].endswith(f" {rows.world.facts[bridge, second]}")
    return named, answered
