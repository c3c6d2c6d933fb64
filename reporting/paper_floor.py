"""Which of the paper's own figures on pictures can be told from a floor, as far as it says.

An editor that gives the new answer to everybody has a high Reliability and a low Stability. Where
an answer is either right or wrong as a whole, and another entity's own answer is not the new one,
what is said about that entity is not both, so the leak and Stability share 100 between them, and

    Reliability - Leak >= Reliability - (100 - Stability).

Neither is known of the tables. They are of token accuracy, where an answer may be partly right as
both; and an entity whose own answer happens to be the new one counts fully as both. The leak may
exceed 100 - Stability, and what is above is only suggested. No table has the unedited model, so no
gain can be told at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from reporting.formats import NOT_SPECIFIC, Cell, Column, ResultTable, Row
from reporting.labels import SCENARIOS
from reporting.paper import paper_columns, paper_tables

_OF_THE_NEW_ANSWER = {
    "Reliability_S": "Rel_S",
    "Reliability_U": "Rel_U",
    "Generality_S": "Gen_S",
    "Generality_U": "Gen_U",
}


class Recorded(NamedTuple):
    """What follows from the records of a row that are public.

    Attributes:
        records: how many there are.
        exact_match: the same on all four figures, in percent.
        specificity: of Reliability_S against the same type, in points.
        ci95: its interval.
    """

    records: int
    exact_match: float
    specificity: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class PaperFloor:
    """One row of a table of the paper.

    Attributes:
        figures: of the edit's new answer, in percent by metric.
        most_leak: 100 - Stability, what exact answers could give away about other entities.
        recorded: what its records say where they are public; None elsewhere.
    """

    model: str
    editor: str
    figures: dict[str, float]
    most_leak: float
    recorded: Recorded | None

    def above(self, metric: str, *, of_one_type: bool = False) -> float:
        """Points by which a figure is above the most that exact answers could leak.

        Args:
            metric: of `figures`.
            of_one_type: against one type of entity alone, whose leak may be twice as high, since
                Stability is the mean of two types.
        """
        most = min(100.0, 2 * self.most_leak) if of_one_type else self.most_leak
        return round(self.figures[metric] - most, 1)

    @property
    def is_told(self) -> bool:
        """Whether all figures of the row are above it, and no public records say otherwise."""
        return self.recorded is None and all(self.above(metric) > 0 for metric in self.figures)


def paper_floors(scenario: str) -> list[PaperFloor]:
    """The rows of a table with pictures, in the paper's order."""
    columns = paper_columns(scenario)
    recorded = paper_tables()["recorded"]
    rows = []
    for model, editors in paper_tables()[scenario]["rows"].items():
        for editor, numbers in editors.items():
            figures = dict(zip(columns, numbers, strict=True))
            answers = {name: figures[name] for name in _OF_THE_NEW_ANSWER}
            known = recorded.get(scenario, {}).get(model, {}).get(editor)
            most = round(100 - figures["Stability"], 1)
            row = PaperFloor(model, editor, answers, most, Recorded(**known) if known else None)
            rows.append(row)
    return rows


def paper_floor_tables() -> list[ResultTable]:
    """A table for each of the paper's scenarios with pictures."""
    with_pictures = [s for s in SCENARIOS if s in paper_tables() and _has_pictures(s)]
    return [_table(scenario, paper_floors(scenario)) for scenario in with_pictures]


def _has_pictures(scenario: str) -> bool:
    return _OF_THE_NEW_ANSWER.keys() <= set(paper_columns(scenario))


def _table(scenario: str, floors: list[PaperFloor]) -> ResultTable:
    number = SCENARIOS.index(scenario) + 1
    names = ("Most leak", *_OF_THE_NEW_ANSWER.values(), "Above by")
    rows = tuple(
        Row(
            (floor.model, floor.editor),
            "",
            (
                Cell(f"{floor.most_leak:.1f}"),
                *(_cell(floor, metric) for metric in _OF_THE_NEW_ANSWER),
                Cell(f"{min(map(floor.above, floor.figures)):+.1f}"),
            ),
            seeds=0,
        )
        for floor in floors
    )
    title = f"The paper's Table {number} ({scenario}) against the answer that everybody gets"
    columns = tuple(map(Column, names))
    return ResultTable(title, ("Model", "Editor"), columns, rows, tuple(_notes(floors)))


def _cell(floor: PaperFloor, metric: str) -> Cell:
    is_floor = floor.above(metric) <= 0 or floor.recorded is not None
    return Cell(f"{floor.figures[metric]:.1f}", floor=NOT_SPECIFIC if is_floor else "")


def _notes(floors: list[PaperFloor]) -> Iterator[str]:
    told = sum(floor.is_told for floor in floors)
    yield (
        "Rel, Gen: Reliability, Generality. Most leak: 100 - Stability, how often exact answers "
        "could give the new answer about other entities; above by: points from there to the "
        "lowest of the four figures."
    )
    yield (
        f"{NOT_SPECIFIC} not above it ({len(floors) - told} of {len(floors)} rows have such a "
        "figure): the tables do not rule out that everybody gets the new answer. They do not show "
        "it either."
    )
    yield (
        f"No mark ({told} rows): above it where answers are right or wrong as a whole and no other "
        "entity's own answer is the new one. Under the tables' token accuracy an answer can be "
        "partly right as both, and about an entity whose own answer is the new one it is both: "
        "the leak can exceed this bound, and these rows are not shown to be above."
    )
    alone = sum(
        all(floor.above(name, of_one_type=True) > 0 for name in floor.figures) for floor in floors
    )
    yield (
        "Stability is a mean over an entity of the same type and one of a different type; against "
        f"the same type alone the bound is twice as high, and {alone} of {len(floors)} rows are "
        "above that."
    )
    yield (
        "The tables have neither the unedited model nor exact match: whether a figure is above "
        "what was there before the edit cannot be told of any row, and of Portability nothing."
    )
    for floor in floors:
        if floor.recorded is not None:
            records, exact_match, specificity, (low, high) = floor.recorded
            yield (
                f"{floor.editor} on {floor.model}: in the {records:,} records that the authors "
                f"published exact match is {exact_match:.1f} on all four, and Reliability_S is "
                f"{specificity:+.1f} [{low:+.1f}, {high:+.1f}] points above the same type "
                "(report.py --records shows such a file): not told from a floor."
            )
