"""Where a model keeps its facts: causal tracing by swapping subjects (Meng et al. 2022, section 2).

Two prompts ask the same question about two subjects of a type. The state after a layer, at one
position, is taken from the donor's run into the other; if the answer turns into the donor's, the
fact passes through that state. A model that ROME can edit shows high shares at the subject's last
token in its low layers.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.world import World
from pretraining.batches import collate
from pretraining.evaluation import encoder_of
from pretraining.model import parts_of
from pretraining.samplers import Question, Rows, one_hop_questions
from pretraining.samples import Sample

TRIES = 50  # draws per swap before a world is called too small


@torch.no_grad()
def causal_trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    *,
    swaps: int = 100,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Percent of swaps after which the first answer token is the donor's, layer by layer.

    Returns:
        "subject_last" and "prompt_last", one value per layer; empty when no two subjects can be
        swapped (their names need the same number of tokens).
    """
    rows = Rows(world, encoder_of(model, tokenizer), random.Random(seed))
    pairs = _pairs(rows, swaps)
    if not pairs:
        return {}
    model.eval()
    parts = parts_of(model)
    pad_id = rows.encoder.pad_id
    prompts = [collate([_prompt(pair[i]) for pair in pairs], pad_id) for i in (0, 1)]
    subject = prompts[0].spans[:, 1]
    last = prompts[0].attention_mask.sum(1) - 1
    wanted = torch.tensor([donor.answer_ids[0] for _, donor in pairs])
    every = torch.arange(len(pairs))
    result: dict[str, list[float]] = {"subject_last": [], "prompt_last": []}
    for layer in parts.layers:
        with _Captured(layer) as captured:
            parts.text_model(input_ids=prompts[1].input_ids)
        for name, position in (("subject_last", subject), ("prompt_last", last)):
            with _Swapped(layer, captured.state, position):
                logits = parts.text_model(input_ids=prompts[0].input_ids).logits
            switched = logits[every, last].argmax(-1) == wanted
            result[name].append(round(100 * float(switched.float().mean()), 1))
    return result


def _pairs(rows: Rows, count: int) -> list[tuple[Sample, Sample]]:
    """Questions and donors' questions of equal length whose answers begin differently."""
    questions = one_hop_questions(rows.world)
    pairs: list[tuple[Sample, Sample]] = []
    for _ in range(TRIES * count):
        if len(pairs) == count:
            break
        entity, relation, wording = rows.rng.choice(questions)
        donor = rows.rng.choice([e for e, r in rows.world.facts if r == relation])
        asked: list[Question] = [(entity, relation, wording), (donor, relation, wording)]
        one, other = (rows.one_hop(question, by_picture=False) for question in asked)
        fits = one.prompt_length == other.prompt_length and one.span == other.span
        if fits and one.answer_ids[0] != other.answer_ids[0]:
            pairs.append((one, other))
    return pairs


def _prompt(sample: Sample) -> Sample:
    """The sample without its answer."""
    n = sample.prompt_length
    return Sample(
        sample.ids[:n],
        sample.scored[:n],
        sample.graded[:n],
        sample.picture,
        sample.subject,
        sample.span,
    )


class _Captured:
    """Inside the block, keeps the layer's output in `state`: (B, T, D)."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.state = layer, torch.empty(0)

    def __enter__(self) -> _Captured:
        self.handle = self.layer.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _keep(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        self.state = output.detach()


class _Swapped:
    """Inside the block, the layer's output at one position a row is replaced."""

    def __init__(self, layer: nn.Module, state: Tensor, position: Tensor) -> None:
        self.layer, self.state, self.position = layer, state, position

    def __enter__(self) -> None:
        self.handle = self.layer.register_forward_hook(self._replace)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _replace(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        every = torch.arange(len(output))
        changed = output.clone()
        changed[every, self.position] = self.state[every, self.position]
        return changed
