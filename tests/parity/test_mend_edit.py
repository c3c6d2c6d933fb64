"""A whole MEND edit and its outer loss against vectors from the authors' code.

Their batch of two edit examples makes one edit (all tokens are summed), with the loss averaged over
the answer tokens of both; ours makes one edit per row, so the rows' factors are put side by side.
"""

from __future__ import annotations

import ast
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from editors.mend.editor import Mend
from metrics.functional import kl_divergence
from models.deltas import LowRankDelta, Site, linear_shape
from models.editable import Factors
from models.rows import TEXT_ONLY, Answers, Rows
from models.text import TextModel
from tests.builders import GOLDEN

pytestmark = pytest.mark.parity
FILES = sorted(GOLDEN.glob("mend_edit_*.npz"))
EDIT_WEIGHT, LOCALITY_WEIGHT = 0.1, 1.0


def test_vectors_are_there() -> None:
    assert FILES, f"no mend_edit_*.npz in {GOLDEN}; set TMKE_GOLDEN"


class Case:
    """The original's arrays beside our model, editor and rows."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.names = [str(name) for name in arrays["inner_params"]]
        weights = {k.removeprefix("model."): self[k] for k in arrays if k.startswith("model.")}
        self.model = TextModel(base_model(weights))
        layers = max(_site(self.model, name).layer for name in self.names) + 1
        self.editor = Mend(self.model, layers=layers, rank=8).to(next(iter(weights.values())).dtype)
        assert self.editor.sites == [_site(self.model, name) for name in self.names]
        self.load_editor()
        self.double = arrays["batch_dtype"] == np.float64

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def load_editor(self) -> None:
        state = {"edit_lr": self["edit_lrs"]}
        for name in self.arrays:
            if name.startswith("mend."):
                state[_ours(name.removeprefix("mend."))] = self[name]
        loaded = self.editor.load_state_dict(state, strict=False)
        assert not loaded.unexpected_keys
        assert all(".statistics." in name for name in loaded.missing_keys)

    def rows(self, name: str) -> Rows:
        ids, labels = self[f"batch.{name}.input_ids"], self[f"batch.{name}.labels"]
        return Rows(
            input_ids=ids,
            attention_mask=self[f"batch.{name}.attention_mask"].bool(),
            answer_mask=labels != -100,
            image_slots=torch.zeros_like(ids, dtype=torch.bool),
            image_index=torch.full((len(ids),), TEXT_ONLY),
            pixel_values=None,
            edit_index=torch.zeros(len(ids), dtype=torch.int64),
        )

    def factors(self) -> tuple[dict[Site, Factors], Answers]:
        rows = self.rows("inner")
        at = rows.answers()
        factors, _ = self.model.capture(self.model.prefix(rows, 0), self.editor.sites, at, mean_nll)
        return factors, at

    def edit(self, phase: str) -> dict[Site, LowRankDelta]:
        """The edit of a phase; `eval` uses the statistics that `train` left."""
        one_edit = {site: _one_edit(part) for site, part in self.factors()[0].items()}
        self.editor.train()
        deltas = self.editor.deltas(one_edit)
        if phase == "eval":
            deltas = self.editor.eval().deltas(one_edit)
        return deltas  # type: ignore[return-value]

    def logits(self, name: str, deltas: dict[Site, LowRankDelta] | None) -> Tensor:
        rows = self.rows(name)
        return self.model.suffix(
            self.model.prefix(rows, 0), deltas=deltas, edit_index=rows.edit_index
        )

    def losses(self, deltas: dict[Site, LowRankDelta]) -> tuple[Tensor, Tensor]:
        """Outer NLL over all answer tokens, and KL over all real tokens of the locality rows."""
        outer = self.rows("outer").answers()
        l_edit = mean_nll(self.logits("outer", deltas)[outer.row, outer.position], outer)
        real = self.rows("loc").attention_mask
        kl = kl_divergence(self.logits("loc", None)[real], self.logits("loc", deltas)[real])
        return l_edit, kl.mean()


def mean_nll(logits: Tensor, at: Answers) -> Tensor:
    return F.cross_entropy(logits, at.target)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    with np.load(request.param) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["batch_dtype"] = arrays["edit_lrs"].dtype
    return Case(arrays)


def assert_close(case: Case, ours: Tensor, name: str, single: float = 1e-5) -> None:
    theirs = case[name]
    relative = 1e-6 if case.double else single
    assert ours.shape == theirs.shape, name
    difference = float((ours.detach() - theirs).abs().max() / theirs.abs().max())
    assert difference <= relative, f"{name}: {difference:.2e}"


def test_gradient_factors(case: Case) -> None:
    factors, at = case.factors()
    for site, name in zip(case.editor.sites, case.names, strict=True):
        theirs = replace(
            factors[site], x=case[f"train.{name}.x"], delta=case[f"train.{name}.delta"]
        )
        if site.layer == case.model.n_layers - 1:  # ours has the answer tokens alone
            elsewhere = torch.ones(theirs.x.shape[:2], dtype=torch.bool)
            elsewhere[at.row, at.position] = False
            assert not theirs.delta[elsewhere].any()
            for part in ("x", "delta"):
                ours = getattr(factors[site], part)[factors[site].mask]
                expected = getattr(theirs, part)[at.row, at.position]
                worst = (ours - expected).abs().max() / expected.abs().max()
                assert worst <= (1e-6 if case.double else 1e-5)
        else:
            alive = case.rows("inner").attention_mask
            worst = (factors[site].x - theirs.x)[alive].abs().max() / theirs.x.abs().max()
            assert worst <= (1e-6 if case.double else 1e-5)
            assert_close(case, factors[site].delta, f"train.{name}.delta")


@pytest.mark.parametrize("phase", ["train", "eval"])
def test_edit_and_edited_model(case: Case, phase: str) -> None:
    deltas = case.edit(phase)
    for step, site, name in zip(case["edit_lrs"], case.editor.sites, case.names, strict=True):
        assert_close(case, deltas[site].inputs[0], f"{phase}.{name}.out_u", 1e-4)
        assert_close(case, deltas[site].outputs[0] / step, f"{phase}.{name}.out_v", 1e-4)
        dense = deltas[site].dense()[0]
        if "transformer." in name:  # Conv1D keeps (in, out)
            dense = dense.mT
        assert_close(case, dense, f"{phase}.{name}.delta_w", 1e-4)
    assert_close(case, case.logits("loc", None), f"{phase}.base_logits_loc")
    assert_close(case, case.logits("loc", deltas), f"{phase}.post_logits_loc", 1e-4)
    assert_close(case, case.logits("outer", deltas), f"{phase}.post_logits_outer", 1e-4)
    l_edit, l_loc = case.losses(deltas)
    assert_close(case, l_edit, f"{phase}.l_edit", 1e-4)
    assert_close(case, l_loc, f"{phase}.l_loc", 1e-4)


@pytest.mark.parametrize("phase", ["train", "eval"])
def test_statistics(case: Case, phase: str) -> None:
    case.edit(phase)
    for group in (key for key in case.arrays if key.startswith("shape_group.")):
        shape = group.removeprefix("shape_group.")
        statistics = case.editor.transforms[_network(shape)].statistics
        norm = f"{phase}.norm.{shape}"
        assert int(statistics.count) == int(case[f"{norm}.k"])
        sides = ast.literal_eval(shape)
        for side, mean, squares in zip(
            "uv", statistics.mean.split(sides), statistics.squares.split(sides), strict=True
        ):
            assert_close(case, mean, f"{norm}.{side}_mean", 1e-4)
            assert_close(case, squares, f"{norm}.{side}_s", 1e-4)


def test_editor_gradients(case: Case) -> None:
    l_edit, l_loc = case.losses(case.edit("train"))
    total = EDIT_WEIGHT * l_edit + LOCALITY_WEIGHT * l_loc
    assert_close(case, total, "train.l_total_edit", 1e-4)
    parameters = dict(case.editor.named_parameters())
    gradients = dict(
        zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True)
    )
    compared = {"edit_lr"}
    assert_close(case, gradients["edit_lr"], "train.grad.edit_lrs", 1e-4)
    for name in case.arrays:
        if name.startswith("train.grad.mend."):
            ours = _ours(name.removeprefix("train.grad.mend."))
            assert_close(case, gradients[ours], name, 1e-4)
            compared.add(ours)
    assert compared == set(parameters)


def base_model(weights: dict[str, Tensor]) -> torch.nn.Module:
    """The tiny GPT-2 or Llama (two heads, eager attention) that the vectors were made with."""
    if "transformer.wte.weight" in weights:
        vocabulary, width = weights["transformer.wte.weight"].shape
        config = GPT2Config(
            vocab_size=vocabulary, n_embd=width, n_layer=_count(weights, "transformer.h."),
            n_head=2, n_positions=len(weights["transformer.wpe.weight"]),
            attn_implementation="eager",
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    else:
        vocabulary, width = weights["model.embed_tokens.weight"].shape
        inner = len(weights["model.layers.0.mlp.up_proj.weight"])
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=inner,
            num_hidden_layers=_count(weights, "model.layers."), num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=64, attn_implementation="eager",
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    model = model.to(next(iter(weights.values())).dtype)
    loaded = model.load_state_dict(weights, strict=False)  # rotary and tied buffers aside
    parameters = dict(model.named_parameters())
    assert not [name for name in loaded.missing_keys if name in parameters]
    return model


def _count(weights: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in weights if prefix in n)


def _site(model: TextModel, name: str) -> Site:
    """transformer.h.0.mlp.c_proj.weight -> Site(0, mlp_out)."""
    parts = name.split(".")
    layer = int(next(part for part in parts if part.isdigit()))
    for role, path in model.decoder.sites.items():
        if name.endswith(f"{path}.weight"):
            assert linear_shape(model.linear(Site(layer, role)))
            return Site(layer, role)
    raise AssertionError(name)


def _network(shape: str) -> str:
    return "{}x{}".format(*ast.literal_eval(shape))


def _ours(name: str) -> str:
    """(64, 16).mlp.layers.0.mode_shift.weight -> transforms.64x16.mlp.layers.0.shift."""
    shape, rest = name.split(".", 1)
    return f"transforms.{_network(shape)}." + rest.replace("mode_", "").replace(".weight", "")


def _one_edit(part: Factors) -> Factors:
    return Factors(*(value.flatten(0, 1)[None] for value in (part.x, part.delta, part.mask)))
