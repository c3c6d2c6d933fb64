"""What is timed: the engine's way and the reference's way to the same numbers, and their floor."""

from __future__ import annotations

import copy
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import floor, mid_size
from benchmarks.measure import Work
from benchmarks.reference import Reference, Row, mend_loss, mend_weights, rows_of
from caching.store import Cache, Kind
from configs.check import load_config
from configs.schema import EvaluateConfig, TrainConfig
from datamodules.prompt_encoder import PromptEncoder
from datamodules.scenarios import SCENARIOS, Scenario
from datamodules.source import RecordSource
from editors.base import Editor, EditorInputs
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from editors.mend.editor import Mend
from editors.objective import Objective
from models.cache_scope import scope_of
from models.deltas import linear_shape
from models.llava import Llava
from models.packing import Packing, pack
from models.rows import EditBatch
from runner import training

_WORDS = ("model=llava_tiny", "output_dir=unused")
_MEND = (*_WORDS, "editor=mend", "editor.rank=192")
UNIT_TOKENS = 92
_KINDS: tuple[Kind, ...] = ("pictures", "answers", "states")


@dataclass(frozen=True)
class Setting:
    """What all benchmarks share.

    Attributes:
        unit: one bare forward pass of a question about a picture, of 92 tokens.
    """

    model: Llava
    encoder: PromptEncoder
    source: RecordSource
    batch_size: int
    unit: Work

    @classmethod
    def open(cls, shared: Path, pictures: Path, batch_size: int) -> Setting:
        """Builds the mid-size model and reads the sample."""
        model = mid_size.build_model()
        encoder = mid_size.make_encoder(mid_size.read_tokenizer(shared / "tokenizers/llama"), model)
        source = mid_size.read_records(shared, pictures)
        (batch,) = mid_size.make_batches(source, encoder, SCENARIOS["multimodal"], 1, 1)
        shown = [row for row in rows_of(batch) if row.pixels is not None]
        row = min(shown, key=lambda row: abs(row.ids.shape[1] - UNIT_TOKENS))
        reference = Reference(model)
        return cls(model, encoder, source, batch_size, lambda: reference.answers([row]))

    def batch(self, scenario: Scenario, size: int) -> EditBatch:
        """The first edits of the sample, in one batch."""
        (batch,) = mid_size.make_batches(self.source, self.encoder, scenario, size, size)
        return batch


@dataclass(frozen=True)
class Case:
    """Two ways to the same numbers.

    Attributes:
        engine: makes them for `engine_edits` edits side by side.
        reference: makes them for `reference_edits`.
        floor: operations that the engine's edits cannot do without.
        check: raises AssertionError where the numbers differ.
    """

    name: str
    engine: Work
    reference: Work
    engine_edits: int
    reference_edits: int
    floor: float
    check: Work


def mend_training(setting: Setting, scenario: str, name: str, *, is_cached: bool = False) -> Case:
    """A step of MEND's training: edit, outer loss, backward, Adam.

    With `is_cached` the engine takes what is frozen in it from the cache, as in a second epoch.
    """
    cfg = load_config("train", [*_MEND, f"scenario={scenario}"])
    assert isinstance(cfg, TrainConfig)
    torch.manual_seed(0)
    module: Any = training.make_module(cfg, setting.model, EditorInputs(setting.encoder)).train()
    served = training.scenario_of(cfg)
    reference, objective = Reference(setting.model), module.objective
    batch, alone = setting.batch(served, setting.batch_size), setting.batch(served, 1)
    theirs = copy.deepcopy(module.editor)
    optimizers = [torch.optim.Adam(e.parameters(), lr=1e-6) for e in (module.editor, theirs)]

    cache = opened_cache(setting.model) if is_cached else Cache()

    def judged(edits: EditBatch) -> Tensor:
        setting.model.cache = cache  # for this case alone: all of them share the model
        try:
            loss: Tensor = module.edit_and_judge(edits)[2].total
        finally:
            setting.model.cache = Cache()
        return loss

    def step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def check() -> None:
        for _ in range(1 + is_cached):  # what the first one stores the second one reads
            _agree(judged(alone).detach(), mend_loss(reference, theirs, alone, objective).detach())

    return Case(
        name,
        lambda: step(judged(batch), optimizers[0]),
        lambda: step(mend_loss(reference, theirs, alone, objective), optimizers[1]),
        setting.batch_size,
        1,
        mend_floor(setting.model, module.editor, batch, objective, is_cached=is_cached),
        check,
    )


def opened_cache(model: Llava) -> Cache:
    """A cache with nothing in it, in a folder that goes with it."""
    folder = tempfile.TemporaryDirectory()
    cache = Cache.open(Path(folder.name), 2**32, scope_of(model, "mid-size"), _KINDS)
    weakref.finalize(cache, folder.cleanup)
    return cache


def mend_floor(
    model: Llava,
    editor: Mend,
    batch: EditBatch,
    objective: Objective | None = None,
    *,
    is_cached: bool = False,
) -> float:
    """Operations of MEND's edits and answers; with an outer loss, of a training step.

    From the cache no picture is encoded, no layer below the edit is passed, and of the unedited
    answers only the last MLP and the head are.
    """
    shape, rows = floor.Shape.of(model), batch.rows
    layers = shape.layers - editor.first_layer(model)
    packing, at = pack(rows), rows.answers()
    every = torch.arange(len(rows))
    outer = compared = every
    if objective is not None:
        outer = _rows(batch, objective, kl=None)
        compared = _rows(batch, objective, kl=True)
    taught = rows.select(batch.edit_rows).answers()
    teaching = _tokens(packing, batch.edit_rows)
    n_taught = len(taught.row)
    operations = 0.0
    if not is_cached:
        operations += floor.pictures(rows) * shape.picture
        operations += shape.passes(_tokens(packing, every), shape.layers - layers)
    operations += 2 * (shape.upper(teaching, n_taught, layers) + shape.head(n_taught))
    n_compared = int(torch.isin(at.row, compared).sum())
    if is_cached:
        operations += 2 * shape.mlp * n_compared
    else:
        operations += shape.upper(_tokens(packing, compared), n_compared, layers)
    operations += shape.head(n_compared)
    n_outer, backward = int(torch.isin(at.row, outer).sum()), 2 if objective is not None else 1
    read = _tokens(packing, outer)
    operations += backward * (shape.upper(read, n_outer, layers) + shape.head(n_outer))
    pairs_per_edit = teaching.count / len(batch)
    for site in editor.sites:
        d_in, d_out = linear_shape(model.linear(site))
        last = site.layer == shape.layers - 1
        n_pairs, n_read = (n_taught, n_outer) if last else (teaching.count, read.count)
        each = n_taught / len(batch) if last else pairs_per_edit
        networks = 2 * 2 * 2 * (d_in + d_out) * min(editor_rank(editor), d_in + d_out) * n_pairs
        applied = 2 * n_read * each * (d_in + d_out)
        operations += (3 if objective is not None else 1) * (networks + applied)
    return operations


def editor_rank(editor: Mend) -> int:
    """Width of the bottleneck of MEND's networks."""
    return min(p.shape[0] for name, p in editor.named_parameters() if name.endswith(".v"))


def mend_evaluation(setting: Setting) -> Case:
    """A record of the multimodal scenario under MEND: unedited answers, edit, edited answers."""
    cfg = load_config("train", [*_MEND, "scenario=multimodal"])
    assert isinstance(cfg, TrainConfig)
    torch.manual_seed(0)
    module: Any = training.make_module(cfg, setting.model, EditorInputs(setting.encoder)).train()
    warm = setting.batch(training.scenario_of(cfg), 4)
    module.edit_and_judge(warm)
    editor: Mend = module.editor.eval()
    return _evaluation(
        setting,
        "mend_evaluation",
        editor,
        lambda reference, row: mend_weights(reference, editor, row),
        lambda batch: mend_floor(setting.model, editor, batch),
    )


def ft_evaluation(setting: Setting) -> Case:
    """A record of the multimodal scenario under FT with 15 steps of AdamW."""
    options = _ft_options(15)
    editor = FineTune(options)
    sites = setting.model.last_sites(1)
    return _evaluation(
        setting,
        "ft_evaluation",
        editor,
        lambda reference, row: reference.fit(sites, row, options),
        lambda batch: ft_floor(setting.model, batch, options.steps),
    )


def ft_floor(model: Llava, batch: EditBatch, steps: int, *, answers: bool = True) -> float:
    """Operations of FT of the last layer, and of the answers of all rows."""
    shape, rows = floor.Shape.of(model), batch.rows
    packing, n_answers = pack(rows), len(rows.answers().row)
    read = torch.arange(len(rows)) if answers else batch.edit_rows
    tokens = _tokens(packing, read)
    n_taught = len(rows.select(batch.edit_rows).answers().row)
    operations = float(floor.pictures(rows.select(read)) * shape.picture)
    operations += shape.passes(tokens, shape.layers - 1)
    operations += shape.upper(tokens, 0, 1)
    operations += steps * n_taught * (3 * 2 * shape.mlp + 2 * 2 * shape.width * shape.vocabulary)
    if answers:
        operations += 3 * 2 * shape.mlp * n_answers + 2 * shape.head(n_answers)
    return operations


def ft_steps(setting: Setting, steps: int = 200) -> Case:
    """An edit by FT alone, in text, of so many steps: what 2,000 and 20,000 are made of."""
    options = _ft_options(steps)
    editor, model = FineTune(options), setting.model
    batch = setting.batch(SCENARIOS["unimodal"], setting.batch_size)
    teaching = batch.edit_rows
    reference, sites = Reference(model), model.last_sites(1)
    rows = rows_of(batch)
    taught = rows[int(teaching[0])]

    def edit() -> Any:
        state = model.prefix(batch.rows.select(teaching), editor.first_layer(model), packed=True)
        alone = EditBatch(
            batch.rows.select(teaching), torch.arange(len(teaching)), {}, batch.edit_ids,
            batch.subjects,
        )  # fmt: skip
        return editor.edit(model, alone, state)

    def check() -> None:
        deltas = edit().deltas
        weights = reference.fit(sites, taught, options)
        base = reference.weights({site: deltas[site].weight[0] for site in sites})
        for name, weight in weights.items():
            torch.testing.assert_close(base[name], weight, rtol=1e-4, atol=2e-5)

    return Case(
        f"ft_{steps}_steps",
        edit,
        lambda: reference.fit(sites, taught, options),
        setting.batch_size,
        1,
        ft_floor(model, batch, steps, answers=False),
        check,
    )


def _evaluation(
    setting: Setting,
    name: str,
    editor: Editor,
    edited_weights: Callable[[Reference, Row], Mapping[str, Tensor]],
    operations: Callable[[EditBatch], float],
) -> Case:
    """Unedited and edited answers of all questions of a record of the multimodal scenario."""
    model, scenario = setting.model, SCENARIOS["multimodal"]
    batch, alone = setting.batch(scenario, setting.batch_size), setting.batch(scenario, 1)
    reference = Reference(model)

    def engine(batch: EditBatch) -> tuple[Tensor, Tensor]:
        at = batch.rows.answers()
        rows = model.encode_pictures(batch.rows)
        batch = EditBatch(rows, batch.edit_rows, batch.probes, batch.edit_ids, batch.subjects)
        state = model.prefix(rows, editor.first_layer(model), packed=True)
        with torch.no_grad():
            before = model.suffix(state, at=at).argmax(-1)
        edit = editor.edit(model, batch, state)
        with torch.no_grad():
            return before, edit.answer(model, rows, state, at).argmax(-1)

    def slow() -> tuple[Tensor, Tensor]:
        rows = rows_of(alone)
        before = reference.answers(rows)
        with torch.enable_grad():
            weights = edited_weights(reference, rows[int(alone.edit_rows[0])])
        return before, reference.answers(rows, {k: w.detach() for k, w in weights.items()})

    def check() -> None:
        for ours, theirs in zip(engine(alone), slow(), strict=True):
            assert torch.equal(ours, theirs), f"{name}: the answers differ"

    return Case(name, lambda: engine(batch), slow, setting.batch_size, 1, operations(batch), check)


def _ft_options(steps: int) -> FtOptions:
    cfg = load_config("evaluate", [*_WORDS, "editor=ft_as_run", f"editor.steps={steps}"])
    assert isinstance(cfg, EvaluateConfig)
    assert isinstance(cfg.editor, FtOptions)
    return cfg.editor


def _rows(batch: EditBatch, objective: Objective, *, kl: bool | None) -> Tensor:
    probes = [
        batch.probes[probe]
        for term in objective.terms
        if kl is None or term.kl == kl
        for probe in term.probes
        if probe in batch.probes
    ]
    return torch.cat(probes).unique()


def _tokens(packing: Packing, rows: Tensor) -> floor.Tokens:
    return floor.Tokens.of(packing.select(rows)[0])


def _agree(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


CASES: Mapping[str, Callable[[Setting], Case]] = {
    "mend_text": lambda setting: mend_training(setting, "unimodal", "mend_text"),
    "mend_pictures": lambda setting: mend_training(setting, "multimodal", "mend_pictures"),
    "mend_text_cached": lambda setting: mend_training(
        setting, "unimodal", "mend_text_cached", is_cached=True
    ),
    "mend_pictures_cached": lambda setting: mend_training(
        setting, "multimodal", "mend_pictures_cached", is_cached=True
    ),
    "mend_evaluation": mend_evaluation,
    "ft_evaluation": ft_evaluation,
    "ft_steps": ft_steps,
}
