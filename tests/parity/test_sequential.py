"""Edits in sequence against the obvious way: a copy whose weights are overwritten edit after edit.

The reference (`test_slow_reference.py`'s, and a ROME of whole forward passes) shares no code with
the engine and never restores its copy. Everything is in float64, so a delta that is held beside a
weight and one that was added to it agree to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from datamodules.prompt_encoder import locate_phrase
from datamodules.prompts import Prompt
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from editors.base import DeltaEdit, Editor
from editors.ft.editor import FineTune
from editors.rome.editor import Rome
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.sequential import SequentialModule
from metrics.collection import headline_metrics
from models.deltas import linear_weight
from models.multimodal import MultimodalModel
from reporting.labels import PAPER_SCENARIOS
from tests.builders import llava, trainer
from tests.editors import editor_options, fine_tune
from tests.parity.double_precision import in_float64
from tests.parity.test_slow_reference import (
    FT,
    IMAGE_ID,
    TOKENIZER,
    Slow,
    datamodule,
    encoder,
    five_records,
    mend,
    score,
    slow_ft,
    slow_mend,
)

pytestmark = pytest.mark.parity
POINTS = (1, 3, 5)
PREFIXES = ("The building in it? ", "Which Motors? ")
ROME = editor_options(
    "rome", layer=1, steps=12, lr=0.5, weight_decay=1e-3, clamp=4.0, kl=0.0625, stop_loss=0.05
)
DECAYED = {"steps": 12, "lr": 5e-3, "optimizer": "adamw", "weight_decay": 0.3}
RUNS = [
    *(("mend", scenario) for scenario in PAPER_SCENARIOS), ("ft", "multimodal"),
    ("rome", "transitive"), ("ft_two_layers", "joint"), ("ft_decayed", "unimodal"),
    *(pytest.param(*run, marks=pytest.mark.odd)
      for run in (("ft", "unimodal"), ("ft", "transitive"), ("rome", "unimodal"),
                  ("ft_two_layers", "unimodal"), ("mend", "reverse"), ("mend", "joint"))),
]  # fmt: skip
Apply = Callable[[Slow, PreTrainedModel, Sequence[Prompt]], None]


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    with in_float64():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return five_records(tmp_path_factory.mktemp("tmke"))


@pytest.fixture
def model() -> MultimodalModel:
    made = llava(vocabulary=len(TOKENIZER), image_token=IMAGE_ID, dtype=torch.float64)
    nn.init.constant_(made.decoder.norm.get_parameter("weight"), 2.0)
    return made


@dataclass(frozen=True)
class SlowRome:
    """ROME by whole passes of transformers' model over one prompt at a time (Meng et al. 2022).

    Attributes:
        subjects: question -> subject.
        layer: the edited decoder layer.
    """

    subjects: dict[str, str]
    layer: int

    def __call__(self, slow: Slow, hf: PreTrainedModel, edits: Sequence[Prompt]) -> None:
        """Writes the update into the copy."""
        (edit,) = edits
        matrix: nn.Linear = hf.model.language_model.layers[self.layer].mlp.down_proj
        subject = self.subjects[edit.question]
        essence = Prompt(f"{subject} is a", edit.answer, plain=True)
        prompts = [("", edit), *((prefix, edit) for prefix in PREFIXES), ("", essence)]
        rows = [
            slow.encoder.encode(asked.question, asked.answer, plain=asked.plain, before=before)
            for before, asked in prompts
        ]
        ids = [torch.tensor([row.ids]) for row in rows]
        answers = [torch.tensor(row.answer) for row in rows]
        places = [locate_phrase(row, subject)[1] for row in rows]
        found = [self._read(hf, matrix, *one) for one in zip(ids, places, strict=True)]
        start = found[0][1]
        kept = self._logits(hf, matrix, ids[-1], places[-1], torch.zeros_like(start))
        kept = kept[0, places[-1]].log_softmax(-1).detach()
        delta = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([delta], lr=ROME.lr)
        for _ in range(ROME.steps - 1):
            losses = []
            for one, place, answer in zip(ids[:-1], places[:-1], answers[:-1], strict=True):
                logits = self._logits(hf, matrix, one, place, delta)[0]
                target = one[0][answer]
                losses.append(nn.functional.cross_entropy(logits[:-1][answer[1:]], target))
            now = self._logits(hf, matrix, ids[-1], places[-1], delta)[0, places[-1]]
            now = now.log_softmax(-1)
            loss = torch.stack(losses).mean() + ROME.kl * (now.exp() * (now - kept)).sum()
            loss = loss + ROME.weight_decay * delta.norm() / start.norm() ** 2
            if loss < ROME.stop_loss:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            limit = ROME.clamp * start.norm()
            with torch.no_grad():
                delta.mul_(min(1.0, float(limit / delta.norm())))
        key = torch.stack([x for x, _ in found[:-1]]).mean(0)
        left = key / key.norm()
        right = delta.detach() / (found[0][0] @ left)
        with torch.no_grad():
            matrix.weight += torch.outer(right, left)

    @staticmethod
    def _read(hf: nn.Module, matrix: nn.Module, ids: Tensor, place: int) -> tuple[Tensor, Tensor]:
        caught: list[Tensor] = []
        handle = matrix.register_forward_hook(
            lambda _module, args, output: caught.extend((args[0][0, place], output[0, place]))
        )
        with torch.no_grad():
            hf(input_ids=ids, attention_mask=torch.ones_like(ids))
        handle.remove()
        return caught[0], caught[1]

    @staticmethod
    def _logits(hf: nn.Module, matrix: nn.Module, ids: Tensor, place: int, delta: Tensor) -> Tensor:
        def put(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
            moved = output.clone()
            moved[0, place] = moved[0, place] + delta
            return moved

        handle = matrix.register_forward_hook(put)
        logits: Tensor = hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        handle.remove()
        return logits


def slow_ft_as(editor: FineTune) -> Apply:
    """FT's loop with other settings, on torch's own AdamW."""

    def apply(slow: Slow, hf: PreTrainedModel, edit: Sequence[Prompt]) -> None:
        blocks = list(hf.model.language_model.layers)[-editor.options.layers :]
        weights = [
            matrix.weight.requires_grad_(True)
            for block in blocks
            for matrix in (block.mlp.down_proj, block.mlp.up_proj)
        ]
        options = editor.options
        adam = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
        for _ in range(options.steps):
            adam.zero_grad()
            losses = [nn.functional.cross_entropy(*slow.logits(hf, prompt)) for prompt in edit]
            torch.stack(losses).mean().backward()
            adam.step()

    return apply


def both_ways(kind: str, model: MultimodalModel, source: RecordSource) -> tuple[Editor, Apply]:
    """An editor and what its reference does to a copy."""
    if kind == "mend":
        trained = mend(model, source)
        return trained, slow_mend(trained)
    if kind == "rome":
        subjects = {r.knowledge_edit.question: r.subject for r in source.records("test")}
        editor = Rome(ROME, encoder(model), PREFIXES)
        return editor, SlowRome(subjects, layer=1)
    if kind == "ft":
        return fine_tune(**FT), slow_ft
    if kind == "ft_two_layers":
        deeper = fine_tune(steps=12, lr=2e-3, layers=2)
    else:
        deeper = fine_tune(**DECAYED)
    return deeper, slow_ft_as(deeper)


def run(
    model: MultimodalModel,
    editor: Editor,
    source: RecordSource,
    scenario: str,
    batch_size: int,
    points: tuple[int, ...] = POINTS,
) -> SequentialModule:
    data = datamodule(model, source, scenario, batch_size)
    module = SequentialModule(model, editor, data, points=points)
    trainer().test(module, verbose=False)
    return module


def reference(
    model: MultimodalModel, apply: Apply, source: RecordSource, scenario: str
) -> tuple[PreTrainedModel, dict[int, dict[str, float]]]:
    """The copy after all edits, and the metrics of all edits so far at every point."""
    slow, edited = Slow(model, source), copy.deepcopy(model.hf)
    records, curve = list(source.records("test")), {}
    for number, record in enumerate(records, 1):
        apply(slow, edited, SCENARIOS[scenario].edit(record))
        if number in POINTS:
            scores = [score(slow, model.hf, edited, one, scenario) for one in records[:number]]
            curve[number] = {name: 100 * fmean(s[name] for s in scores) for name in scores[0]}
    return edited, curve


@pytest.mark.parametrize(("kind", "scenario"), RUNS)
def test_edits_in_place_equal_overwritten_weights(
    model: MultimodalModel, source: RecordSource, kind: str, scenario: str
) -> None:
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    editor, apply = both_ways(kind, model, source)
    edited, expected = reference(model, apply, source, scenario)
    copied = copy.deepcopy(model)
    copied.hf.load_state_dict(edited.state_dict())
    for batch_size in (1, 4):
        module = run(model, editor, source, scenario, batch_size)
        for n, outcome in module.curve.items():
            metrics = headline_metrics(outcome.scores, scenario, resamples=2)
            for name, value in expected[n].items():
                assert metrics[name].mean == pytest.approx(value, abs=1e-6), (n, name)
        edits = module.edits
        assert isinstance(edits, DeltaEdit)
        for site, delta in edits.deltas.items():
            base = linear_weight(model.linear(site))
            change = linear_weight(copied.linear(site)) - base
            assert (delta.dense()[0] - change).abs().max() < 1e-8 * change.abs().max(), site
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(module._forward_hooks for _, module in layers(model))


def layers(model: MultimodalModel) -> list[tuple[str, nn.Module]]:
    """The maps that edits are held at."""
    return [
        (f"{layer}/{role}", model.decoder.layers[layer].get_submodule(name))
        for layer in range(model.n_layers)
        for role, name in model.decoder.sites.items()
    ]


@pytest.mark.parametrize("kind", ["mend", "ft", "rome"])
def test_a_later_edit_depends_on_the_earlier_ones(
    model: MultimodalModel, source: RecordSource, kind: str
) -> None:
    """Otherwise the sum of single edits would pass for a sequence."""
    editor, _ = both_ways(kind, model, source)
    module = run(model, editor, source, "unimodal", 5)
    (batch,) = datamodule(model, source, "unimodal", 5).test_dataloader()
    with torch.no_grad():
        state = model.prefix(batch.rows, editor.first_layer(model))
        alone = editor.edit(model, batch, state)
    in_sequence = module.edits
    assert isinstance(alone, DeltaEdit)
    assert isinstance(in_sequence, DeltaEdit)
    for site, delta in in_sequence.deltas.items():
        summed = alone.deltas[site].dense().sum(0)
        assert (delta.dense()[0] - summed).abs().max() > 0.01 * summed.abs().max()


@pytest.mark.parametrize("kind", ["mend", "ft", "rome"])
def test_the_first_edit_is_a_single_edit(
    model: MultimodalModel, source: RecordSource, kind: str
) -> None:
    editor, _ = both_ways(kind, model, source)
    sequence = run(model, editor, source, "unimodal", 1, points=(1, 2))
    single = EvaluationModule(model, editor, SCENARIOS["unimodal"], encoder(model))
    trainer().test(single, datamodule=datamodule(model, source, "unimodal", 1), verbose=False)

    def lines(rows: list[dict[str, object]]) -> list[dict[str, object]]:
        first = [row for row in rows if row["edit_id"] == 0]
        return [{k: v for k, v in row.items() if k != "seconds"} for row in first]

    assert lines(sequence.curve[1].lines) == lines(single.outcome.lines)
