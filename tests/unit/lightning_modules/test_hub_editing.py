"""FT, ROME and MEND on released configurations of the hub: small, random, in every scenario."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from configs.check import load_config
from configs.schema import TrainConfig
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.prompt_encoder import PromptEncoder, PromptForm
from datamodules.scenarios import SCENARIOS, Scenario, training_scenario
from datamodules.source import RecordSource, Split
from datamodules.sources.folder import read_world
from datamodules.world import World, generate_world
from editors.base import Editor, EditorInputs
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.scoring import Scoring
from models.auto import AutoMLLM
from models.editable import EditableModel
from models.loading import load_model
from models.processor import Processor, load_processor
from reporting.labels import PAPER_SCENARIOS
from runner import training
from runner.assembly import make_encoder
from tests.builders import trainer
from tests.editors import fine_tune, mend, rome
from tests.hub_cases import RELEASED, save, videos_need_nothing

FORMS: tuple[PromptForm, ...] = ("default", "native")
EDITORS: dict[str, Callable[[EditableModel, EditorInputs], Editor]] = {
    "ft": lambda *_: fine_tune(layers=1, steps=3, lr=2e-2),
    "rome": lambda _, inputs: rome(
        inputs.encoder, ["Said before."], layer=0, steps=3, lr=0.1, contexts=[[4, 1]]
    ),
    "mend": lambda model, _: mend(model, layers=2, rank=4, sign="descent", edit_lr=0.05),
}
Folder = Callable[[str], tuple[AutoMLLM, Processor]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    made: dict[str, tuple[AutoMLLM, Processor]] = {}

    def open_folder(name: str) -> tuple[AutoMLLM, Processor]:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                videos_need_nothing(patch)
                folder = str(save(name, tmp_path_factory.mktemp(name)))
                model = load_model("auto", folder)
                assert isinstance(model, AutoMLLM)
                made[name] = model, load_processor("auto", folder)
        return made[name]

    return open_folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    folder = tmp_path_factory.mktemp("world") / "world"
    world = World.load(generate_world(folder, size=6, cities=4, seen_views=1, unseen_views=1))
    return read_world(world, name="world", filter_known="none")


def served(
    source: RecordSource,
    processor: Processor,
    encoder: PromptEncoder,
    split: Split,
    scenario: Scenario,
) -> EditDataModule:
    """One record of a split."""
    data = EditDataModule(source, {split: scenario}, batch_size=1, eval_batch_size=1, limit=1)
    data.connect(encoder, ImageStore(processor.pixels))
    data.setup()
    return data


def _grid() -> list[Any]:
    """All of them; the scenario and form of an editor go by the model, all others are odd.

    ROME edits what text alone says: a picture's question does not name the subject.
    """
    cases = []
    numbers = product(*(range(len(of)) for of in (RELEASED, EDITORS, PAPER_SCENARIOS, FORMS)))
    for m, e, s, f in numbers:
        editor, scenario = list(EDITORS)[e], PAPER_SCENARIOS[s]
        if editor == "rome" and scenario == "multimodal":
            continue
        mine = (m + e) % len(PAPER_SCENARIOS) == s and (m + e + s) % len(FORMS) == f
        marks = () if mine else pytest.mark.odd
        cases.append(pytest.param(list(RELEASED)[m], editor, scenario, FORMS[f], marks=marks))
    return cases


@pytest.mark.parametrize(("name", "editor", "scenario", "form"), _grid())
def test_an_edit_is_made_and_judged(
    name: str, editor: str, scenario: str, form: PromptForm, opened: Folder, source: RecordSource
) -> None:
    model, processor = opened(name)
    encoder = make_encoder(processor, form)
    data = served(source, processor, encoder, "test", SCENARIOS[scenario])
    torch.manual_seed(0)
    made: Any = EDITORS[editor](model, EditorInputs(encoder, source.training_records))
    before = model.fingerprint()
    batch = next(iter(data.test_dataloader()))
    edit = made.edit(model, batch, model.prefix(batch.rows, made.first_layer(model)))
    assert edit.deltas, "an edit of the weights"
    for delta in edit.deltas.values():
        change = delta.dense() if hasattr(delta, "dense") else delta
        assert torch.isfinite(change).all()
        assert change.abs().max() > 0
    module = EvaluationModule(model, made, SCENARIOS[scenario], encoder, Scoring())
    trainer().test(module, datamodule=data, verbose=False)
    scores = module.outcome.scores
    record, probes = source.records("test")[0], SCENARIOS[scenario].probes
    asked = {probe for probe, ask in probes.items() if ask(record) is not None}
    assert {probe for (probe, _), of_edits in scores.items() if of_edits} == asked
    assert model.fingerprint() == before


@pytest.mark.parametrize(
    ("name", "scenario"),
    [*product(RELEASED, PAPER_SCENARIOS), *product([next(iter(RELEASED))], ["reverse", "joint"])],
)
def test_mend_takes_a_step_of_its_training(
    name: str, scenario: str, opened: Folder, source: RecordSource
) -> None:
    model, processor = opened(name)
    encoder = make_encoder(processor, "native")
    words = ["editor=mend", "editor.rank=4", "editor.layers=2", f"scenario={scenario}"]
    cfg = load_config("train", ["model=llava_tiny", "output_dir=unused", *words])
    assert isinstance(cfg, TrainConfig)
    torch.manual_seed(0)
    module: Any = training.make_module(cfg, model, EditorInputs(encoder))
    questions = training.trained_options(cfg).questions_for(cfg.scenario.name)
    of_training = training_scenario(scenario, questions, module.objective.probes)
    data = served(source, processor, encoder, "train", of_training)
    batch = next(iter(data.train_dataloader()))
    parameters = list(module.editor.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    _, _, loss = module.edit_and_judge(batch)
    loss.total.backward()
    optimizer.step()
    moved = [not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)]
    assert sum(moved) > 2
    assert all(bool(torch.isfinite(parameter).all()) for parameter in parameters)
