"""Rows that fit, and do not fit behind what an editor puts before them: told before any edit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.datamodule import EditDataModule
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.sources.tmke import read_tmke
from editors.base import AsksLonger, Editor
from editors.serac.counterfactual import build_counterfactual
from editors.serac.editor import Serac
from errors import DataError
from models.positions import max_positions
from runner.lengths import check_lengths
from tests.editors import ike, rome
from tests.ike_cases import InOrder
from tests.serac_cases import TOKENIZER, options, picture_model, stirred
from tests.unit.datamodules.test_datamodule import batches, make
from tests.unit.datamodules.test_datamodule import root as root_of_pictures

root = root_of_pictures  # the fixture
PREFIX = "The short and the long. "


def encoder(limit: int | None = None) -> PromptEncoder:
    layout = PictureLayout(4, TOKENIZER.convert_tokens_to_ids("<image>"))
    return PromptEncoder(TOKENIZER, layout, max_positions=limit)


def _serac(limit: int | None) -> Serac:
    editor = stirred(picture_model())  # it sees pictures
    if limit is not None:
        editor.counterfactual.lm.config.max_position_embeddings = limit
    return editor


# scenario, editor of a limit, and the longest row that it makes of a record's question
CASES: dict[str, tuple[str, Callable[[int | None], Editor], Callable[[str, str], str]]] = {
    "rome": (
        "unimodal",
        lambda limit: rome(encoder(limit), ("", PREFIX), contexts=[]),
        lambda edit, _: f"{PREFIX}Question: {edit.replace('?', '? Short answer:')}",
    ),
    "ike": (
        "multimodal",
        lambda limit: ike(encoder(limit), InOrder(), k=3),
        lambda edit, asked: (
            f"New Fact: {edit}\nPrompt: {edit}\n\nNew Fact: {edit}\nPrompt: {asked}"
        ),
    ),
    "serac": (
        "multimodal",
        _serac,
        lambda edit, asked: f"{edit}\nQuestion: {asked.replace('?', '? Short answer:')}",
    ),
}


def longest_row(data: EditDataModule, say: Callable[[str, str], str]) -> int:
    """Tokens of the longest row of the first record, counted by hand."""
    record, scenario = data.records("test")[0], data.scenarios["test"]
    (edit,) = scenario.edit(record)
    lengths = [
        len(TOKENIZER(say(f"{edit.question} {edit.answer}", f"{q.question} {q.answer}")).input_ids)
        + 4 * (q.image is not None)
        for probe in scenario.probes.values()
        if (q := probe(record)) is not None and not q.plain
    ]
    return max(lengths)


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_told_before_the_first_edit(name: str, root: Path) -> None:
    scenario, editor_of, say = CASES[name]
    data = make(read_tmke(root), scenario)
    batches(data)
    longest = longest_row(data, say)
    assert isinstance(editor_of(None), AsksLonger)
    for limit in (None, longest):
        check_lengths(editor_of(limit), data, "test")
    with pytest.raises(DataError) as caught:
        check_lengths(editor_of(longest - 1), data, "test")
    said = str(caught.value)
    assert "(subject 'Holden Caprice'), the test split" in said
    assert f"takes {longest} tokens" in said
    assert f"reads {longest - 1} at once" in said


def test_an_edit_by_rome_makes_no_row_that_is_too_long(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "unimodal"))
    longest = int(batch.rows.attention_mask.sum(1).max())
    model = picture_model()
    editor = rome(encoder(longest), ("", PREFIX), contexts=[], layer=1, steps=1)
    state = model.prefix(batch.rows, editor.first_layer(model))
    with pytest.raises(DataError, match=r"after the editor's prefix 'The short"):
        editor.edit(model, batch, state)


def test_a_fresh_counterfactual_model_reads_any_row_of_its_base_behind_an_entry() -> None:
    model = picture_model()
    fresh = build_counterfactual(options().counterfactual, model, TOKENIZER)
    assert max_positions(fresh.lm.config) == 2 * model.max_positions == fresh.max_positions
