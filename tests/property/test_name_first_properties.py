"""Name first, then ask, against references that ask one question at a time.

Words are those of transformers' own greedy search; what is then asked in text is scored as probes
in text are. The shipped model knows its world, and pictures are swapped between entities, so that
it names the subject of a record now rightly and now wrongly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
import torch

from configs.check import load_config
from datamodules.name_first import name_first
from datamodules.prompts import Prompt
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from editors.base import Editor, EditorInputs
from editors.none.editor import Unedited
from editors.registry import build_editor
from lightning_modules import name_first as asking
from lightning_modules.name_first import NameFirst, Said
from metrics.collection import variant_metrics
from metrics.name_first import CHAIN, NAME, is_beside, probe_of
from metrics.text import generation_match
from models.editable import EditableModel
from models.processor import Processor
from results.outcome import Outcome
from runner.assembly import make_encoder
from runner.name_first import name_first_lines
from tests.editors import fine_tune, lora, mend, rome
from tests.evaluations import evaluated, served
from tests.property.test_reading_properties import model, pixels_of, processor, source

__all__ = ["model", "processor", "source"]
N = 2
BY_NAME = replace(SCENARIOS["transitive"], names_first=True)
Lines = Mapping[tuple[int, str, str], Mapping[str, Any]]  # by edit, probe and measure


def by_key(outcome: Outcome) -> Lines:
    return {(line["edit_id"], line["probe"], line["metric"]): line for line in outcome.lines}


@pytest.fixture(scope="module")
def make_editor(
    model: EditableModel, processor: Processor, source: RecordSource
) -> Callable[[str], Editor]:
    """Editors that are quick to make; those that learn have the weights they begin with."""
    encoder = make_encoder(processor, "default")
    inputs = EditorInputs(encoder, source.records("test")[N:])

    def of_command_line(name: str) -> Editor:
        command = "train" if name == "serac" else "evaluate"
        cfg = load_config(command, ["experiment=demo", f"editor={name}", "model=llava_tiny"])
        return build_editor(cast("Any", cfg).editor, model, inputs)

    makers: dict[str, Callable[[], Editor]] = {
        "none": Unedited,
        "ft": lambda: fine_tune(layers=1, steps=3, lr=2e-2),
        "lora": lambda: lora(steps=2),
        "mend": lambda: mend(model, layers=1, rank=4, edit_lr=0.1, normalise=False).eval(),
        "rome": lambda: rome(encoder, layer=1, steps=2, second_moment=None),
        "ike": lambda: of_command_line("ike"),
        "serac": lambda: of_command_line("serac").eval(),  # type: ignore[attr-defined]
    }
    return cache(lambda name: makers[name]())


@pytest.fixture(scope="module")
def expected(model: EditableModel, processor: Processor, source: RecordSource) -> dict[Any, str]:
    """What transformers says of each picture, one question at a time: naming prompt -> words."""
    encoder = make_encoder(processor, "default")
    words: dict[Any, str] = {}
    for record in source.records("test")[:N]:
        for probe, make_prompt in BY_NAME.probes.items():
            prompt = make_prompt(record)
            way = prompt and name_first(record, probe, prompt)
            if not way or way.naming in words:
                continue
            image = way.naming.image
            assert image is not None
            row = encoder.encode(way.naming.question, "x", picture=True)
            ids = torch.tensor([row.ids[: row.answer.index(True)]])
            found = model.hf.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels_of(processor, source.image_root / image)[None],
                max_new_tokens=16,
                do_sample=False,
            )[0, ids.shape[1] :]
            text = encoder.tokenizer.decode(found, skip_special_tokens=True)
            words[way.naming] = text.strip().split("\n")[0]
    return words


def ways(source: RecordSource) -> dict[tuple[int, str], Any]:
    return {
        (number, probe): way
        for number, record in enumerate(source.records("test")[:N])
        for probe, make_prompt in BY_NAME.probes.items()
        if (prompt := make_prompt(record)) and (way := name_first(record, probe, prompt))
    }


def test_words_are_those_of_one_picture_at_a_time(
    model: EditableModel, processor: Processor, source: RecordSource, expected: dict[Any, str]
) -> None:
    for size in (1, N):
        data = served(source, processor, model, BY_NAME, size, limit=N)
        lines = by_key(evaluated(model, processor, data, Unedited()))
        named = {key[:2]: line for key, line in lines.items() if key[1].endswith(NAME)}
        assert {(edit, probe_of(probe)) for edit, probe in named} == set(ways(source))
        for (edit, probe), line in named.items():
            naming = ways(source)[edit, probe_of(probe)].naming
            assert line["pre_text"] == expected[naming]
            assert line["value"] == generation_match(expected[naming], naming.answer)
            assert line["target"] == naming.answer
    right = [line["value"] for key, line in named.items() if key[1] == f"reliability_s{NAME}"]
    assert {0.0, 1.0} == set(right), "the swapped pictures are named wrongly"


@pytest.mark.parametrize("name", ["none", "ft", "lora", "mend", "rome", "ike", "serac"])
def test_every_editor_answers_what_it_answers_in_text(
    name: str, model: EditableModel, processor: Processor, source: RecordSource,
    expected: dict[Any, str], make_editor: Callable[[str], Editor],
) -> None:  # fmt: skip
    """The same questions as probes in text, scored by the same edits."""
    data = served(source, processor, model, BY_NAME, N, limit=N)
    found = by_key(evaluated(model, processor, data, make_editor(name)))
    records, of_ways = source.records("test"), ways(source)

    def in_text(probe: str, record: Record) -> Prompt | None:
        way = of_ways.get((next(n for n, r in enumerate(records) if r is record), probe))
        prompt = BY_NAME.probes[probe](record)
        if way is None or prompt is None:
            return None
        return prompt._replace(question=way.question(expected[way.naming]), image=None)

    probes = {
        f"{probe}{CHAIN}": (lambda record, probe=probe: in_text(probe, record))
        for probe in BY_NAME.probes
    }
    text = replace(BY_NAME, probes=probes, names_first=False)
    reference = by_key(
        evaluated(
            model, processor, served(source, processor, model, text, N, limit=N), make_editor(name)
        )
    )
    chained = {key: line for key, line in found.items() if key[1].endswith(CHAIN)}
    assert chained.keys() == reference.keys() != set()
    for key, line in chained.items():
        for column in ("value", "pre_value"):
            assert line[column] == pytest.approx(reference[key][column], abs=1e-5), (key, column)
        assert (line["pre_text"], line["post_text"]) == (
            reference[key]["pre_text"], reference[key]["post_text"],
        )  # fmt: skip
    if name in ("ft", "ike"):
        plain = served(source, processor, model, SCENARIOS["transitive"], N, limit=N)
        direct = by_key(evaluated(model, processor, plain, make_editor(name)))
        without = {key: line["value"] for key, line in found.items() if not is_beside(key[1])}
        assert without == {key: line["value"] for key, line in direct.items()}


def test_metrics_are_paired_with_the_direct_answers(
    model: EditableModel, processor: Processor, source: RecordSource,
    make_editor: Callable[[str], Editor],
) -> None:  # fmt: skip
    data = served(source, processor, model, BY_NAME, N, limit=N)
    outcome = evaluated(model, processor, data, make_editor("ft"))
    lines, found = by_key(outcome), variant_metrics(outcome.scores, "transitive", resamples=2)
    again = served(source, processor, model, BY_NAME, N, limit=N)
    unedited = by_key(evaluated(model, processor, again, make_editor("none")))
    by_name_unedited = [
        unedited[edit, f"reliability_u{CHAIN}", "token_accuracy"]["value"] for edit in range(N)
    ]
    differences = [
        lines[edit, f"reliability_u{CHAIN}", "token_accuracy"]["value"]
        - lines[edit, "reliability_u", "token_accuracy"]["value"]
        for edit in range(N)
    ]
    assert found["Reliability_U_chain_gain"].mean == pytest.approx(100 * sum(differences) / N)
    of_the_edit = [
        lines[edit, f"reliability_u{CHAIN}", "token_accuracy"]["value"] - unedited
        for edit, unedited in enumerate(by_name_unedited)
    ]
    gain = found["Reliability_U_chain_edit_gain"]
    assert gain.mean == pytest.approx(100 * sum(of_the_edit) / N)
    changed = [
        line["value"] != lines[edit, probe_of(probe), measure]["value"]
        for (edit, probe, measure), line in lines.items()
        if probe.endswith(CHAIN)
    ]
    assert any(changed), "asking by a name is another question"
    stays = [
        lines[edit, f"locality_i_near{CHAIN}", "token_agreement"]["value"] for edit in range(N)
    ]
    assert found["Locality_I_chain"].mean == pytest.approx(100 * sum(stays) / N)
    asked = list(name_first_lines(data.probe_prompts("test"), outcome.lines))
    (chained,) = (
        line for line in asked if (line["edit_id"], line["probe"]) == (0, f"leak_same{CHAIN}")
    )
    way = ways(source)[0, "leak_same"]
    assert chained["question"] == way.question(str(chained["said"]))
    assert (chained["image"], len(asked)) == (None, 2 * len(ways(source)))


def test_a_picture_is_named_once_in_a_run(
    model: EditableModel, processor: Processor, source: RecordSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[int] = []
    whole = NameFirst._words

    def counted(self: NameFirst, rows: Any, *arguments: Any) -> list[Said]:
        asked.append(len(rows))
        return whole(self, rows, *arguments)

    monkeypatch.setattr(NameFirst, "_words", counted)
    twice = [*source.records("test")[:2], *source.records("test")[:2]]
    again = RecordSource("world", source.image_root, {"test": twice}, False, "none")
    data = served(again, processor, model, BY_NAME, 1, limit=4)
    evaluated(model, processor, data, Unedited())
    of_two = {way.naming for (edit, _), way in ways(source).items() if edit < 2}
    assert sum(asked) == len(of_two) > 0


@pytest.mark.parametrize(("words", "is_asked"), [(" ", True), ("a " * 3000, False)])
def test_names_that_are_none_or_too_long(
    words: str, is_asked: bool, model: EditableModel, processor: Processor,
    source: RecordSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Nothing said is asked about "it"; what the model cannot read is not asked, and told once."""
    monkeypatch.setattr(NameFirst, "_words", lambda self, rows, *_: [Said(words, 0.0)] * len(rows))
    caplog.set_level(logging.WARNING, asking.__name__)
    data = served(source, processor, model, BY_NAME, 2, limit=N)
    outcome = evaluated(model, processor, data, Unedited())
    assert {line["pre_text"] for line in outcome.lines if line["probe"].endswith(NAME)} == {words}
    chained = [line for line in outcome.lines if line["probe"].endswith(CHAIN)]
    written = list(name_first_lines(data.probe_prompts("test"), outcome.lines))
    in_text = [str(line["question"]) for line in written if line["image"] is None]
    assert bool(chained) == bool(in_text) == is_asked
    assert all(" it" in text for text in in_text)
    assert len(caplog.records) == (not is_asked)
    if not is_asked:
        assert "such questions are not asked" in caplog.text
        found = variant_metrics(outcome.scores, "transitive", resamples=2)
        assert found["Recognition_S"].mean == 0
        assert "Reliability_S_chain" not in found


def test_a_name_that_leaves_no_room_for_a_demonstration_is_not_asked(
    model: EditableModel, processor: Processor, source: RecordSource,
    monkeypatch: pytest.MonkeyPatch, make_editor: Callable[[str], Editor],
) -> None:  # fmt: skip
    """The model reads the question, but not behind the new fact: the run goes on without it."""
    encoder = make_encoder(processor, "default")
    few, more = (len(encoder.encode(f"Who made {n * 'the '}?", "x").ids) for n in (10, 20))
    words = " ".join(["the"] * (10 + (model.max_positions - 12 - few) * 10 // (more - few)))
    monkeypatch.setattr(NameFirst, "_words", lambda self, rows, *_: [Said(words, 0.0)] * len(rows))
    data = served(source, processor, model, BY_NAME, 1, limit=1)
    plain, behind = (
        [line for line in evaluated(model, processor, data, editor).lines if is_chain(line)]
        for editor in (Unedited(), make_editor("ike"))
    )
    assert len(plain) > len(behind)


def is_chain(line: Mapping[str, Any]) -> bool:
    return str(line["probe"]).endswith(CHAIN)
