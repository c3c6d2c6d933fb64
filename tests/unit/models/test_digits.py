"""Models in half precision: logits and weight deltas keep the digits of float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import Gemma2Config, Gemma2ForCausalLM
from transformers.pytorch_utils import Conv1D

from editors.base import DeltaEdit
from lightning_modules.finite import FiniteCheck
from lightning_modules.predictions import Predictions
from lightning_modules.scoring import compare_everywhere
from models import head
from models.context import answer_with_shared_prefix
from models.deltas import (
    DenseDelta,
    Groups,
    LowRankDelta,
    Site,
    apply_deltas,
    apply_to_every_row,
    join_deltas,
    linear_weight,
)
from models.editable import EditableModel
from models.head import head_logits, in_single_precision
from models.rows import Rows, pooled_pictures
from tests.builders import Prompt, any_model, edit_batch, llava, random_deltas, rows_of

HALF = (torch.bfloat16, torch.float16)
KINDS = ("llava", "blip2", "minigpt4", "gpt2", "opt", "llama")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
FORMS = ("low_rank", "dense")
SMALL = 1e-9  # the least number of float16 is 6e-8


def rows(n: int = 4, *, answer: int = 3) -> Rows:
    draw = torch.Generator().manual_seed(1)
    return rows_of(
        [
            Prompt(tuple(torch.randint(4, 97, (length,), generator=draw).tolist()), answer, row % 2)
            for row, length in zip(range(n), [9, 6, 12, 7] * (n // 4), strict=True)
        ]
    )


def exact(model: EditableModel, hidden: Tensor) -> Tensor:
    """The head's own numbers on what it is given, in float64."""
    bias = getattr(model.decoder.head, "bias", None)
    logits = hidden.double() @ linear_weight(model.decoder.head).double().mT
    return logits if bias is None else logits + bias.double()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_not_rounded_to_the_models_type(kind: str, dtype: torch.dtype) -> None:
    """Every way to logits: at answers, everywhere, of the last layer, by a cache, for gradients."""
    model, asked = any_model(kind).to(dtype), rows()
    at, state = asked.answers(), model.prefix(asked, 0)
    seen: list[Tensor] = []
    # A norm's last output is what the head is given.
    handle = model.decoder.norm.register_forward_hook(lambda *given: seen.append(given[-1]))
    deltas = random_deltas(model, layers=1, dense=True)
    passes = {
        "answers": lambda: model.suffix(state, at=at),
        "everywhere": lambda: model.suffix(state),
        "edited": lambda: model.suffix(state, deltas=deltas, edit_index=asked.edit_index, at=at),
        "last layer": lambda: model.finish_answers(model.answer_state(state, at)),
        "capture": lambda: model.capture(state, model.last_sites(1), at)[1],
    }
    for name, run in passes.items():
        logits = run().detach()
        assert logits.dtype == torch.float32
        torch.testing.assert_close(
            logits, exact(model, seen[-1].detach()).float(), **CLOSE, msg=name
        )
    if kind != "gpt2":
        logits = answer_with_shared_prefix(model, asked, at)
        assert (logits != logits.to(dtype).float()).any()
    handle.remove()


def test_the_two_likeliest_tokens_do_not_tie() -> None:
    """In bfloat16 a random model of 2,000 tokens tied in 4 of 100 answers."""
    model, asked = llava(vocabulary=2000).to(torch.bfloat16), rows(40, answer=5)
    top = model(asked, at=asked.answers()).topk(10).values
    rounded = top.to(torch.bfloat16)
    assert (rounded[:, 0] == rounded[:, 1]).any(), "nothing ties here, whatever is done"
    assert not (top[:, 1:] == top[:, :-1]).any()


@pytest.mark.parametrize("dtype", HALF)
def test_an_unedited_model_agrees_with_itself(dtype: torch.dtype) -> None:
    """At answers and everywhere; a delta of zeros changes nothing either."""
    model, asked = any_model("llava").to(dtype), rows()
    at, state = asked.answers(), model.prefix(asked, 1)
    deltas = random_deltas(model, layers=2, dense=False)
    zeros = {
        site: LowRankDelta(delta.inputs, torch.zeros_like(delta.outputs))
        for site, delta in deltas.items()
        if isinstance(delta, LowRankDelta)
    }
    pre = Predictions.of(model.suffix(state, at=at))
    check = FiniteCheck(edit_batch([1]), model, "none")
    for edit in (DeltaEdit(), DeltaEdit(zeros)):
        post = Predictions.of(edit.answer(model, asked, state, at))
        assert torch.equal(pre.top, post.top)
        everywhere = compare_everywhere(model, edit, asked, state, torch.arange(len(asked)), check)
        assert all(bool((values == 1).all()) for values in everywhere.values())


class NoCopyOf(TorchDispatchMode):
    """Refuses a tensor in float32 with as many numbers as a head, or more."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.largest = size, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                self.largest = max(self.largest, tensor.numel())
        assert self.largest < self.size, f"{func} makes {self.largest} numbers in float32"
        return result


@pytest.mark.parametrize("rows_of_a_block", [1, 7, 64, 1000])
def test_a_head_is_brought_to_float32_block_by_block(
    rows_of_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients are those of a copy in float32, and no such copy is made."""
    torch.manual_seed(0)
    half = nn.Linear(16, 97).to(torch.bfloat16).requires_grad_(False)
    hidden = torch.randn(2, 3, 16).to(torch.bfloat16).requires_grad_(True)
    wanted = torch.randn(2, 3, 97)
    copied = F.linear(hidden.float(), half.weight.float(), half.bias.float())
    (expected,) = torch.autograd.grad((copied * wanted).sum(), hidden)
    monkeypatch.setattr(head, "CPU_BLOCK_BYTES", rows_of_a_block * 16 * 4)
    with NoCopyOf(97 * 16 if rows_of_a_block < 97 else 10**9):
        logits = head_logits(half, hidden)
        (gradient,) = torch.autograd.grad((logits * wanted).sum(), hidden)
    torch.testing.assert_close(logits, copied)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", ["conv", "8bit", "4bit", "other"])
def test_heads_that_are_stored_in_another_way(kind: str) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(64, 96).to(torch.bfloat16)
    hidden = torch.randn(5, 64).to(torch.bfloat16)
    other: nn.Module = nn.Sequential(plain)  # whatever it does is its own business
    if kind == "conv":
        other = Conv1D(96, 64).to(torch.bfloat16)
        other.weight.data, other.bias.data = plain.weight.data.mT.clone(), plain.bias.data
    if kind == "8bit":
        other = Linear8bitLt(64, 96, has_fp16_weights=False)
    if kind == "4bit":
        other = Linear4bit(64, 96, compute_dtype=torch.bfloat16, quant_type="nf4")
    if kind in ("8bit", "4bit"):
        other.load_state_dict(plain.state_dict(), strict=False)
        other = other.to("cpu")
    logits = head_logits(other, hidden)
    assert logits.dtype == torch.float32
    if kind == "other":
        assert torch.equal(logits, plain(hidden).float())
        return
    bias = other.get_parameter("bias").double()
    expected = hidden.double() @ linear_weight(other).double().mT + bias
    torch.testing.assert_close(logits.double(), expected, **CLOSE)


def test_mixed_precision_leaves_logits_alone() -> None:
    """Under autocast a head in float32 gave logits in bfloat16, in training too."""
    model, asked = any_model("llava"), rows()
    at, state = asked.answers(), model.prefix(asked, 0)
    hidden = model.answer_state(state, at)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.head_logits(hidden)
    torch.testing.assert_close(logits, exact(model, hidden).float(), **CLOSE)


def test_a_models_own_pass_has_its_logits_in_single_precision() -> None:
    """SERAC's counterfactual model under mixed precision; without it nothing is put in."""
    model, asked = any_model("llama").hf, rows()
    called = {"input_ids": asked.input_ids, "attention_mask": asked.attention_mask.long()}
    lm_head = model.get_output_embeddings()
    with torch.autocast("cpu", torch.bfloat16), in_single_precision(lm_head):
        logits = model(**called).logits
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).any()
    with in_single_precision(lm_head):
        assert not lm_head._forward_hooks
    assert not lm_head._forward_hooks


def test_what_a_family_does_to_its_logits_is_kept() -> None:
    """Gemma 2 bends them to a cap; the bent ones have the digits of float32, too."""
    cap = 3.0
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 16, "intermediate_size": 24,
             "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
             "head_dim": 8}  # fmt: skip
    config = Gemma2Config(**sizes, final_logit_softcapping=cap, initializer_range=1.0)
    model = Gemma2ForCausalLM(config).to(torch.bfloat16).eval()
    ids, lm_head = rows().input_ids[:, :4], model.get_output_embeddings()
    with torch.no_grad(), in_single_precision(lm_head):
        logits = model(input_ids=ids).logits
        hidden = model.model(input_ids=ids).last_hidden_state
    straight = hidden.double() @ lm_head.weight.double().mT
    expected = cap * torch.tanh(straight / cap)
    assert (straight.abs() > cap).any()
    torch.testing.assert_close(logits.double(), expected, atol=1e-5, rtol=1e-4)


def small_delta(kind: str, width: int, out: int) -> LowRankDelta | DenseDelta:
    draw = torch.Generator().manual_seed(2)
    if kind == "dense":
        return DenseDelta(SMALL * torch.randn(1, out, width, generator=draw))
    inputs = SMALL * torch.randn(1, 2, width, generator=draw)
    return LowRankDelta(inputs, 1e7 * torch.randn(1, 2, out, generator=draw))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", FORMS)
def test_small_deltas_are_not_dropped(kind: str, dtype: torch.dtype) -> None:
    """float16 has no number below 6e-8; the products of such factors are as good as any."""
    delta = small_delta(kind, 16, 8)
    x = (1000 * torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(3))).to(dtype)
    expected = x.double() @ delta.dense().double().mT
    torch.testing.assert_close(delta(x).double(), expected, atol=0, rtol=1e-4)
    linear, site = nn.Linear(16, 8, bias=False).to(dtype), Site(0, "mlp_out")
    nn.init.zeros_(linear.weight)
    groups = Groups(torch.zeros(5, dtype=torch.int64), 1)
    in_hooks = (
        apply_deltas({site: linear}, {site: delta}, groups),
        apply_to_every_row({site: linear}, {site: delta}),
    )
    for block in in_hooks:
        with block, torch.no_grad():
            moved = linear(x[0])
        assert moved.dtype == dtype
        rounding = {"atol": 1e-7, "rtol": 1e-2}
        torch.testing.assert_close(moved.double(), expected[0], **rounding)


def test_small_deltas_are_added_up_in_single_precision() -> None:
    """Edits on top of each other, and factors that came in half precision."""
    pairs = small_delta("low_rank", 16, 8)
    both = join_deltas(pairs, small_delta("dense", 16, 8))
    assert both.dense().dtype == torch.float32
    half = LowRankDelta(torch.full((1, 1, 4), 1e-4).half(), torch.full((1, 1, 4), 1e-4).half())
    torch.testing.assert_close(half.dense(), torch.full((1, 4, 4), 1e-8), atol=0, rtol=1e-2)


@pytest.mark.parametrize("dtype", HALF)
def test_the_mean_of_a_picture_s_features_is_not_rounded(dtype: torch.dtype) -> None:
    features = torch.randn(1, 576, 8, generator=torch.Generator().manual_seed(4)).to(dtype)
    asked = replace(
        rows_of([Prompt((5, 6, 7), 1, 0, 7)]), features=features, image_index=torch.tensor([0])
    )
    pooled = pooled_pictures(asked)
    assert pooled is not None
    torch.testing.assert_close(pooled.double(), features.double().mean(1), atol=1e-7, rtol=1e-5)
