"""Logits that are no numbers end a run: nothing is scored, and nobody is blamed for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from analysis.causal_trace import records_to_trace
from datamodules.scenarios import SCENARIOS
from editors.base import DeltaEdit, Edit, Editor
from editors.mend.config import MendOptions
from editors.objective import Objective
from editors.rome.moments import second_moments
from editors.rome.prompts import sample_prefixes
from errors import ModelError
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.finite import FiniteCheck
from lightning_modules.mend import MendTraining
from lightning_modules.reading import knows
from lightning_modules.scoring import Scoring, compare_everywhere
from lightning_modules.serac import SeracTraining
from models.deltas import LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows
from results.partial import PartialResults
from tests import serac_cases
from tests.all_editors import EDITORS
from tests.builders import MEND_OPTIONS, inputs
from tests.serac_cases import NAMES, RECORDS, TOKENIZER, picture_model, worded_batch

GOOD, BAD = 1, 6  # edits
WORD = NAMES[BAD].split()[1]


def damaged(model: EditableModel) -> EditableModel:
    """The embedding of a word that only the second edit's questions have is no number."""
    (token,) = TOKENIZER(WORD, add_special_tokens=False).input_ids[-1:]
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[token] = torch.nan  # type: ignore[index]
    return model


def evaluation(
    model: EditableModel, editor: Editor, scoring: Scoring | None = None, **given: PartialResults
) -> EvaluationModule:
    return EvaluationModule(
        model, editor, SCENARIOS["unimodal"], inputs().encoder, scoring, **given
    )


@pytest.mark.parametrize("name", EDITORS)
def test_a_broken_base_is_named_whatever_the_editor(name: str) -> None:
    """One of nan scored a Locality of 100, FT blamed its rate and MEND its checkpoint."""
    model = picture_model()
    editor = EDITORS[name](model, 3)  # made with a good model
    module = evaluation(damaged(model), editor)
    with pytest.raises(ModelError, match="own logits are nan") as caught:
        module.test_step(worded_batch([GOOD, BAD]), 0)
    said = str(caught.value)
    assert f"edit {BAD} ({NAMES[BAD]}), probe reliability: 'Where is {NAMES[BAD]} located?'" in said
    assert "float32" in said
    assert "editor.lr" not in said
    assert not module.scored.batches


@pytest.mark.parametrize("name", ["ft", "ft_two_layers", "lora", "rome"])
def test_a_descent_that_cannot_begin_does_not_blame_its_rate(name: str) -> None:
    model, batch = picture_model(), worded_batch([BAD])
    editor = EDITORS[name](damaged(model), 3)
    with pytest.raises(ModelError, match=r"before the first step.*whatever editor\.lr is"):
        editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))


def test_numbers_beyond_float16_are_told_as_such() -> None:
    model = picture_model()
    nn.init.constant_(model.decoder.norm.get_parameter("weight"), 6e4)
    with torch.no_grad():
        module = evaluation(model.to(torch.float16), EDITORS["none"](model, 0))
        with pytest.raises(ModelError, match=r"float16.*65,504.*model\.dtype=bfloat16"):
            module.test_step(worded_batch([GOOD]), 0)


@dataclass(frozen=True)
class Diverging:
    """Edits of everything but the good one are no numbers."""

    name: str = "diverging"

    def first_layer(self, model: EditableModel) -> int:
        return 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        site = Site(1, "mlp_out")
        d_in, d_out = linear_shape(model.linear(site))
        outputs = torch.zeros(len(batch), 1, d_out)
        outputs[[number != GOOD for number in batch.edit_ids]] = torch.inf
        return DeltaEdit({site: LowRankDelta(torch.ones(len(batch), 1, d_in), outputs)})


def test_an_edit_that_diverged_is_no_result(tmp_path: Path) -> None:
    """The message says which; what was scored before stays, and a run goes on with it."""
    model = picture_model()
    module = evaluation(model, Diverging(), partial=PartialResults(tmp_path, {}))
    assert module.partial is not None
    module.partial.open()
    module.test_step(worded_batch([GOOD]), 0)
    with pytest.raises(ModelError, match="edited model's logits are nan") as caught:
        module.test_step(worded_batch([BAD, 2]), 1)
    said = str(caught.value)
    for part in ("editor=diverging: the edited", f"edit {BAD} ({NAMES[BAD]}), probe reliability",
                 "float32", "model's are numbers"):  # fmt: skip
        assert part in said
    (kept,) = PartialResults(tmp_path, {}).open()
    assert kept.edit_ids == (GOOD,)


@dataclass(frozen=True)
class Late:
    """Answers that are numbers at the answer's own tokens, and none wherever else one looks."""

    edit: Edit
    at: Answers

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        logits = self.edit.answer(model, rows, state, at)
        return logits if len(at.row) == len(self.at.row) else logits * torch.nan


def late() -> tuple[EditableModel, EditBatch, PrefixState, Edit]:
    model, batch = picture_model(), worded_batch([GOOD, BAD])
    return model, batch, model.prefix(batch.rows, 1), Late(DeltaEdit(), batch.rows.answers())


@pytest.mark.parametrize("scoring", [Scoring(positions="all"), Scoring(generation=True)])
def test_what_is_asked_besides_the_answers_is_looked_at_too(scoring: Scoring) -> None:
    model, batch, _, edit = late()

    class Given(Diverging):
        def edit(self, *_: object) -> Edit:  # type: ignore[override]
            return edit

    with pytest.raises(ModelError, match=rf"edited model's logits are nan.*edit {GOOD} "):
        evaluation(model, Given(), scoring).test_step(batch, 0)


def test_positions_of_some_rows_are_named_by_their_own_number() -> None:
    model, batch, state, edit = late()
    rows = batch.probes["locality_far"][1:]
    with pytest.raises(ModelError, match=rf"edit {BAD} .*probe locality_far"):
        compare_everywhere(model, edit, batch.rows, state, rows, FiniteCheck(batch, model, "none"))


def test_a_fact_of_which_nothing_can_be_said_is_not_an_unknown_one() -> None:
    model = damaged(picture_model())
    assert len(knows(model)(worded_batch([GOOD]).rows))
    with pytest.raises(ModelError, match=f"own logits are nan.*first at 'Where is {NAMES[BAD]}"):
        knows(model)(worded_batch([BAD]).rows)


def test_no_prefix_moment_or_trace_is_made_of_nan() -> None:
    model, encoder = picture_model(), inputs().encoder
    nn.init.constant_(model.decoder.layers[0].mlp.up_proj.weight, torch.nan)  # type: ignore[arg-type, union-attr]
    with pytest.raises(ModelError, match="a text before a prompt"):
        sample_prefixes(model, encoder, [[5, 2]], seed=0)
    ids = torch.full((1, 4), 5)
    with pytest.raises(ModelError, match="mlp_out in layer 1 hold values that are not finite"):
        second_moments(model, [Site(1, "mlp_out")], [(ids, ids > 0)])
    with pytest.raises(ModelError, match="first at 'What does Person A do"):
        records_to_trace(model, encoder, RECORDS, 1)


def mend_training(model: EditableModel) -> MendTraining:
    chosen = MendOptions.model_validate(MEND_OPTIONS)
    return MendTraining(chosen, model, inputs(), Objective("text", chosen.weights.model_dump()))


def serac_training(model: EditableModel) -> SeracTraining:
    chosen = serac_cases.options(objective="mixture")
    terms = Objective("text", chosen.weights.model_dump())
    return SeracTraining(chosen, model, serac_cases.inputs(), terms)


@pytest.mark.parametrize("build", [mend_training, serac_training])
def test_a_training_does_not_blame_its_rates_for_the_base(
    build: Callable[[EditableModel], MendTraining | SeracTraining],
) -> None:
    module = build(damaged(picture_model()))
    module.trainer = L.Trainer(accelerator="cpu", devices=1, logger=False)
    module.train()
    with pytest.raises(ModelError, match=f"own logits are nan.*Where is {NAMES[BAD]}") as caught:
        module.edit_and_judge(worded_batch([BAD]))
    assert "lower editor.lr" not in str(caught.value)


def test_gradients_beyond_float16_are_not_kept_in_mends_statistics() -> None:
    module = mend_training(picture_model())
    model, batch = module.model, worded_batch([GOOD])
    capture = model.capture

    def overflown(*given: object, **named: object) -> object:
        factors, logits = capture(*given, **named)  # type: ignore[arg-type]
        return {s: replace(f, delta=f.delta * torch.inf) for s, f in factors.items()}, logits

    model.capture = overflown  # type: ignore[method-assign, assignment]
    with pytest.raises(ModelError, match="gradients that MEND makes edits from are not finite"):
        module.editor.edit(model, batch, model.prefix(batch.rows, 0))
    assert not module.editor.ready
