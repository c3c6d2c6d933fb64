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
from pretraining.parts import parts_of
from pretraining.pictures import PictureBank, normalise
from pretraining.sampler import Chain, SampleBuilder, chain_questions, one_hop_questions
from pretraining.samples import Sample, SampleEncoder, TextBatch, collate

Item = TypeVar("Item")

BATCH = 128
CHAINS_GENERATED = 400
MOST_NEW_TOKENS = 64
SEED = 0  # of the views (one per question) and of sub-samples


@torch.no_grad()
def evaluate_tiny(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    pictures: PictureBank,
    *,
    limit: int | None = None,
    chains: bool = True,
) -> dict[str, float]:
    """Percent right by kind of question, through the model's own forward pass.

    Args:
        model: in evaluation mode afterwards.
        tokenizer: its tokenizer.
        world: what is asked.
        pictures: of the world.
        limit: questions of a kind; all by default (chains: `CHAINS_GENERATED`).
        chains: also ask two-hop questions; generating them takes the longest.

    Returns:
        `text`, `seen`, `unseen`: one-hop questions by name and by picture; `identity_*`,
        `refusal_*`; `two_hop_direct` of the test half beside `two_hop_majority`, the share of the
        most frequent answer; `chain_bridge` and `chain_answer` of the test half by generation.
    """
    model.eval()
    rng = random.Random(SEED)
    builder = SampleBuilder(world, sample_encoder(model, tokenizer), rng)
    test = _AccuracyTest(model, pictures)

    by_name = _subsample(one_hop_questions(world), limit, rng)
    text = [builder.one_hop(question, by_picture=False) for question in by_name]
    by_picture = _subsample(one_hop_questions(world, pictured=True), limit, rng)
    image = [builder.one_hop(question, by_picture=True) for question in by_picture]
    names = [builder.identity(entity.name) for entity in world.pictured]
    result = {
        "text": test.accuracy(text),
        "seen": test.accuracy(image),
        "unseen": test.accuracy(image, unseen=True),
        "identity_seen": test.accuracy(names),
        "identity_unseen": test.accuracy(names, unseen=True),
    }
    for kind, entities in (("text", list(world.entities.values())), ("image", world.pictured)):
        refused = [builder.refusal(e.name, by_picture=kind == "image") for e in entities]
        result[f"refusal_{kind}"] = test.accuracy([sample for sample in refused if sample])
    two_hops = chain_questions(world, tested=True) if chains else []
    if two_hops:
        worked_out = _subsample(two_hops, limit or CHAINS_GENERATED, rng)
        result |= _answered_at_once(test, builder, _subsample(two_hops, limit, rng))
        result |= _worked_out(model, builder, worked_out)
    return {name: round(value, 2) for name, value in result.items() if value == value}


def sample_encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> SampleEncoder:
    """The encoder of a model's rows."""
    parts = parts_of(model)
    return SampleEncoder(tokenizer, parts.image_tokens, before_bos=parts.first_slot == 0)


def right_rows(model: PreTrainedModel, batch: TextBatch, pixels: Tensor | None) -> Tensor:
    """(B,) bool: every graded token of a row is the most likely one."""
    logits = parts_of(model).logits(batch.input_ids, batch.attention_mask, pixels)
    hit = logits[:, :-1].argmax(-1) == batch.input_ids[:, 1:]
    return (hit | ~batch.graded[:, 1:]).all(1)


def _subsample(items: list[Item], most: int | None, rng: random.Random) -> list[Item]:
    return items if most is None or len(items) <= most else rng.sample(items, most)


class _AccuracyTest:
    """Runs rows through a model."""

    def __init__(self, model: PreTrainedModel, pictures: PictureBank) -> None:
        self.model, self.pictures = model, pictures
        self.generator = torch.Generator().manual_seed(SEED)

    def accuracy(self, samples: Sequence[Sample], *, unseen: bool = False) -> float:
        """Percent of rows answered right, nan without rows; a random view of every picture."""
        if unseen:
            samples = [s for s in samples if s.picture in self.pictures.unseen]
        ordered = sorted(samples, key=lambda sample: len(sample.ids))
        pad_id = self.model.config.get_text_config().pad_token_id
        right = 0
        for start in range(0, len(ordered), BATCH):
            batch = collate(ordered[start : start + BATCH], pad_id)
            pixels = None
            if batch.pictures:
                drawn = self.pictures.draw(batch.pictures, self.generator, unseen=unseen)
                pixels = normalise(drawn)
            right += int(right_rows(self.model, batch, pixels).sum())
        return 100 * right / len(ordered) if ordered else float("nan")


def _answered_at_once(
    test: _AccuracyTest, builder: SampleBuilder, chains: Sequence[Chain]
) -> dict[str, float]:
    """Two-hop questions without their steps, beside always giving the most frequent answer."""
    world = builder.world
    samples: list[Sample] = []
    answers: dict[str, Counter[str]] = {}
    for entity, first, second, wording in chains:
        answer = world.facts[world.facts[entity, first], second]
        question = world.two_hop_question(first, second, wording, entity)
        samples.append(builder.encoder.question(question, answer))
        answers.setdefault(second, Counter())[answer] += 1
    most_frequent = sum(counts.most_common(1)[0][1] for counts in answers.values())
    return {
        "two_hop_direct": test.accuracy(samples),
        "two_hop_majority": 100 * most_frequent / len(chains),
    }


def _worked_out(
    model: PreTrainedModel, builder: SampleBuilder, chains: Sequence[Chain]
) -> dict[str, float]:
    """Whether generated chains name the right bridge, and the right answer after it."""
    facts = builder.world.facts
    texts = _generate(model, builder.encoder, [builder.chain(chain) for chain in chains])
    bridges = answers = 0
    for (entity, first, second, _), text in zip(chains, texts, strict=True):
        bridge = facts[entity, first]
        steps = text.strip().split("; ")
        bridges += steps[0].endswith(f" {bridge}")
        answers += len(steps) > 1 and steps[-1].endswith(f" {facts[bridge, second]}")
    return {
        "chain_bridge": 100 * bridges / len(chains),
        "chain_answer": 100 * answers / len(chains),
    }


def _generate(
    model: PreTrainedModel, encoder: SampleEncoder, samples: Sequence[Sample]
) -> list[str]:
    """Greedy continuations of the samples' prompts, whose answers are not shown.

    Prompts of equal length share a batch, so nothing is padded and every row reads exactly what it
    would read alone.
    """
    by_length: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_length.setdefault(sample.prompt_length, []).append(index)
    texts = [""] * len(samples)
    for length, members in by_length.items():
        for start in range(0, len(members), BATCH):
            indices = members[start : start + BATCH]
            prompts = torch.tensor([samples[index].ids[:length] for index in indices])
            output = parts_of(model).text_model.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=MOST_NEW_TOKENS,
                do_sample=False,
            )
            new = encoder.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
            for index, text in zip(indices, new, strict=True):
                texts[index] = text
    return texts
