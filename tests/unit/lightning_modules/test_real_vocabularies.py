"""Whole evaluations under Llama's and OPT's own vocabularies: any editor, prompt form and family.

A batch of eight padded on the right and batches of one padded on the left come to the same, down to
the likeliest token at every place and to what is said freely; and to what a whole pass of
transformers over the words of one row comes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.images import read_image
from datamodules.prompt_encoder import PromptForm
from datamodules.reading import reading_questions
from datamodules.scenarios import SCENARIOS, ScenarioName
from datamodules.source import RecordSource
from lightning_modules.scoring import Scoring
from results.outcome import Outcome
from tests.builders import SLOTS
from tests.real_evaluations import (
    ANSWERS,
    EDITORS,
    EVERYTHING,
    HARD,
    evaluated,
    pixels,
    records_source,
    write_records,
)
from tests.real_tokenizers import FORMS, Family, real_encoder, real_model
from tests.real_tokenizers import real_tokenizer as tokenizer

# Each editor once, each family and each prompt form several times.
SOME: list[tuple[str, Family, PromptForm]] = [
    ("none", "blip2", "published"),
    ("ft", "llava", "published"),
    ("lora", "minigpt4", "native"),
    ("rome", "llava", "native"),
    ("mend", "blip2", "native"),
    ("ike", "llava", "published"),
    ("ike_front", "blip2", "default"),
    ("serac", "minigpt4", "published"),
]
SEED = 1  # of the models; no two highest logits are nearly equal
FAMILIES: tuple[Family, ...] = ("llava", "blip2", "minigpt4")
Said = Mapping[tuple[int, str, str], tuple[str | None, str]]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return records_source(write_records(tmp_path_factory.mktemp("hard") / "data", 0))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return records_source(write_records(tmp_path_factory.mktemp("some") / "data", 4))


def both_ways(
    source: RecordSource,
    name: str,
    family: Family,
    form: PromptForm,
    *,
    scoring: Scoring,
    ties: int = 0,
) -> Outcome:
    """An evaluation in batches of eight, after it was held beside one in batches of one.

    `ties` of its values may differ: of 32,000 logits the two highest are now and then as far apart
    as rotary positions are exact, which padding moves.
    """
    scenario = "unimodal" if name == "rome" else "multimodal"
    model, n = real_model(family, seed=SEED), len(source.records("test"))
    right, left = (real_encoder(family, form, padding_side=side) for side in ("right", "left"))
    whole = evaluated(model, name, source, scenario, right, 8, scoring)
    alone = evaluated(model, name, source, scenario, left, 1, scoring)
    one, other = said(whole), said(alone)
    assert one.keys() == other.keys()
    assert sum(one[key] != other[key] for key in one) <= ties
    for column, of_edits in whole.scores.items():
        assert of_edits.keys() == alone.scores[column].keys()
        values = (of_edits, alone.scores[column])
        moved = sum(abs(a - b) > 1e-5 for a, b in zip(*(v.values() for v in values), strict=True))
        assert moved <= ties, column
        assert len(of_edits) in (0, asked_of(source, scenario, *column)), column
    reliability = "reliability" if scenario == "unimodal" else "reliability_s"
    assert len(whole.scores[reliability, "token_accuracy"]) == n
    assert len(whole.scores[reliability, "generation_match"]) == n
    return whole


def asked_of(source: RecordSource, scenario: ScenarioName, probe: str, measure: str) -> int:
    """Test records of which a probe is asked; for what was read before, those that can be asked."""
    number = 0
    for record in source.records("test"):
        prompt = SCENARIOS[scenario].probes[probe](record)
        if prompt is None:
            continue
        questions = reading_questions(record, probe, prompt)
        needed = {"named_before": questions.naming, "fact_before": questions.fact}
        number += needed.get(measure, prompt) is not None
    return number


def said(outcome: Outcome) -> Said:
    """Probe and measure of each edit -> the likeliest tokens, or what was generated."""
    return {
        (int(line["edit_id"]), str(line["probe"]), str(line["metric"])): (
            line["pre_text"], line["post_text"],
        )
        for line in outcome.lines
    }  # fmt: skip


@pytest.mark.parametrize(("name", "family", "form"), SOME)
def test_hard_answers_in_a_batch_and_alone(
    name: str, family: Family, form: PromptForm, hard: RecordSource
) -> None:
    scoring = EVERYTHING if name == "ft" else ANSWERS
    both_ways(hard, name, family, form, scoring=scoring)


def _grid() -> Iterator[Any]:
    """Every editor, family and form; `quality` has each editor once."""
    for (i, name), (j, family), (k, form) in product(*map(enumerate, (EDITORS, FAMILIES, FORMS))):
        chosen = j == i % len(FAMILIES) and k == (i + i // len(FAMILIES)) % len(FORMS)
        mark = pytest.mark.quality if chosen else pytest.mark.odd
        yield pytest.param(name, family, form, marks=mark)


@pytest.mark.parametrize(("name", "family", "form"), list(_grid()))
def test_any_editor_under_any_prompt_in_a_batch_and_alone(
    name: str, family: Family, form: PromptForm, some: RecordSource
) -> None:
    both_ways(some, name, family, form, scoring=EVERYTHING, ties=4)  # of some hundred


@pytest.mark.parametrize("family", FAMILIES)
def test_the_unedited_model_says_what_transformers_says_of_the_words(
    family: Family, hard: RecordSource
) -> None:
    """Text and its tokens by hand: nothing of the project is asked but the model's weights."""
    model = real_model(family)
    found = said(evaluated(model, "none", hard, "multimodal", real_encoder(family), 8))
    read, scenario = tokenizer("opt" if family == "blip2" else "llama"), SCENARIOS["multimodal"]
    for number, probe in product(range(len(HARD)), ("reliability_s", "locality_t_near")):
        asked = scenario.probes[probe](hard.records("test")[number])
        if asked is None:
            continue
        prompt = f"Question: {asked.question} Short answer:"
        row = read(f"{prompt} {asked.answer.strip()}", return_offsets_mapping=True)
        first = next(i for i, (_, end) in enumerate(row.offset_mapping) if end > len(prompt))
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            inputs = model.hf.get_input_embeddings()(ids)
            if asked.image is not None:
                picture = pixels(read_image(Path(hard.image_root) / asked.image))[None]
                features = model.picture_features(picture)
                at = 0 if family == "blip2" else 1
                inputs = torch.cat([inputs[:, :at], features, inputs[:, at:]], 1)
                first += SLOTS
            hidden = model.decoder.body(inputs_embeds=inputs).last_hidden_state
            best = model.decoder.head(hidden)[0].argmax(-1)[first - 1 : -1]
        measure = "token_accuracy" if probe == "reliability_s" else "token_agreement"
        expected = read.decode(best, skip_special_tokens=True).strip()
        assert found[number, probe, measure] == (expected, expected)
