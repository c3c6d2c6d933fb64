"""ROME against the authors' code: k*, u, the trajectory of v*, the update, the second moment.

Any file rome_*.npz in TMKE_GOLDEN is taken: GPT-2 or Llama, with or without second moment,
with an active projection, an early stop, or nothing to do. Single-shot values in float32 agree to
1e-5 of an array's largest value, trajectories to 1e-4. What no file here covers is compared with
the slow reference of slow_rome.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM

import editors.rome.values as values_module
from editors.rome.moments import second_moments
from editors.rome.update import factored, rank_one, unit_direction
from editors.rome.values import Prompts, Terms, Values, optimise
from models.deltas import Site, linear_weight
from models.rows import TEXT_ONLY, Answers, Rows
from tests.editors import editor_options
from tests.parity import slow_rome
from tests.parity.tiny_models import base_model
from tests.parity.vectors import Vectors, assert_shipped, below, files, load, parameters
from tests.text_model import TextModel

pytestmark = pytest.mark.parity
PATTERN, MOMENTS = "rome_*.npz", "rome_second_moment*.npz"
ONCE, ALONG = 1e-5, 1e-4
IGNORED = -100
TRAJECTORY = ("delta_before_step", "delta_grad", "delta_after_adam")  # empty if no step was made


class Case:
    """The arrays of a file, its model, and our computation of the same edit."""

    def __init__(self, arrays: Vectors) -> None:
        self.arrays = arrays
        self.wanted = json.loads(str(self.arrays["hparams_json"]))
        self.model = text_model(self.arrays, json.loads(str(self.arrays["config_json"])))
        self.site = Site(int(self.wanted["layers"][0]), "mlp_out")
        self.steps: list[tuple[Tensor, Terms]] = []  # offset and loss at each evaluation
        self.moved: list[Tensor] = []  # offset after Adam, before the projection

    def __getitem__(self, name: str) -> Tensor:
        if name in TRAJECTORY and len(self.arrays["loss_trace"]) == 1:
            return torch.zeros(0, len(self.arrays["v_star"]))
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def prompts(self) -> tuple[Rows, Prompts]:
        """The rewriting prompts with their targets, and the prompt of the divergence, last."""
        rows = rows_of(self["v_input_ids"], self["v_attention_mask"])
        row, position = (self["v_labels"] != IGNORED).nonzero(as_tuple=True)
        at = Answers(row, position, self["v_labels"][row, position], len(rows))
        last = len(rows) - 1
        prompts = Prompts(
            lookup=self["v_lookup_idxs"].long(),
            edit=torch.zeros(len(rows), dtype=torch.int64),
            plain=torch.tensor([0]),
            essence=torch.tensor([last]),
            at=at,
        )
        return rows, prompts

    def values(self) -> Values:
        rows, prompts = self.prompts()
        options = editor_options(
            "rome",
            steps=self.wanted["v_num_grad_steps"],
            lr=self.wanted["v_lr"],
            weight_decay=self.wanted["v_weight_decay"],
            clamp=self.wanted["clamp_norm_factor"],
            kl=self.wanted["kl_factor"],
        )
        state = self.model.prefix(rows, self.site.layer)
        return Watched(self, self.model, state, self.site, prompts, options)

    def edit(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Values, Tensor]:
        """Our v*, with every step remembered."""
        real = values_module.project

        def watch(offsets: Tensor, limit: Tensor) -> None:
            self.moved.append(offsets.detach().clone()[0])
            real(offsets, limit)

        monkeypatch.setattr(values_module, "project", watch)
        values = self.values()
        offsets = optimise(values)
        if len(self.steps) < self.wanted["v_num_grad_steps"] and self.moved:
            last = self.steps[-1][1].total
            if float(last) >= values.options.stop_loss:  # the published last round only looks
                values.terms(offsets, torch.tensor([0]))
        elif not self.moved and not self.steps:
            values.terms(offsets, torch.tensor([0]))
        return values, offsets

    def close(self, ours: Tensor, name: str, tolerance: float) -> None:
        theirs = self[name]
        assert ours.shape == theirs.shape, name
        if not theirs.numel():
            return
        scale = max(float(theirs.abs().max()), 1e-6)
        assert float((ours.detach() - theirs).abs().max()) <= tolerance * scale, name


class Watched(Values):
    """The loss, with every evaluation remembered."""

    def __init__(self, case: Case, *args: object) -> None:
        self._case = case
        super().__init__(*args)  # type: ignore[arg-type]

    def terms(self, offsets: Tensor, edits: Tensor) -> Terms:
        found = super().terms(offsets, edits)
        self._case.steps.append((offsets.detach().clone()[0], Terms(*(t.detach() for t in found))))
        return found


def text_model(arrays: dict[str, np.ndarray], config: dict[str, object]) -> TextModel:
    """The model of a file; every parameter must be there."""
    kind = str(config.pop("model_type"))
    made = AutoConfig.for_model(kind, **config)
    hf = AutoModelForCausalLM.from_config(made, attn_implementation="eager")
    weights = {
        name.removeprefix("model."): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("model.")
    }
    missing = hf.load_state_dict(weights, strict=False).missing_keys
    parameters = {name for name, _ in hf.named_parameters()}
    tied = {"lm_head.weight"} if made.tie_word_embeddings else set()
    assert not parameters & set(missing) - tied
    return TextModel(hf.to(next(iter(weights.values())).dtype))


def rows_of(ids: Tensor, mask: Tensor) -> Rows:
    none = torch.zeros_like(ids, dtype=torch.bool)
    index = torch.zeros(len(ids), dtype=torch.int64)
    text_only = torch.full_like(index, TEXT_ONLY)
    return Rows(ids.long(), mask.bool(), none, none, text_only, None, index)


def keys_at(case: Case, ids: str, mask: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    state = case.model.prefix(rows_of(case[ids], mask), case.site.layer)
    return case.model.read(state, case.site, torch.arange(len(places)), places.long())


def stacked(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(parts)[: len(like)]) if len(like) else torch.zeros_like(like)


@pytest.fixture(
    params=[*files(PATTERN, without=MOMENTS), *slow_rome.VARIANTS],
    ids=lambda given: given.stem if isinstance(given, Path) else f"slow_{given}",
)
def case(request: pytest.FixtureRequest) -> Case:
    given = request.param
    return Case(load(given) if isinstance(given, Path) else slow_rome.vectors(given))


def test_vectors_are_there() -> None:
    assert_shipped(PATTERN, without=MOMENTS)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_slow_reference_covers_every_end_of_the_optimisation(kind: str) -> None:
    early = slow_rome.vectors(f"{kind}_earlystop")["loss_trace"]
    assert 1 < len(early) < slow_rome.VARIANTS[f"{kind}_earlystop"].steps
    assert early[-1, 0] < slow_rome.STOP_LOSS <= early[:-1, 0].min()
    assert len(slow_rome.vectors("gpt2_zerostep")["loss_trace"]) == 1
    assert len(slow_rome.vectors("llama")["loss_trace"]) == slow_rome.VARIANTS["llama"].steps
    clamped = slow_rome.vectors("llama_clamp")
    moved, after = clamped["delta_after_adam"][:-1], clamped["delta_before_step"][1:]
    assert (np.abs(moved - after).max(1) > 0).all()  # the projection is at work in every step


def test_key_and_unit_direction(case: Case) -> None:
    keys, _ = keys_at(case, "k_input_ids", case["k_attention_mask"], case["k_idxs"])
    case.close(keys, "k_per_context", ONCE)
    case.close(keys.mean(0), "k_mean", ONCE)
    moment = factored(case["C"]) if case.wanted["mom2_adjustment"] else None
    left = unit_direction(keys.mean(0, keepdim=True), moment)[0]
    case.close(left, "left_vector_u", ONCE)
    assert float(left.norm()) == pytest.approx(1, abs=1e-5)


def test_trajectory_of_the_value(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    values, offsets = case.edit(monkeypatch)
    theirs = case["loss_trace"].double()
    ours = torch.stack(
        [
            torch.stack([t.total[0], t.nll[0], t.kl[0], t.decay[0], t.probability[0]])
            for _, t in case.steps
        ]
    )
    assert ours.shape == theirs.shape, "another number of steps"
    for column in range(theirs.shape[1]):
        scale = max(float(theirs[:, column].abs().max()), 0.1 * float(theirs.abs().max()))
        assert float((ours[:, column] - theirs[:, column]).abs().max()) <= ALONG * scale, column
    before = case["delta_before_step"]
    assert len(case.moved) == len(before)
    case.close(stacked([d for d, _ in case.steps], before), "delta_before_step", ALONG)
    case.close(stacked(case.moved, before), "delta_after_adam", ALONG)
    case.close((values.v_0 + offsets)[0], "v_star", ALONG)


def test_gradients_along_the_trajectory(case: Case) -> None:
    values = case.values()
    before = case["delta_before_step"]
    found = []
    for offset in before:
        leaf = offset[None].clone().requires_grad_(True)
        total = values.terms(leaf, torch.tensor([0])).total.sum()
        found.append(torch.autograd.grad(total, leaf)[0][0])
    case.close(stacked(found, before), "delta_grad", ALONG)


def test_update_and_edited_logits(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    values, offsets = case.edit(monkeypatch)
    mask = torch.ones_like(case["cur_input_ids"])
    key, value = keys_at(case, "cur_input_ids", mask, case["cur_idx"].reshape(1))
    case.close(key[0], "cur_input", ONCE)
    case.close(value[0], "cur_output", ONCE)
    keys, _ = keys_at(case, "k_input_ids", case["k_attention_mask"], case["k_idxs"])
    moment = factored(case["C"]) if case.wanted["mom2_adjustment"] else None
    left = unit_direction(keys.mean(0, keepdim=True), moment)
    delta = rank_one(left, key, value, values.v_0 + offsets)
    weight = linear_weight(case.model.linear(case.site))
    transposed = weight.shape != case["W_before"].shape or not torch.equal(weight, case["W_before"])
    dense = delta.dense()[0].mT if transposed else delta.dense()[0]
    floor = float(case["W_before"].abs().max())  # where nothing was to be edited, dW is rounding
    assert float((dense - case["delta_W"]).abs().max()) <= ALONG * max(
        float(case["delta_W"].abs().max()), 1e-2 * floor
    )
    if float(case["delta_W"].abs().max()) > 1e-2 * floor:
        case.close(delta.outputs[0, 0], "right_vector_v", ALONG)
    assert torch.linalg.matrix_rank(dense) <= 1
    rows = rows_of(case["v_input_ids"], case["v_attention_mask"])
    real = rows.attention_mask
    for name, deltas in (("logits_before", None), ("logits_after", {case.site: delta})):
        state = case.model.prefix(rows, 0)
        logits = case.model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
        scale = float(case[name].abs().max())
        difference = (logits - case[name])[real].abs().max()
        assert float(difference) <= (ONCE if deltas is None else ALONG) * scale, name


@pytest.mark.parametrize("path", parameters(MOMENTS))
def test_second_moment(path: Path) -> None:
    arrays = load(path)
    model = TextModel(base_model(below(arrays, "model.")))
    ids, mask = torch.from_numpy(arrays["input_ids"]), torch.from_numpy(arrays["attention_mask"])
    longest = int(arrays.get("maxlen", ids.shape[1]))  # what counts of a text is its beginning
    texts = [row[real][:longest] for row, real in zip(ids, mask.bool(), strict=True)]
    ids = pad_sequence(texts, batch_first=True)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    batches = [(ids[i : i + 2].long(), mask[i : i + 2].bool()) for i in range(0, len(ids), 2)]
    site = Site(1, "mlp_out")
    moments, tokens = second_moments(model, [site], batches)
    found = moments[site]
    assert tokens == int(arrays["count"])
    for ours, name in ((found, "mom2"), (found * tokens, "mom2_sum")):
        theirs = torch.from_numpy(arrays[name]).double()
        assert float((ours - theirs).abs().max()) <= ONCE * float(theirs.abs().max()), name
