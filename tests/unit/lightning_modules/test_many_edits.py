"""Edits made turn by turn: what an editor is handed, what contradicts, what is made again."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from editors.base import DeltaEdit, Editor, Lasting
from editors.none.editor import Unedited
from editors.turn import Turn
from errors import ConfigError
from lightning_modules.batch import BatchModule
from lightning_modules.many_edits import ManyEditsModule
from lightning_modules.sequential import SequentialModule
from lightning_modules.teaching_rows import TeachingRows, bytes_of
from models.editable import EditableModel, PrefixState
from models.llava import Llava
from models.rows import Answers, EditBatch, Rows
from results.partial import BatchResult, PartialResults
from tests.editors import fine_tune
from tests.parity.test_slow_reference import datamodule
from tests.unit.datamodules.test_sources import other, write
from tests.unit.lightning_modules.test_sequential import (
    Lines,
    model,
    ran,
    source,
    strong,
    untimed,
)

__all__ = ["model", "source"]  # fixtures


def made(
    kind: type[ManyEditsModule],
    model: EditableModel,
    editor: Editor,
    source: RecordSource,
    *,
    batch_size: int = 2,
    done: PartialResults | None = None,
    **protocol: Any,
) -> ManyEditsModule:
    return kind(
        model,
        editor,
        datamodule(model, source, "unimodal", batch_size),
        partial=done,
        **protocol,
    )


@dataclass
class Handed:
    """What an editor was asked to make: the subjects, part by part, of two readings."""

    readings: list[list[list[str]]]
    earlier: int
    rows: int


@dataclass
class Spy:
    """An editor that changes nothing and remembers what it was handed."""

    handed: list[Handed] = field(default_factory=list)
    name: str = "spy"

    def first_layer(self, model: EditableModel) -> int:
        return 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        raise AssertionError("an editor that makes many edits in one update is asked for that")

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Any) -> Counted:
        readings = [[list(batch.subjects) for batch, _ in turn] for _ in range(2)]
        for batch, state in turn:
            assert batch.probes == {}
            assert len(batch.rows) == len(batch.edit_rows) == len(batch)
            assert state.layer == 1
        rows = sum(len(batch.rows) for batch, _ in turn)
        self.handed.append(Handed(readings, 0 if earlier is None else earlier.n_edits, rows))
        return Counted(len(turn))


@dataclass(frozen=True)
class Counted:
    """Edits that know how many they are."""

    n_edits: int

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        return model.suffix(state, at=at)

    def after(self, earlier: Counted | None) -> Counted:
        return Counted(self.n_edits + (0 if earlier is None else earlier.n_edits))

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        return DeltaEdit().in_place(model)

    def report(self) -> dict[str, list[float]]:
        return {"number": [float(number) for number in range(self.n_edits)], "all": [7.0]}


def subjects(source: RecordSource, *numbers: int) -> list[str]:
    return [source.records("test")[number].about for number in numbers]


def test_the_rows_of_a_turn_come_in_parts_and_can_be_read_again(
    model: Llava, source: RecordSource
) -> None:
    spy = Spy()
    ran(made(SequentialModule, model, spy, source, points=(3, 5), turn=3))
    first = [subjects(source, 0, 1), subjects(source, 2)]
    assert [handed.readings for handed in spy.handed] == [
        [first, first],
        [[subjects(source, 3, 4)]] * 2,
    ]
    assert [(handed.earlier, handed.rows) for handed in spy.handed] == [(0, 3), (3, 2)]


def test_every_point_of_a_batch_is_an_update_of_its_own(model: Llava, source: RecordSource) -> None:
    spy = Spy()
    module = ran(made(BatchModule, model, spy, source, points=(1, 4)))
    assert [(handed.earlier, handed.rows) for handed in spy.handed] == [(0, 1), (0, 4)]
    assert isinstance(module.edits, Counted)
    assert module.edits.n_edits == 4
    assert set(module.outcome.report) == {"number", "all"}
    assert module.outcome.report == {"number": 1.5, "all": 7.0}


def test_a_batch_is_the_first_turn_of_a_sequence(model: Llava, source: RecordSource) -> None:
    batch = ran(made(BatchModule, model, strong(), source, points=(2, 5)))
    for n in (2, 5):
        alone = ran(made(SequentialModule, model, strong(), source, points=(n,), turn=n))
        assert untimed(alone.curve[n].lines) == untimed(batch.curve[n].lines)
        assert isinstance(alone, SequentialModule)
        assert untimed(alone.when_made[n].lines) == untimed(batch.curve[n].lines)
    two, five = ([row for row in batch.curve[n].lines if row["edit_id"] < 2] for n in (2, 5))
    assert untimed(two) != untimed(five), "more edits change nothing: this shows nothing"


def test_the_edits_of_a_turn_are_judged_right_after_it(model: Llava, source: RecordSource) -> None:
    module = ran(made(SequentialModule, model, strong(), source, points=(2, 4, 5), turn=2))
    assert isinstance(module, SequentialModule)

    def of(lines: Lines, *edits: int) -> Lines:
        return untimed([row for row in lines if row["edit_id"] in edits])

    when_made = module.when_made[5].lines
    for n, newest in ((2, (0, 1)), (4, (2, 3)), (5, (4,))):
        assert of(when_made, *newest) == of(module.curve[n].lines, *newest)
    assert of(when_made, 0, 1) != of(module.curve[5].lines, 0, 1), "nothing is undone"


def test_the_time_of_an_update_is_shared_by_its_edits(model: Llava, source: RecordSource) -> None:
    module = ran(made(SequentialModule, model, strong(), source, points=(5,), turn=2))
    seconds = module.outcome.seconds
    assert seconds[0] == seconds[1] > 0
    assert seconds[2] == seconds[3] > 0
    assert len(set(seconds.values())) == 3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_size_of_the_parts_changes_nothing(
    model: Llava, source: RecordSource, batch_size: int
) -> None:
    turns: dict[str, Any] = {"points": (4, 5), "turn": 4}
    expected = ran(made(SequentialModule, model, strong(), source, batch_size=5, **turns))
    found = ran(made(SequentialModule, model, strong(), source, batch_size=batch_size, **turns))
    assert untimed(found.curve_lines()) == untimed(expected.curve_lines())


def test_parts_are_kept_as_far_as_there_is_room(model: Llava, source: RecordSource) -> None:
    data = datamodule(model, source, "unimodal", 2)
    entered: list[tuple[int, ...]] = []

    def enter(batch: EditBatch) -> tuple[EditBatch, PrefixState]:
        entered.append(batch.edit_ids)
        return batch, model.prefix(batch.rows, 1, packed=True)

    def rows(room: int) -> TeachingRows:
        parts = [[0, 1], [2, 3], [4]]
        return TeachingRows(
            lambda first: data.batches("test", parts[first:], teaching=True), enter, room
        )

    every = [(0, 1), (2, 3), (4,)]
    whole = rows(2**30)
    assert entered == every
    for _ in range(2):
        assert [batch.edit_ids for batch, _ in whole()] == every
    assert entered == every, "what is kept is not made again"
    (first, *_) = whole()
    entered.clear()
    one = rows(bytes_of(first))
    for _ in range(2):
        assert [batch.edit_ids for batch, _ in one()] == every
    assert entered == [*every[:2], *every[1:], *every[1:]]


def contradicting(root: Path) -> RecordSource:
    """Edits 0, 1 and 3 are of one fact; 1 and 3 say the same of it; 2 is of another."""
    records = [other(f"Car {number}") for number in (0, 0, 2, 0)]
    for record, answer in zip(records, ("Ford", "Tama Duva", "Ford", "tama duva"), strict=True):
        record["knowledge_edit"]["answer_new"] = answer
        record["rephrase_question"]["answer_new"] = answer
    root.mkdir(exist_ok=True)
    write(root / "test.json", *records)
    return read_tmke(root)


@pytest.fixture(scope="module")
def crossed(source: RecordSource, tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    found = contradicting(tmp_path_factory.mktemp("crossed"))
    return replace(found, image_root=source.image_root)


def test_of_edits_of_one_fact_the_last_is_taught(
    model: Llava, crossed: RecordSource, caplog: pytest.LogCaptureFixture
) -> None:
    spy = Spy()
    with caplog.at_level(logging.INFO):
        module = ran(made(BatchModule, model, spy, crossed, points=(1, 4), batch_size=4))
    assert "1 of 4 edits are not taught" in caplog.text
    assert "edit 0 (Car 0) by edit 1" in caplog.text
    assert [handed.rows for handed in spy.handed] == [1, 3]
    found = module.summary_fields(lambda outcome: {})
    assert found["not_taught"] == {"1": {}, "4": {"0": 1}}
    assert found["left_out"]["4"] > found["left_out"]["1"] == 0
    json.dumps(found)
    probes = {(row["edit_id"], row["probe"]) for row in module.outcome.lines}
    asked_of_itself = {"reliability", "generality", "portability"}
    assert not {probe for edit, probe in probes if edit == 0} & asked_of_itself
    for edit in (1, 2, 3):
        assert asked_of_itself <= {probe for number, probe in probes if number == edit}
    # What the editor reports of an edit that was not taught is that of the one in its place.
    assert module.outcome.report["number"] == pytest.approx((0 + 0 + 1 + 2) / 4)


def test_what_is_reported_is_of_the_edits_that_were_taught(
    model: Llava, crossed: RecordSource
) -> None:
    module = ran(made(SequentialModule, model, Spy(), crossed, points=(2, 4), turn=2))
    reported = [outcome.report["number"] for outcome in module.curve.values()]
    # Of 0 and 1 the latter was taught, the first of all; then 2 and 3.
    assert reported == pytest.approx([0, (0 + 0 + 1 + 2) / 4])


def test_contradictions_are_refused_where_that_is_asked_for(
    model: Llava, crossed: RecordSource
) -> None:
    complaint = r"1 of 4 edits .* edit 0 .*'Car 0': 'Ford'\) and edit 1 .*'Tama Duva'"
    with pytest.raises(ConfigError, match=complaint):
        made(BatchModule, model, Spy(), crossed, points=(1, 4), contradictions="error")
    with pytest.raises(ConfigError, match=complaint):
        made(SequentialModule, model, Spy(), crossed, points=(4,), turn=2, contradictions="error")
    # Of edits of two turns the later one counts.
    module = made(SequentialModule, model, Spy(), crossed, points=(4,), contradictions="error")
    assert module.not_taught() == {4: {}}


class OneByOne:
    """An editor without `edit_together`."""

    name = "one_by_one"

    def first_layer(self, model: EditableModel) -> int:
        return 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        return DeltaEdit()


def test_an_editor_of_single_edits_makes_no_turn(model: Llava, source: RecordSource) -> None:
    for kind, turn in ((SequentialModule, 2), (BatchModule, None)):
        with pytest.raises(ConfigError, match="editor=one_by_one makes one edit at a time, and"):
            made(kind, model, OneByOne(), source, points=(2, 4), turn=turn)
    edits = ran(made(SequentialModule, model, OneByOne(), source, points=(2,), turn=1)).edits
    assert isinstance(edits, Lasting)


def test_points_of_a_batch_that_are_there_are_not_made_again(
    model: Llava, source: RecordSource, tmp_path: Path
) -> None:
    done = PartialResults(tmp_path, {})
    assert done.open() == []
    whole = ran(made(BatchModule, model, strong(), source, points=(1, 2, 4), done=done))
    files = sorted(done.folder.glob("*.parquet"))
    assert len(files) == 3
    files[1].unlink()

    def again(editor: Editor) -> ManyEditsModule:
        module = made(BatchModule, model, editor, source, points=(1, 2, 4), done=done)
        module.resume(PartialResults(tmp_path, {}).open(), frozenset(), module.data)
        return ran(module)

    spy = Spy()
    again(spy)
    assert [handed.rows for handed in spy.handed] == [2]
    files[1].unlink()
    found = again(strong())
    assert untimed(found.curve_lines()) == untimed(whole.curve_lines())
    spy = Spy()
    assert untimed(again(spy).outcome.lines) == untimed(whole.outcome.lines)
    assert spy.handed == []
    assert len(list(done.folder.glob("*.parquet"))) == 3


def test_the_unedited_model_is_the_same_under_every_protocol(
    model: Llava, source: RecordSource
) -> None:
    batch, sequence = (
        ran(made(kind, model, Unedited(), source, points=(3, 5)))
        for kind in (BatchModule, SequentialModule)
    )
    assert untimed(batch.curve_lines()) == untimed(sequence.curve_lines())


def test_no_more_probes_are_there_than_a_batch_has(
    model: Llava, source: RecordSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    score = ManyEditsModule._score_all

    def counted(self: ManyEditsModule, batch: EditBatch, *rest: Any) -> BatchResult:
        sizes.append(len(batch))
        return score(self, batch, *rest)

    monkeypatch.setattr(ManyEditsModule, "_score_all", counted)
    ran(made(BatchModule, model, fine_tune(steps=1), source, points=(5,)))
    assert sizes == [2, 2, 1]
