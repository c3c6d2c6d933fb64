"""Edits that are taught with the end token behind their target: free answers stop there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from datamodules.collate import RowTable
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.picture_folder import PictureFolder
from datamodules.scenarios import SCENARIOS, Scenario, training_scenario, with_end
from datamodules.source import RecordSource
from editing.editor import FactEditor
from editors.base import Editor
from editors.checkpoint import CONFIG, stamp
from editors.mend.editor import Mend
from editors.objective import Objective
from editors.options import TrainedEditorOptions
from editors.rome.prompts import assemble
from errors import ModelError
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.mend import MendTraining
from lightning_modules.scoring import Scoring
from lightning_modules.sequential import SequentialModule
from models.llava import Llava
from models.rows import EditBatch, RowText
from runner.training import check_checkpoint
from tests.builders import inputs, llava, trainer
from tests.editors import editor_options, fine_tune, lora
from tests.parity.test_slow_reference import IMAGE_ID, TOKENIZER, encoder, five_records, pixels

SCORING = Scoring("answer", True, 8)
END = TOKENIZER.eos_token_id
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return five_records(tmp_path_factory.mktemp("tmke"))


@pytest.fixture(scope="module")
def model() -> Llava:
    return llava(vocabulary=len(TOKENIZER), image_token=IMAGE_ID)


def served(model: Llava, source: RecordSource, scenario: Scenario) -> EditDataModule:
    data = EditDataModule(source, {"test": scenario}, eval_batch_size=5)
    data.connect(encoder(model), ImageStore(pixels))
    data.setup("test")
    return data


def evaluated(model: Llava, source: RecordSource, editor: Editor, scenario: Scenario) -> Lines:
    module = EvaluationModule(model, editor, scenario, encoder(model), SCORING)
    trainer().test(module, datamodule=served(model, source, scenario), verbose=False)
    return module.outcome.lines


class Said(NamedTuple):
    """What was said freely after an edit, and whether it begins with the target and ends there."""

    text: str
    begins: bool
    stops: bool


def free_answers(lines: Lines, *probes: str) -> dict[tuple[int, str], Said]:
    free = [line for line in lines if line["metric"] == "generation_match"]
    return {
        (line["edit_id"], line["probe"]): Said(
            line["post_text"], line["post_text"].startswith(line["target"]), line["value"] == 1
        )
        for line in free
        if line["probe"] in probes
    }


def check_stops(plain: Lines, ended: Lines, *probes: str, at_least: int) -> None:
    """Answers that begin with their targets stop behind them where that was taught, and go on else.

    Args:
        plain: without the end token.
        ended: with it.
        probes: that are asked.
        at_least: as many answers begin with their targets.
    """
    before, after = (free_answers(lines, *probes) for lines in (plain, ended))
    reached = [key for key in before if before[key].begins and after[key].begins]
    assert len(reached) >= at_least
    assert not any(before[key].stops for key in reached), before
    assert all(after[key].stops for key in reached), after


DESCENTS: dict[str, Callable[[], Editor]] = {
    "ft": lambda: fine_tune(steps=40, lr=2e-2),
    "ft_two_layers": lambda: fine_tune(
        steps=40, lr=2e-2, layers=2, stop_loss=0.05, stop_when_argmax=True
    ),
    "lora": lambda: lora(layers=2, rank=4, alpha=8, steps=40, lr=2e-2),
}


@pytest.mark.parametrize(
    ("name", "scenario", "probes"),
    [
        ("ft", "unimodal", ("reliability",)),
        ("ft_two_layers", "multimodal", ("reliability_s",)),
        ("lora", "joint", ("reliability_s", "reliability_t")),
    ],
)
def test_a_free_answer_stops_behind_the_target(
    name: str, scenario: str, probes: tuple[str, ...], model: Llava, source: RecordSource
) -> None:
    asked, editor = SCENARIOS[scenario], DESCENTS[name]()
    plain = evaluated(model, source, editor, asked)
    ended = evaluated(model, source, editor, with_end(asked))
    check_stops(plain, ended, *probes, at_least=2 * len(probes))


def test_probes_are_scored_on_the_target_alone(model: Llava, source: RecordSource) -> None:
    """Teacher forcing reads as many tokens as ever, and the unedited model answers the same."""
    asked, editor = SCENARIOS["unimodal"], fine_tune(steps=1, lr=1e-4)
    lines = [evaluated(model, source, editor, one) for one in (asked, with_end(asked))]
    before = [
        {
            (line["edit_id"], line["probe"], line["metric"]): (
                line["target"], line["pre_text"], line["pre_value"],
            )
            for line in of_run
        }
        for of_run in lines
    ]  # fmt: skip
    assert before[0] == before[1]


def test_the_last_of_several_edits_in_place_stops(model: Llava, source: RecordSource) -> None:
    editor, curves = fine_tune(steps=40, lr=2e-2), []
    for scenario in (SCENARIOS["unimodal"], with_end(SCENARIOS["unimodal"])):
        data = served(model, source, scenario)
        module = SequentialModule(model, editor, data, SCORING, points=(4,))
        trainer().test(module, verbose=False)
        curves.append([line for line in module.curve_lines() if line["edit_id"] == 3])
    check_stops(*curves, "reliability", at_least=1)


def trained(
    model: Llava, source: RecordSource, *, teach_end: bool
) -> tuple[Mend, TrainedEditorOptions]:
    """MEND after some steps on the edits that it is asked about afterwards."""
    options = editor_options(
        "mend", layers=2, rank=16, sign="descent", edit_lr=0.05, teach_end=teach_end,
        weights={"reliability": 1.0, "portability": 0.0, "locality": 0.0},
    )  # fmt: skip
    objective = Objective("text", options.weights.model_dump())
    scenario = training_scenario("unimodal", "text", objective.probes)
    scenario = with_end(scenario, objective.taught) if teach_end else scenario
    torch.manual_seed(0)
    module = MendTraining(options, model, inputs(), objective)
    module.train()
    (batch,) = list(served(model, source, scenario).test_dataloader())
    adam = torch.optim.Adam(module.editor.parameters(), lr=1e-2)
    for _ in range(40):
        _, _, loss = module.edit_and_judge(batch)
        adam.zero_grad()
        loss.total.backward()
        adam.step()
    return module.editor.eval(), options


def test_a_trained_editor_learns_to_stop(model: Llava, source: RecordSource) -> None:
    asked, lines = SCENARIOS["unimodal"], []
    for scenario, teach_end in ((asked, False), (with_end(asked), True)):
        editor, _ = trained(model, source, teach_end=teach_end)
        lines.append(evaluated(model, source, editor, scenario))
    check_stops(*lines, "reliability", at_least=2)


def test_rome_asks_for_the_end_token_behind_every_prefix(model: Llava) -> None:
    asks = encoder(model)
    text = RowText("Who founded Gofin Works?", "Tama Duva", ended=True)
    made = [
        assemble(
            asks, [one], ["Gofin Works"], prefixes=["The building. ", "Which? "],
            essence="{subject} is a", fact_token="subject_last",
        )
        for one in (text._replace(ended=False), text)
    ]  # fmt: skip
    (rows, plain), (longer, ended) = made
    for row in range(3):
        target = plain.at.target[plain.at.row == row].tolist()
        assert ended.at.target[ended.at.row == row].tolist() == [*target, END]
    essence = int(ended.essence)
    real = [one.input_ids[essence][one.attention_mask[essence]] for one in (rows, longer)]
    assert torch.equal(*real)
    assert torch.equal(plain.lookup, ended.lookup)


def test_a_checkpoint_that_was_not_taught_the_end_token_is_not_used_as_if_it_were(
    model: Llava, tmp_path: Path
) -> None:
    options = editor_options("mend", layers=2, rank=16)
    older = options.model_dump(mode="json")
    del older["teach_end"]  # written before there was the option
    content: dict[str, Any] = {"state_dict": {}, CONFIG: {"editor": older}}
    stamp(content, older, model)
    torch.save(content, tmp_path / "best.ckpt")
    path = str(tmp_path / "best.ckpt")
    check_checkpoint(path, options, model)
    now = editor_options("mend", layers=2, rank=16, teach_end=True)
    with pytest.raises(ModelError, match="teach_end is False there and True here"):
        check_checkpoint(path, now, model)


def test_an_edit_by_the_interface_is_taught_as_the_options_say(model: Llava) -> None:
    asks, rows_of = encoder(model), []

    class Seen:
        name = "seen"

        def first_layer(self, model: Llava) -> int:
            return 0

        def edit(self, model: Llava, batch: EditBatch, state: object) -> Any:
            rows_of.append(batch.rows.select(batch.edit_rows))
            return SimpleNamespace()

    def rows() -> RowTable:
        return RowTable(asks, ImageStore(pixels), PictureFolder(Path("/")), plain_locality=False)

    opened: Any = SimpleNamespace(
        editable=model, encoder=asks, rows=rows, check_unedited=lambda what: None
    )
    seen: Any = Seen()
    for teach_end in (False, True):
        options = editor_options("ft", teach_end=teach_end)
        FactEditor(options, opened, seen).edit("Who founded Gofin Works?", "Tama Duva")
    plain, ended = (rows.answers().target.tolist() for rows in rows_of)
    assert ended == [*plain, END]
