"""What the unedited model read, against a reference that asks one question at a time.

The shipped model knows its world; pictures are swapped between entities, so that what it reads is
now right and now wrong. The reference asks transformers itself, row by row, without padding,
batches or anything that is remembered.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.picture_file import read_image
from datamodules.prompts import Prompt
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from datamodules.world import World, generate_world, world_records
from editors.none.editor import Unedited
from lightning_modules.sequential import SequentialModule
from metrics.collection import variant_metrics
from models.editable import EditableModel
from models.loading import load_model
from models.processor import Processor, load_processor
from runner.assembly import make_encoder
from tests.builders import trainer
from tests.editors import fine_tune
from tests.evaluations import evaluated, served

FOLDER = str(Path(__file__).parents[2] / "models" / "pretrained" / "llava_tiny")
N = 7
TRANSITIVE = SCENARIOS["transitive"]
Flags = dict[tuple[int, str], tuple[bool | None, bool | None]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    """Records of which every second one shows pictures of other entities of its type."""
    root = tmp_path_factory.mktemp("worlds") / "world"
    world = World.load(generate_world(root, seed=0, size=50, seen_views=1, unseen_views=1))
    records = world_records(world, "test")
    random.Random(3).shuffle(records)
    draw, swapped = random.Random(1), []
    for number, record in enumerate(records[:N]):
        others = [other for other in records if other.entity_type == record.entity_type]
        fields = ("image", "image_rephrase", "same_entity_image")
        changes = {name: getattr(draw.choice(others), name) for name in fields if number % 2}
        swapped.append(record.model_copy(update=changes))
    return RecordSource("world", world.root, {"test": swapped}, False, "none")


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return load_model("llava", FOLDER)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return load_processor("llava", FOLDER)


@cache
def pixels_of(processor: Processor, path: Path) -> torch.Tensor:
    return processor.pixels(read_image(path))


def reference(model: EditableModel, processor: Processor, source: RecordSource) -> Flags:
    """Probe by probe, what the record says must be answered."""
    encoder = make_encoder(processor, "default")

    @cache
    def is_right(prompt: Prompt) -> bool:
        assert prompt.image is not None
        row = encoder.encode(prompt.question, prompt.answer, picture=True)
        with torch.no_grad():
            logits = model.hf(
                input_ids=torch.tensor([row.ids]),
                attention_mask=torch.ones(1, len(row.ids), dtype=torch.int64),
                pixel_values=pixels_of(processor, source.image_root / prompt.image)[None],
            ).logits[0]
        answer = [place for place, is_answer in enumerate(row.answer) if is_answer]
        return all(int(logits[place - 1].argmax()) == row.ids[place] for place in answer)

    found: Flags = {}
    for number, record in enumerate(source.records("test")):
        for probe, make_prompt in SCENARIOS["transitive"].probes.items():
            if (prompt := make_prompt(record)) is None:
                continue
            if prompt.image is None:
                found[number, probe] = (None, None)
                continue
            name, true = shown(record, probe), true_answer(record, probe)
            question = f"What is the name of the {record.entity_type} in the image?"
            naming = Prompt(question, "", prompt.image)
            found[number, probe] = (
                None if name is None else is_right(naming._replace(answer=name)),
                is_right(prompt._replace(answer=prompt.answer if true is None else true)),
            )
    return found


def shown(record: Record, probe: str) -> str | None:
    of_subject = ("reliability", "generality", "portability", "locality_i_subject")
    if probe.startswith(of_subject):
        return record.subject
    same = record.same_type_entity_question.same_type_entity
    return same if probe.endswith("_same") else None


def true_answer(record: Record, probe: str) -> str | None:
    if probe.startswith(("reliability", "generality")):
        return record.knowledge_edit.answer_true
    if probe == "portability" and record.one_hop_question is not None:
        return record.one_hop_question.answer_true
    if probe == "leak_same":
        return record.same_type_entity_question.answer
    if probe == "leak_diff" and record.diff_type_entity_question is not None:
        return record.diff_type_entity_question.answer
    return None


def flags(lines: Sequence[Mapping[str, Any]]) -> Flags:
    """Of all lines of a probe, which agree."""
    found: Flags = {}
    for line in lines:
        key = line["edit_id"], line["probe"]
        flag = line["named_before"], line["fact_before"]
        assert found.setdefault(key, flag) == flag
    return found


@pytest.fixture(scope="module")
def expected(model: EditableModel, processor: Processor, source: RecordSource) -> Flags:
    return reference(model, processor, source)


@pytest.mark.parametrize("size", [1, 3, N])
def test_flags_are_those_of_one_question_at_a_time(
    size: int, model: EditableModel, processor: Processor, source: RecordSource, expected: Flags
) -> None:
    """Whatever the batches, and whatever the editor has made of the model since."""
    editor = Unedited() if size == 3 else fine_tune(layers=1, steps=3, lr=2e-2)
    outcome = evaluated(
        model, processor, served(source, processor, model, TRANSITIVE, size), editor
    )
    assert flags(outcome.lines) == expected
    for kind in (0, 1):
        told = [flag[kind] for key, flag in expected.items() if key[1] == "reliability_s"]
        assert {True, False} <= set(told), "the swapped pictures are read wrongly"


def test_what_the_filter_has_asked_is_not_asked_again(
    model: EditableModel, processor: Processor, source: RecordSource, expected: Flags,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[int] = []
    whole = type(model).forward

    def counted(self: EditableModel, rows: Any, **options: Any) -> torch.Tensor:
        asked.append(len(rows))
        return whole(self, rows, **options)

    data = served(source, processor, model, TRANSITIVE, N, by="pictures")
    assert 0 < data.n_edits("test") < N
    monkeypatch.setattr(type(model), "forward", counted)
    outcome = evaluated(model, processor, data, Unedited())
    kept = data.served["test"]
    assert flags(outcome.lines) == {
        (kept.index(number), probe): flag
        for (number, probe), flag in expected.items()
        if number in kept
    }
    (batch,) = list(data.test_dataloader())
    assert batch.pictures is not None
    (rows,) = asked
    assert rows < len(batch.pictures.keys)
    again = evaluated(model, processor, data, Unedited())
    assert flags(again.lines) == flags(outcome.lines)


def test_edits_in_sequence_have_the_flags_of_the_unedited_model(
    model: EditableModel, processor: Processor, source: RecordSource, expected: Flags
) -> None:
    data = served(source, processor, model, TRANSITIVE, 3)
    module = SequentialModule(model, fine_tune(layers=1, steps=3, lr=2e-2), data, points=(2, N))
    trainer().test(module, verbose=False)
    for n in (2, N):
        lines = [line for line in module.curve_lines() if line["edits_in_place"] == n]
        assert flags(lines).items() <= expected.items()


def test_parts_and_gains_are_those_of_the_lines(
    model: EditableModel, processor: Processor, source: RecordSource
) -> None:
    """Each metric by hand from the lines of edits.parquet; n=0 where nothing was read so."""
    outcome = evaluated(
        model,
        processor,
        served(source, processor, model, TRANSITIVE, 4),
        fine_tune(layers=1, steps=3, lr=2e-2),
    )
    found = variant_metrics(outcome.scores, "transitive", resamples=2)
    for name, measure in (("Reliability_U", "token_accuracy"), ("Reliability_U_EM", "exact_match")):
        lines = [
            line
            for line in outcome.lines
            if (line["probe"], line["metric"]) == ("reliability_u", measure)
        ]
        for suffix, column, wanted in (
            ("read", "fact_before", True), ("unread", "fact_before", False),
            ("named", "named_before", True), ("unnamed", "named_before", False),
        ):  # fmt: skip
            values = [line["value"] for line in lines if line[column] is wanted]
            assert found[f"{name}_{suffix}"].n == len(values)
            if values:
                assert found[f"{name}_{suffix}"].mean == pytest.approx(
                    100 * sum(values) / len(values)
                )
        gains = [line["value"] - line["pre_value"] for line in lines]
        assert found[f"{name}_gain"].mean == pytest.approx(100 * sum(gains) / N)
    unedited = evaluated(
        model, processor, served(source, processor, model, TRANSITIVE, 4), Unedited()
    )
    none = variant_metrics(unedited.scores, "transitive", resamples=2)
    assert all(v.mean == 0 for key, v in none.items() if key.endswith("_gain") and v.n)
    assert none["Locality_I_far_named"].n == 0
