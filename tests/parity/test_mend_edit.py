"""A whole MEND edit and its outer loss against vectors from the authors' code.

Their batch of edit examples makes one edit (all tokens are summed), with the loss averaged over the
answer tokens of all; ours makes one edit per row, so the rows' factors are put side by side. Any
`mend_edit*.npz` in TMKE_GOLDEN is tested; sizes, layers and rank are read from the arrays.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.check import load_config
from configs.schema import TrainConfig
from editors.base import DeltaEdit
from metrics.functional import exact_match, kl_divergence
from models.deltas import LowRankDelta, Site
from models.factors import Factors
from models.rows import TEXT_ONLY, Answers, EditBatch, Rows
from runner.training import make_objective
from tests.editors import mend
from tests.parity import vectors
from tests.parity.tiny_models import base_model
from tests.text_model import TextModel

pytestmark = pytest.mark.parity
PATTERN = "mend_edit*.npz"
PHASES = ("train", "eval")
EDIT_WEIGHT, LOCALITY_WEIGHT = 0.1, 1.0


def test_vectors_are_there() -> None:
    vectors.assert_shipped(PATTERN)


class Case:
    """The original's arrays beside our model, editor and rows."""

    def __init__(self, path: Path) -> None:
        self.arrays = vectors.load(path)
        self.names = [str(name) for name in self.arrays["inner_params"]]
        self.model = TextModel(base_model(vectors.below(self.arrays, "model.")))
        sites = [_site(self.model, name) for name in self.names]
        networks = vectors.below(self.arrays, "mend.")
        self.dtype = next(iter(networks.values())).dtype
        self.editor = mend(
            self.model,
            layers=len({site.layer for site in sites}),
            rank=max(len(value) for name, value in networks.items() if name.endswith(".v")),
            n_hidden=max(int(name.split(".")[3]) for name in networks),
        ).to(self.dtype)
        assert self.editor.sites == sites
        state = {_ours(name): value for name, value in networks.items()}
        loaded = self.editor.load_state_dict(state | {"edit_lr": self["edit_lrs"]}, strict=False)
        assert not loaded.unexpected_keys
        assert all(".statistics." in name for name in loaded.missing_keys)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def check(self, name: str, ours: Tensor, single: float = 1e-5) -> None:
        """Compares with an array; `single` is the tolerance in single precision."""
        relative = vectors.tolerance(self.arrays, double=1e-6, single=single)
        vectors.assert_close(ours, self[name], relative, name)

    def rows(self, name: str) -> Rows:
        ids, labels = self[f"batch.{name}.input_ids"], self[f"batch.{name}.labels"]
        answer = labels != -100
        answer[:, 0] = False  # nothing comes before the first token that could predict it
        assert torch.equal(ids[answer], labels[answer])
        return Rows(
            input_ids=ids,
            attention_mask=self[f"batch.{name}.attention_mask"].bool(),
            answer_mask=answer,
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

    def answers(self, name: str, deltas: dict[Site, LowRankDelta] | None) -> dict[str, Tensor]:
        """MEND's numbers of a batch: means over its answer tokens, and over its rows for `acc`."""
        at = self.rows(name).answers()
        logits = self.logits(name, deltas)[at.row, at.position]
        nll = F.cross_entropy(logits, at.target, reduction="none")
        right = exact_match(logits.argmax(-1), at.target, at.row, at.n_rows)
        return {
            "nll": nll.mean(),
            "prob": (-nll).exp().mean(),
            "acc": right.nan_to_num(1).to(nll.dtype).mean(),
            "n_tokens": torch.tensor(len(nll), dtype=nll.dtype),
        }

    def losses(self, deltas: dict[Site, LowRankDelta]) -> tuple[Tensor, Tensor]:
        """Outer NLL over all answer tokens, and KL over all real tokens of the locality rows."""
        real = self.rows("loc").attention_mask
        kl = kl_divergence(self.logits("loc", None)[real], self.logits("loc", deltas)[real])
        return self.answers("outer", deltas)["nll"], kl.mean()


def mean_nll(logits: Tensor, at: Answers) -> Tensor:
    return F.cross_entropy(logits, at.target)


@pytest.fixture(params=vectors.parameters(PATTERN))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("phase", PHASES)
def test_gradient_factors(case: Case, phase: str) -> None:
    factors, at = case.factors()
    for site, name in zip(case.editor.sites, case.names, strict=True):
        theirs = replace(
            factors[site], x=case[f"{phase}.{name}.x"], delta=case[f"{phase}.{name}.delta"]
        )
        if site.layer == case.model.n_layers - 1:  # ours has the answer tokens alone
            elsewhere = torch.ones(theirs.x.shape[:2], dtype=torch.bool)
            elsewhere[at.row, at.position] = False
            assert not theirs.delta[elsewhere].any()
            here: tuple[Tensor, ...] = (at.row, at.position)
            mine = factors[site].mask
        else:
            mine = case.rows("inner").attention_mask
            here = mine.nonzero(as_tuple=True)
            assert not theirs.delta[~mine].any()
        single = vectors.tolerance(case.arrays, double=1e-6)
        for part in ("x", "delta"):
            ours, expected = getattr(factors[site], part)[mine], getattr(theirs, part)[here]
            vectors.assert_close(ours, expected, single, f"{phase}.{name}.{part}")


@pytest.mark.parametrize("phase", PHASES)
def test_edit_and_edited_model(case: Case, phase: str) -> None:
    deltas = case.edit(phase)
    for step, site, name in zip(case["edit_lrs"], case.editor.sites, case.names, strict=True):
        group = next(
            [str(one) for one in members]
            for key, members in case.arrays.items()
            if key.startswith("shape_group.") and name in members
        )
        assert int(case[f"{phase}.{name}.mode"]) == group.index(name)
        case.check(f"{phase}.{name}.out_u", deltas[site].inputs[0])
        case.check(f"{phase}.{name}.out_v", deltas[site].outputs[0] / step)
        dense = deltas[site].dense()[0]
        if name.startswith("transformer."):  # Conv1D keeps (in, out)
            dense = dense.mT
        case.check(f"{phase}.{name}.delta_w", dense, 1e-4)
    case.check(f"{phase}.base_logits_loc", case.logits("loc", None), 1e-5)
    # An edited model's answers are as exact as its edit: in single precision as delta_w.
    case.check(f"{phase}.post_logits_loc", case.logits("loc", deltas), 1e-4)
    case.check(f"{phase}.post_logits_outer", case.logits("outer", deltas), 1e-4)


@pytest.mark.parametrize("phase", PHASES)
def test_losses_and_logged_scalars(case: Case, phase: str) -> None:
    deltas = case.edit(phase)
    l_edit, l_loc = case.losses(deltas)
    total = EDIT_WEIGHT * l_edit + LOCALITY_WEIGHT * l_loc
    case.check(f"{phase}.l_edit", l_edit)
    case.check(f"{phase}.l_loc", l_loc)
    case.check(f"{phase}.l_total_edit", total)
    outer, pre, post = (
        case.answers(name, given)
        for name, given in (("outer", deltas), ("loc", None), ("loc", deltas))
    )
    found = {
        "loss/edit": l_edit, "loss/loc": l_loc, "loss/total": total, "loss/total_edit": total,
        "edit/acc": outer["acc"], "edit/prob": outer["prob"], "edit/log_prob": -outer["nll"],
        **{f"{name}/pre": pre[name] for name in ("acc", "nll", "n_tokens")},
        **{f"{name}/post": post[name] for name in ("acc", "nll", "n_tokens")},
        **gradient_scalars(case, phase, deltas),
    }  # fmt: skip
    for name, value in found.items():
        if f"{phase}.info.{name}" in case.arrays:
            expected = float(case[f"{phase}.info.{name}"])
            relative = vectors.tolerance(case.arrays, double=1e-6, single=1e-4)
            # A cosine near 0 is a difference of numbers near 1.
            absolute = relative if "cos" in name else 0.0
            assert float(value.detach()) == pytest.approx(expected, rel=relative, abs=absolute), (
                name
            )


def gradient_scalars(case: Case, phase: str, deltas: dict[Site, LowRankDelta]) -> dict[str, Tensor]:
    """How the transformed gradient of each matrix compares with the true one."""
    found: dict[str, Tensor] = {}
    for number, (name, site) in enumerate(zip(case.names, case.editor.sites, strict=True)):
        x, delta = case[f"{phase}.{name}.x"], case[f"{phase}.{name}.delta"]
        true = torch.einsum("bto,bti->oi", delta, x)
        pseudo = deltas[site].dense()[0] / case["edit_lrs"][number]
        found |= {
            f"grad/true_mag{number}": true.norm(),
            f"grad/pseudo_mag{number}": pseudo.norm(),
            f"grad/true_std{number}": true.std(),
            f"grad/pseudo_std{number}": pseudo.std(),
            f"grad/diff{number}": (true - pseudo).norm(),
            f"grad/cos{number}": F.cosine_similarity(true.flatten(), pseudo.flatten(), dim=0),
        }
    return found


@pytest.mark.parametrize("phase", PHASES)
def test_the_published_kl_is_the_one_that_a_command_line_trains_with(
    case: Case, phase: str
) -> None:
    """Over every token of a row; theirs is one mean over the tokens of all rows of a batch."""
    cfg = load_config("train", ["editor=mend", "metrics=vlkeb_compat"])
    assert isinstance(cfg, TrainConfig)
    objective = make_objective(cfg)
    edit, rows = DeltaEdit(dict(case.edit(phase))), case.rows("loc")
    lengths = rows.attention_mask.sum(1)
    total = case[f"{phase}.l_loc"].new_zeros(())
    for row in torch.arange(len(rows)):
        one = rows.select(row[None])
        probes = {"locality_far": torch.tensor([0])}
        batch = EditBatch(one, torch.tensor([0]), probes, (0,), ("",))
        loss = objective(case.model, edit, batch, case.model.prefix(one, 0))
        total = total + loss.terms["locality"] * lengths[row] / lengths.sum()
    case.check(f"{phase}.l_loc", total)


@pytest.mark.parametrize("phase", PHASES)
def test_statistics(case: Case, phase: str) -> None:
    case.edit(phase)
    groups = [name.removeprefix("shape_group.") for name in case.arrays if "shape_group." in name]
    assert groups
    for shape in groups:
        statistics = case.editor.transforms[_network(shape)].statistics
        norm, sides = f"{phase}.norm.{shape}", ast.literal_eval(shape)
        assert int(statistics.count) == int(case[f"{norm}.k"])
        for kind, value in (
            ("mean", statistics.mean), ("s", statistics.squares), ("std", statistics.std),
        ):  # fmt: skip
            for side, part in zip("uv", value.split(sides), strict=True):
                case.check(f"{norm}.{side}_{kind}", part)


def test_editor_gradients(case: Case) -> None:
    l_edit, l_loc = case.losses(case.edit("train"))
    total = EDIT_WEIGHT * l_edit + LOCALITY_WEIGHT * l_loc
    parameters = dict(case.editor.named_parameters())
    gradients = dict(
        zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True)
    )
    compared = {"edit_lr"}
    case.check("train.grad.edit_lrs", gradients["edit_lr"], 1e-4)
    for name in case.arrays:
        if name.startswith("train.grad.mend."):
            ours = _ours(name.removeprefix("train.grad.mend."))
            case.check(name, gradients[ours], 1e-4)
            compared.add(ours)
    assert compared == set(parameters)


def _site(model: TextModel, name: str) -> Site:
    """transformer.h.0.mlp.c_proj.weight -> Site(0, mlp_out)."""
    layer = int(next(part for part in name.split(".") if part.isdigit()))
    roles = (role for role, path in model.decoder.sites.items() if name.endswith(f"{path}.weight"))
    return Site(layer, next(roles))


def _network(shape: str) -> str:
    return "{}x{}".format(*ast.literal_eval(shape))


def _ours(name: str) -> str:
    """(64, 16).mlp.layers.0.mode_shift.weight -> transforms.64x16.mlp.layers.0.shift."""
    shape, rest = name.split(".", 1)
    return f"transforms.{_network(shape)}." + rest.replace("mode_", "").replace(".weight", "")


def _one_edit(part: Factors) -> Factors:
    return Factors(*(value.flatten(0, 1)[None] for value in (part.x, part.delta, part.mask)))
