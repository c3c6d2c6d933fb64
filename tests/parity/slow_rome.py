"""ROME of one edit, slow and by the book, for settings that no file of the authors' code covers.

Meng et al. 2022 with what their code does beyond it: whole forward passes of transformers' own
model, the offset put in by a hook on the MLP, torch's Adam, a dense changed weight. The arrays have
the names of the files rome_*.npz, so the same tests read both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

LAYER, LAYERS, VOCABULARY, PAD, IGNORED = 1, 3, 61, 0, -100
STOP_LOSS = 0.05  # published
SHARPNESS = 4.0  # of the final norm: at 1 no value makes so small a random model sure of a token


@dataclass(frozen=True)
class Variant:
    """One edit's settings; the defaults are the published ones for GPT-2.

    Attributes:
        kind: gpt2 or llama.
        steps, lr, decay, clamp, kl: of v*.
        moment: whether u is weighed with a second moment.
        contexts: number of prompts, the first without a prefix.
        target: tokens of the new object.
        ends_with_subject: whether the prompt ends with its subject.
        learned: steps in which the model learns the new object beforehand.
        dtype: of the model.
        seed: of weights and tokens.
    """

    kind: str = "gpt2"
    steps: int = 20
    lr: float = 0.5
    decay: float = 0.5
    clamp: float = 4.0
    kl: float = 0.0625
    moment: bool = True
    contexts: int = 3
    target: int = 2
    ends_with_subject: bool = False
    learned: int = 0
    dtype: torch.dtype = torch.float32
    seed: int = 0


ONE_PROMPT: dict[str, Any] = {
    "contexts": 1, "target": 1, "ends_with_subject": True, "kl": 0.0, "decay": 1e-3,
    "steps": 60,
}  # fmt: skip
VARIANTS: dict[str, Variant] = {
    "llama": Variant("llama"),
    "llama_f64": Variant("llama", dtype=torch.float64, seed=2, target=3),
    "llama_clamp": Variant("llama", clamp=0.5, decay=1e-3, seed=3),
    "llama_earlystop": Variant("llama", clamp=60.0, **ONE_PROMPT),
    "gpt2_nomom2": Variant(moment=False, contexts=4),
    "gpt2_earlystop": Variant(clamp=60.0, **ONE_PROMPT),
    "gpt2_zerostep": Variant(learned=60, decay=1e-3),
    "gpt2_one_step_at_most": Variant(steps=1),
}


@cache
def vectors(name: str) -> dict[str, np.ndarray]:
    """The arrays of a variant."""
    variant = VARIANTS[name]
    torch.manual_seed(variant.seed)
    model, config = _model(variant)
    draw = torch.Generator().manual_seed(variant.seed)

    def tokens(number: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (number,), generator=draw).tolist()

    head, subject, tail = tokens(3), tokens(3), tokens(0 if variant.ends_with_subject else 2)
    target, essence = tokens(variant.target), tokens(2)
    prefixes = [[], *(tokens(2 + number) for number in range(variant.contexts - 1))]
    plain = [*head, *subject, *tail]
    last = len(head) + len(subject) - 1
    prompts = [[*prefix, *plain] for prefix in prefixes]
    places = [len(prefix) + last for prefix in prefixes]
    asked = [[*prompt, *target[:-1]] for prompt in prompts]
    labels = torch.full((len(asked), max(map(len, asked))), IGNORED)
    for row, prompt in enumerate(prompts):
        start = len(prompt) - 1
        labels[row, start : start + len(target)] = torch.tensor(target)
    asked.append([*subject, *essence])
    if variant.learned:
        _learn(model, asked[:-1], labels, variant.learned)
    lookups = torch.tensor([*places, len(subject) - 1])
    v_ids, v_mask = _padded(asked)
    labels = nn.functional.pad(labels, (0, v_ids.shape[1] - labels.shape[1]), value=IGNORED)
    k_ids, k_mask = _padded(prompts)

    keys, _ = _read(model, k_ids, k_mask, torch.tensor(places))
    cur_input, cur_output = (found[0] for found in _read(model, *_padded([plain]), lookups[:1]))
    _, outputs = _read(model, v_ids, v_mask, lookups)
    moment = _second_moment(model, draw)
    key = keys.mean(0).double()
    left = torch.linalg.inv(moment.double()) @ key if variant.moment else key
    left = (left / left.norm()).to(keys.dtype)
    along = _optimise(model, variant, v_ids, v_mask, labels, lookups, outputs[0])
    wanted = outputs[0] + along.pop("delta")
    right = (wanted - cur_output) / (cur_input @ left)
    weight = _edited(model).weight
    delta = torch.outer(left, right)
    delta = delta if variant.kind == "gpt2" else delta.mT
    before, logits_before = weight.detach().clone(), _logits(model, v_ids, v_mask)
    with torch.no_grad():
        weight += delta
    logits_after = _logits(model, v_ids, v_mask)
    with torch.no_grad():
        weight.copy_(before)
    arrays: dict[str, Tensor] = {
        "C": moment, "k_input_ids": k_ids, "k_attention_mask": k_mask,
        "k_idxs": torch.tensor(places), "k_per_context": keys, "k_mean": keys.mean(0),
        "left_vector_u": left, "v_input_ids": v_ids, "v_attention_mask": v_mask,
        "v_labels": labels, "v_lookup_idxs": lookups, "target_ids": torch.tensor(target),
        "v_star": wanted, "cur_input_ids": torch.tensor([plain]), "cur_idx": lookups[0],
        "cur_input": cur_input, "cur_output": cur_output, "right_vector_v": right,
        "delta_W": delta, "W_before": before, "W_after": before + delta,
        "logits_before": logits_before, "logits_after": logits_after, **along,
    }  # fmt: skip
    arrays |= {f"model.{name}": value for name, value in model.state_dict().items()}
    wishes = {
        "layers": [LAYER], "v_num_grad_steps": variant.steps, "v_lr": variant.lr,
        "v_weight_decay": variant.decay, "clamp_norm_factor": variant.clamp,
        "kl_factor": variant.kl, "mom2_adjustment": variant.moment,
    }  # fmt: skip
    found = {name: value.detach().numpy().copy() for name, value in arrays.items()}
    texts = {"hparams_json": wishes, "config_json": config}
    return found | {name: np.array(json.dumps(value)) for name, value in texts.items()}


def _model(variant: Variant) -> tuple[nn.Module, dict[str, Any]]:
    if variant.kind == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_embd=16, n_layer=LAYERS, n_head=2, n_positions=32,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.3,
            attn_implementation="eager", bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model: nn.Module = GPT2LMHeadModel(config)
    else:
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
            initializer_range=0.3, attn_implementation="eager", bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    norm = model.get_submodule("transformer.ln_f" if variant.kind == "gpt2" else "model.norm")
    nn.init.constant_(norm.get_parameter("weight"), SHARPNESS)
    return model.eval().to(variant.dtype), config.to_dict() | {"dtype": None}


def _block(model: nn.Module) -> nn.Module:
    layers = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    return layers[LAYER]  # type: ignore[index, return-value]


def _edited(model: nn.Module) -> nn.Module:
    mlp = _block(model).mlp
    assert isinstance(mlp, nn.Module)
    return mlp.get_submodule("c_proj" if hasattr(mlp, "c_proj") else "down_proj")


def _padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[PAD] * (width - len(prompt))] for prompt in prompts])
    mask = torch.tensor([[*[1] * len(prompt), *[0] * (width - len(prompt))] for prompt in prompts])
    return ids, mask


@torch.no_grad()
def _logits(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    return model(input_ids=ids, attention_mask=mask).logits


def _read(model: nn.Module, ids: Tensor, mask: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Input and output of the edited matrix at one token of each row."""
    caught: list[Tensor] = []
    handle = _edited(model).register_forward_hook(
        lambda _module, args, output: caught.extend((args[0], output))
    )
    _logits(model, ids, mask)
    handle.remove()
    every = torch.arange(len(ids))
    return caught[0][every, places], caught[1][every, places]


def _second_moment(model: nn.Module, draw: torch.Generator) -> Tensor:
    """Of random tokens, with a ridge: so small a sample alone would not determine it."""
    caught: list[Tensor] = []
    handle = _edited(model).register_forward_hook(
        lambda _module, args, _output: caught.append(args[0].flatten(0, 1))
    )
    ids = torch.randint(1, VOCABULARY, (12, 30), generator=draw)
    _logits(model, ids, torch.ones_like(ids))
    handle.remove()
    moment = caught[0].mT @ caught[0] / len(caught[0])
    return moment + 0.1 * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)


def moment_file(*, maxlen: int, width: int, side: str) -> dict[str, np.ndarray]:
    """The arrays of a rome_second_moment file whose texts are cut to their first `maxlen` tokens.

    Args:
        maxlen: what counts of a text.
        width: of the rows, texts of all lengths up to it among them; more than the model reads.
        side: where they are padded.
    """
    torch.manual_seed(4)
    model = _model(Variant())[0]
    texts = torch.randint(1, VOCABULARY, (5, width))
    total, count = torch.zeros((), dtype=torch.float64), 0
    ids, mask = torch.full_like(texts, PAD), torch.zeros_like(texts)
    for row, text in enumerate(texts):
        length = width - 8 * row
        columns = slice(0, length) if side == "right" else slice(width - length, width)
        ids[row, columns], mask[row, columns] = text[:length], 1
        cut = text[None, : min(length, maxlen)]
        keys = torch.cat(
            [
                _read(model, cut, torch.ones_like(cut), torch.tensor([at]))[0]
                for at in range(len(cut[0]))
            ]
        ).double()
        total, count = total + keys.mT @ keys, count + len(keys)
    arrays = {f"model.{name}": value for name, value in model.state_dict().items()}
    arrays |= {
        "input_ids": ids, "attention_mask": mask, "maxlen": torch.tensor(maxlen),
        "mom2": total / count, "mom2_sum": total, "count": torch.tensor(count),
    }  # fmt: skip
    return {name: value.detach().numpy() for name, value in arrays.items()}


@contextmanager
def _offset(model: nn.Module, places: Tensor, delta: Tensor) -> Iterator[None]:
    def put(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        moved = output.clone()
        for row, place in enumerate(places.tolist()):
            moved[row, place] = moved[row, place] + delta
        return moved

    handle = _block(model).mlp.register_forward_hook(put)  # type: ignore[union-attr]
    try:
        yield
    finally:
        handle.remove()


def _optimise(
    model: nn.Module,
    variant: Variant,
    ids: Tensor,
    mask: Tensor,
    labels: Tensor,
    places: Tensor,
    start: Tensor,
) -> dict[str, Tensor]:
    model.requires_grad_(False)
    delta = torch.zeros_like(start, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=variant.lr)
    trace, before, gradients, after = [], [], [], []
    unedited = _logits(model, ids, mask)[-1, places[-1]].log_softmax(-1)
    for step in range(variant.steps):
        with _offset(model, places, delta):
            log_p = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        each = []
        for row, label in enumerate(labels):
            where = (label != IGNORED).nonzero()[:, 0]
            each.append(-log_p[row, where, label[where]].mean())
        nll = torch.stack(each).mean()
        now = log_p[-1, places[-1]]
        kl = variant.kl * (now.exp() * (now - unedited)).sum()
        decay = variant.decay * delta.norm() / start.norm() ** 2
        total = nll + kl + decay
        probability = torch.stack(each).neg().exp().mean()
        trace.append(torch.stack([total, nll, kl, decay, probability]).detach())
        if total < STOP_LOSS or step == variant.steps - 1:
            break
        adam.zero_grad()
        total.backward()
        assert delta.grad is not None
        before.append(delta.detach().clone())
        gradients.append(delta.grad.clone())
        adam.step()
        after.append(delta.detach().clone())
        limit = variant.clamp * start.norm()
        if delta.norm() > limit:
            with torch.no_grad():
                delta.mul_(limit / delta.norm())

    def table(found: list[Tensor]) -> Tensor:
        return torch.stack(found) if found else torch.zeros(0, len(start), dtype=start.dtype)

    return {
        "loss_trace": torch.stack(trace), "delta_before_step": table(before),
        "delta_grad": table(gradients), "delta_after_adam": table(after), "delta": delta.detach(),
    }  # fmt: skip


def _learn(model: nn.Module, asked: list[list[int]], labels: Tensor, steps: int) -> None:
    ids, mask = _padded(asked)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
    adam.zero_grad()
