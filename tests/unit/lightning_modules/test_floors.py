"""Two planted editors through the evaluation: one for everybody, and one that does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.scenarios import SCENARIOS
from editors.base import Editor
from editors.none.editor import Unedited
from lightning_modules.evaluation import EvaluationModule
from metrics.bootstrap import Estimate
from metrics.collection import headline_metrics, variant_metrics
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows
from reporting.entries import Entry
from reporting.floors import floor_marks
from reporting.formats import NO_GAIN, NOT_SPECIFIC
from results.writing import write_summary
from tests.builders import PICTURED, trainer
from tests.parity.test_slow_reference import (
    IMAGE_ID,
    TOKENIZER,
    datamodule,
    encoder,
    five_records,
)
from tests.result_folders import summary

SHOWN = {"unimodal": ("",), "transitive": ("_S", "_U")}


@dataclass(frozen=True)
class TheNewAnswer:
    """Whatever is asked, the tokens of the edit's new answer, one after the other."""

    tokens: dict[int, Tensor]  # of each edit

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        vocabulary = model.hf.config.get_text_config().vocab_size
        logits = torch.zeros(len(at.row), vocabulary)
        place = dict.fromkeys(range(at.n_rows), 0)
        for position, row in enumerate(at.row.tolist()):
            tokens = self.tokens[int(rows.edit_index[row])]
            logits[position, tokens[min(place[row], len(tokens) - 1)]] = 1
            place[row] += 1
        return logits


class Everybody(Unedited):
    """An editor that moves the answer to a question, whoever it asks about."""

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> TheNewAnswer:  # type: ignore[override]
        rows = batch.rows
        return TheNewAnswer(
            {
                int(rows.edit_index[row]): rows.input_ids[row, rows.answer_mask[row]]
                for row in batch.edit_rows.tolist()
            }
        )


def judged(
    editor: Editor, scenario: str, root: Path
) -> tuple[dict[str, Estimate], dict[str, Estimate], Entry]:
    """Metrics and variants of five edits, and the row of a report that they make."""
    model = PICTURED["llava"](vocabulary=len(TOKENIZER), image_token=IMAGE_ID)
    (root / "data").mkdir()
    module = EvaluationModule(model, editor, SCENARIOS[scenario], encoder(model))
    data = datamodule(model, five_records(root / "data"), scenario, 5)
    trainer().test(module, datamodule=data, verbose=False)
    metrics, variants = (
        make(module.outcome.scores, scenario) for make in (headline_metrics, variant_metrics)
    )
    told = {"metrics": metrics, "variants": {k: v.as_dict() for k, v in variants.items()}}
    return metrics, variants, Entry.of(write_summary(root, summary("ft", scenario) | told))


@pytest.mark.parametrize("scenario", list(SHOWN))
def test_the_new_answer_for_everybody_has_no_specificity_and_is_marked(
    scenario: str, tmp_path: Path
) -> None:
    metrics, variants, entry = judged(Everybody(), scenario, tmp_path)  # type: ignore[arg-type]
    for picture in SHOWN[scenario]:
        for measure in ("", "_EM", "_first"):
            reliability = f"Reliability{picture}{measure}"
            assert metrics[reliability].mean == metrics[f"Leak{measure}"].mean == 100
            for other in ("", "_diff"):
                specificity = metrics[f"Specificity{picture}{other}{measure}"]
                assert (specificity.mean, specificity.low, specificity.high) == (0, 0, 0)
                assert specificity.n
            assert variants[f"{reliability}_gain"].low > 0, "the unedited model knew it"
            for answer in (reliability, f"Generality{picture}{measure}"):
                assert floor_marks(entry, [answer]) == {answer: NOT_SPECIFIC}


@pytest.mark.parametrize("scenario", list(SHOWN))
def test_an_editor_that_changes_nothing_has_no_gain_and_is_marked(
    scenario: str, tmp_path: Path
) -> None:
    metrics, variants, entry = judged(Unedited(), scenario, tmp_path)
    gains = {name: value for name, value in variants.items() if name.endswith("_gain") and value.n}
    assert {"Portability_gain", "Leak_first_gain", "Stability_EM_gain"} <= set(gains)
    assert all((gain.mean, gain.low, gain.high) == (0, 0, 0) for gain in gains.values())
    answers = [
        name for name in metrics if name.startswith(("Reliability", "Generality", "Portability"))
        and metrics[name].n
    ]  # fmt: skip
    assert all(NO_GAIN in floor_marks(entry, answers)[name] for name in answers)
