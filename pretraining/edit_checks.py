"""Can the freshly trained model be edited? Counterfactual facts of the test half, two ways.

A check of the model, not a method of the benchmark: the editors have their own packages. ROME
writes one value at the subject's last token (rank-one, with the published optimisation); IKE states
the fact in the context. Probes: `rel` the edit's own question, `gen` its other wordings (right when
the new object is answered), `loc_rel` the relation of other subjects, `loc_sub` other relations of
the subject (right when the true object still is).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.world import World
from pretraining.batches import IGNORE, TextBatch, collate
from pretraining.evaluation import encoder_of, right_rows
from pretraining.model import Parts, parts_of
from pretraining.samplers import Fact, Rows, one_hop_questions
from pretraining.samples import FACT_CUE, PROMPT_CUE, Sample

NEIGHBOURS = 4  # other subjects asked per edit
KEPT = 4  # other questions about the subject that ROME is to leave as they are
COVARIANCE_ROWS, RIDGE = 768, 1e-3
STEPS, RATE, CLAMP, KL_WEIGHT, DECAY, ENOUGH = 50, 0.5, 4.0, 0.0625, 1e-3, 0.05


@dataclass
class EditSet:
    """Counterfactual edits of the test half with their probes.

    Attributes:
        facts: what is edited.
        values: the new objects.
        probes: kind, index of the edit, question, expected answer.
        subjects: per probe, the entity that it names.
    """

    facts: list[Fact]
    values: list[str]
    probes: list[tuple[str, int, str, str]] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)


def draw_edits(rows: Rows, count: int) -> EditSet:
    """Random facts of the test half with the new objects of their test records."""
    world, rng = rows.world, rows.rng
    tested = [f for f in world.facts if world.split(f[0]) == "test"]
    tested = [f for f in tested if f in rows.held_out]
    facts = rng.sample(tested, min(count, len(tested)))
    edits = EditSet(facts, [rows.held_out[fact] for fact in facts])
    for index, (entity, relation) in enumerate(facts):
        value = edits.values[index]
        for wording in range(len(world.relations[relation].wordings)):
            kind = "gen" if wording else "rel"
            _ask(edits, kind, index, world.question(relation, wording, entity), value, entity)
        others = [e for e, r in world.facts if r == relation and e != entity]
        for other in rng.sample(others, min(NEIGHBOURS, len(others))):
            true = world.facts[other, relation]
            _ask(edits, "loc_rel", index, world.question(relation, 0, other), true, other)
        for other_relation, true in world.entities[entity].facts.items():
            if other_relation != relation:
                question = world.question(other_relation, 0, entity)
                _ask(edits, "loc_sub", index, question, true, entity)
    return edits


def rome_check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    *,
    layer: int = 1,
    edits: int = 40,
    seed: int = 7,
) -> dict[str, float]:
    """Percent right by kind of probe after rank-one edits at the subject's last token."""
    model.eval()
    rows = Rows(world, encoder_of(model, tokenizer), random.Random(seed))
    drawn = draw_edits(rows, edits)
    parts = parts_of(model)
    site = parts.layers[layer].get_submodule(parts.decoder.sites["mlp_out"])
    left, right = _rank_one(parts, rows, drawn, site)
    samples = [
        rows.encoder.question(question, answer, subject=subject)
        for (_, _, question, answer), subject in zip(drawn.probes, drawn.subjects, strict=True)
    ]
    of_probe = torch.tensor([index for _, index, _, _ in drawn.probes])

    def edited(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = _by_row(inputs[0], len(of_probe))
        along = (x * left[of_probe][:, None]).sum(-1, keepdim=True)  # (B, T, 1)
        return output + (along * right[of_probe][:, None]).reshape(output.shape)

    handle = site.register_forward_hook(edited)
    try:
        with torch.no_grad():
            correct = right_rows(model, collate(samples, rows.encoder.pad_id), None)
    finally:
        handle.remove()
    return _by_kind(drawn, correct)


@torch.no_grad()
def ike_check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    *,
    demonstrations: int = 0,
    edits: int = 40,
    seed: int = 7,
) -> dict[str, float]:
    """Percent right by kind of probe when the context states the edit.

    Args:
        model: what is checked.
        tokenizer: of the model.
        world: whose facts are edited.
        demonstrations: of other facts (following and retaining); with any, a copy of the edit
            itself comes last, as IKE does.
        edits: number of edits.
        seed: of the edits; the same ones as in `rome_check`.
    """
    model.eval()
    rows = Rows(world, encoder_of(model, tokenizer), random.Random(seed))
    drawn = draw_edits(rows, edits)
    contexts = []
    for fact, value in zip(drawn.facts, drawn.values, strict=True):
        stated = f"{FACT_CUE}{rows.asked(fact, 0)} {value}\n{PROMPT_CUE}"
        shown = rows.demonstrations(demonstrations) if demonstrations else []
        copy = [(f"{stated}{rows.asked(fact, 0)} {value}\n\n", False)] if demonstrations else []
        contexts.append("".join(text for text, _ in (*shown, *copy)) + stated)
    samples = [
        rows.encoder.encode([(contexts[index] + question, False), (f" {answer}", True)])
        for _, index, question, answer in drawn.probes
    ]
    correct = [
        right_rows(model, collate(samples[start : start + 64], rows.encoder.pad_id), None)
        for start in range(0, len(samples), 64)
    ]
    return _by_kind(drawn, torch.cat(correct))


def _by_row(flat: Tensor, rows: int) -> Tensor:
    """What a linear map sees, row by row: (B, T, d) or OPT's flattened (B * T, d) -> (B, T, d)."""
    return flat.reshape(rows, -1, flat.shape[-1])


def _ask(edits: EditSet, kind: str, index: int, question: str, answer: str, subject: str) -> None:
    edits.probes.append((kind, index, question, answer))
    edits.subjects.append(subject)


def _by_kind(edits: EditSet, correct: Tensor) -> dict[str, float]:
    kinds = sorted({kind for kind, *_ in edits.probes})
    hits = {
        kind: [bool(c) for c, probe in zip(correct, edits.probes, strict=True) if probe[0] == kind]
        for kind in kinds
    }
    return {kind: round(100 * sum(found) / len(found), 1) for kind, found in hits.items()}


def _rank_one(parts: Parts, rows: Rows, edits: EditSet, site: nn.Module) -> tuple[Tensor, Tensor]:
    """ROME's update of every edit: W + right left^T with left (E, Din) and right (E, Dout).

    left = C^-1 k / |C^-1 k|,   right = (v* - W k) / (left . k)        (eq. 2 of the paper)
    """
    batch, of_edit, is_edit = _optimised_rows(rows, edits)
    every, at = torch.arange(len(of_edit)), batch.spans[:, 1]
    seen: dict[str, Tensor] = {}
    handle = site.register_forward_hook(
        lambda _, inputs, output: seen.update(
            key=_by_row(inputs[0].detach(), len(every)), value=_by_row(output.detach(), len(every))
        )
    )
    with torch.no_grad():
        before = parts.text_model(input_ids=batch.input_ids).logits.log_softmax(-1)
    handle.remove()
    first = is_edit.nonzero()[:, 0]  # the edits' own rows, in order
    key, value = seen["key"][every, at][first], seen["value"][every, at][first]
    covariance = _covariance(parts, rows, site)
    left = normalize(torch.linalg.solve(covariance, key.T).T, dim=-1)
    limit = CLAMP * value.norm(dim=1, keepdim=True)
    delta = torch.zeros_like(value, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=RATE)
    done = torch.zeros(len(first), dtype=torch.bool)

    def add(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        whole = _by_row(output, len(every))
        changed = whole.index_put((every, at), whole[every, at] + delta[of_edit])
        return changed.reshape(output.shape)

    for _ in range(STEPS):
        handle = site.register_forward_hook(add)
        logits = parts.text_model(input_ids=batch.input_ids).logits
        handle.remove()
        loss = _rome_loss(logits, before, batch, of_edit, is_edit)
        loss = loss + DECAY * delta.norm(dim=1) / value.norm(dim=1).square()
        done |= loss.detach() < ENOUGH
        (delta.grad,) = torch.autograd.grad((loss * ~done).sum(), delta)
        # The derivative of the norm at zero is undefined; the first step has no decay.
        delta.grad.nan_to_num_()
        kept = delta.detach().clone()
        optimizer.step()
        with torch.no_grad():
            delta[done] = kept[done]
            delta.mul_((limit / delta.norm(dim=1, keepdim=True).clamp(min=1e-9)).clamp(max=1.0))
    return left, delta.detach() / (key * left).sum(1, keepdim=True)


def _optimised_rows(rows: Rows, edits: EditSet) -> tuple[TextBatch, Tensor, Tensor]:
    """The edits' own rows, each followed by some other questions about its subject, to be kept."""
    samples: list[Sample] = []
    of_edit: list[int] = []
    for index, ((entity, relation), value) in enumerate(
        zip(edits.facts, edits.values, strict=True)
    ):
        samples.append(
            rows.encoder.question(rows.asked((entity, relation), 0), value, subject=entity)
        )
        others = [r for r in rows.world.entities[entity].facts if r != relation][:KEPT]
        samples += [rows.one_hop((entity, r, 0), by_picture=False) for r in others]
        of_edit += [index] * (1 + len(others))
    edit_index = torch.tensor(of_edit)
    is_edit = torch.cat([torch.ones(1, dtype=torch.bool), edit_index[1:] != edit_index[:-1]])
    return collate(samples, rows.encoder.pad_id), edit_index, is_edit


def _rome_loss(
    logits: Tensor, before: Tensor, batch: TextBatch, of_edit: Tensor, is_edit: Tensor
) -> Tensor:
    """(E,) NLL of the new object plus the weighted KL on the subject's other questions."""
    labels = batch.labels[:, 1:]
    learned = (labels != IGNORE).float()
    log_p = logits[:, :-1].log_softmax(-1)
    nll = -log_p.gather(2, labels.clamp(min=0)[..., None])[..., 0] * learned
    reference = before[:, :-1]
    kl = (reference.exp() * (reference - log_p)).sum(-1) * learned
    counted = learned.sum(1)
    per_row = torch.where(is_edit, nll.sum(1) / counted, KL_WEIGHT * kl.sum(1) / counted)
    kept = torch.bincount(of_edit[~is_edit], minlength=int(is_edit.sum())).clamp(min=1)
    share = torch.where(is_edit, 1.0, 1 / kept[of_edit])
    return per_row.new_zeros(int(is_edit.sum())).index_add(0, of_edit, per_row * share)


@torch.no_grad()
def _covariance(parts: Parts, rows: Rows, site: nn.Module) -> Tensor:
    """Second moment of the site's inputs over one-hop prompts, lightly regularised: (Din, Din)."""
    chosen = rows.rng.choices(one_hop_questions(rows.world), k=COVARIANCE_ROWS)
    batch = collate([rows.one_hop(q, by_picture=False) for q in chosen], rows.encoder.pad_id)
    keys: list[Tensor] = []
    handle = site.register_forward_hook(
        lambda _, inputs, __: keys.append(_by_row(inputs[0], len(chosen)))
    )
    parts.text_model(input_ids=batch.input_ids)
    handle.remove()
    flat = keys[0][batch.attention_mask]
    moment = flat.T @ flat / len(flat)
    return moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment))
