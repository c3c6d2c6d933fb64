"""What part of a text edit reaches the picture of its subject, above the floor.

The same edit is asked in text (unimodal) and about the seen picture (transitive). What it adds
there is told above a floor (`reporting.floors`): the gain over the unedited model on the same
question, or the gain in specificity, which is the new answer about the edited subject minus about
another entity of the type, minus the same of the unedited model. Over the records that have both,

    part = 100 mean(above the floor, picture) / mean(above the floor, text)      (percent)

with the interval of the ratio, records drawn together (`metrics.bootstrap.share_of`). There is none
where the edit itself is not told from the floor in text. Of a row with several seeds a record's
score is its mean over them, and the interval of a part is over records alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from metrics.bootstrap import Estimate, share_of
from metrics.headlines import GAIN, SPECIFICITY, floors_of
from reporting.clusters import Clusters, cluster_notes
from reporting.comparable import are_comparable, by_model
from reporting.entries import Entry
from reporting.floors import floor_marks, floor_notes, over_records
from reporting.formats import EMPTY, HIGHER, Cell, Column, ResultTable, Row, fewer_records
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.overlap import marked_name
from reporting.pairs import difference_cell, entry_scores
from reporting.reading import marked_cell

IN_TEXT, SEEN = "Reliability", "Reliability_S"
SPECIFIC_GAIN = f"{SPECIFICITY.lower()} {GAIN}"
ABOVE = (GAIN, SPECIFIC_GAIN)  # what a part is told of


@dataclass(frozen=True)
class Part:
    """What an edit adds above a floor, over the records that are asked both ways.

    Attributes:
        in_text: in points.
        on_picture: in points.
        share: the second in percent of the first; without records where the first is not told from
            the floor.
    """

    in_text: Estimate
    on_picture: Estimate
    share: Estimate


@dataclass(frozen=True)
class Reach:
    """One row, asked in text and about the seen picture.

    Attributes:
        in_text: its unimodal results.
        on_picture: its transitive results.
        parts: gain, and gain in specificity; one that the results do not have is absent.
    """

    in_text: Entry
    on_picture: Entry
    parts: dict[str, Part]

    @property
    def name(self) -> str:
        return self.on_picture.name

    @property
    def arrives(self) -> bool:
        """Whether the answer about the picture is told from both floors, and by what was edited.

        A specificity that the unedited model has too is none of the edit.
        """
        added = (self.parts[kind].on_picture for kind in ABOVE if kind in self.parts)
        clear = [part.low > 0 for part in added]
        return len(clear) == len(ABOVE) and all(clear) and not self.marks

    @cached_property
    def marks(self) -> str:
        """Of its figure about the picture, where that is not told from a floor."""
        return floor_marks(self.on_picture, [SEEN]).get(SEEN, "")


def reaches(entries: Sequence[Entry]) -> list[Reach]:
    """Of all rows that were asked both ways, the unedited model left out.

    Args:
        entries: of any scenarios and models, of single edits.

    Returns:
        By model and editor. A row is left out where its runs differ in data, scoring or weights of
        the model, or have no `edits.parquet`.

    Raises:
        DataError: a table cannot be read.
    """
    found = []
    for _, of_model in by_model(entries):
        in_text = {(e.name, e.editor): e for e in of_model if e.scenario == "unimodal"}
        for on_picture in of_model:
            first = in_text.get((on_picture.name, on_picture.editor))
            if on_picture.scenario != "transitive" or on_picture.editor == UNEDITED:
                continue
            if first is not None and are_comparable([first, on_picture]):
                parts = _parts(first, on_picture)
                found += [Reach(first, on_picture, parts)] if parts else []
    return found


def _parts(in_text: Entry, on_picture: Entry) -> dict[str, Part]:
    parts = {}
    for kind in ABOVE:
        text, picture = (
            entry_scores(entry, _above(name)[kind])
            for entry, name in ((in_text, IN_TEXT), (on_picture, SEEN))
        )
        shared = text.index.intersection(picture.index)
        if not len(shared):
            continue
        tables = [table.loc[shared] for table in (text, picture)]
        of_text, of_picture = (over_records(on_picture, table) for table in tables)
        first, second = (table.to_numpy().mean(axis=1) for table in tables)
        seed, labels = on_picture.first.seed, Clusters(on_picture.first).of(shared)
        share = share_of(second, first, seed=seed, clusters=labels)
        parts[kind] = Part(of_text, of_picture, share)
    return parts


def _above(name: str) -> dict[str, str]:
    """What says how far a metric is above a floor by an edit: the variants of it, by kind."""
    floors = floors_of(name)
    return {GAIN: floors[GAIN], SPECIFIC_GAIN: f"{floors[SPECIFICITY.lower()]}_{GAIN}"}


def reach_table(found: Sequence[Reach]) -> ResultTable | None:
    """The parts as a table, a row each; None without any."""
    if not found:
        return None
    columns = (
        Column("In text", HIGHER), Column("On the picture", HIGHER),
        *(
            Column(f"{kind.capitalize()}, {what}", HIGHER)
            for kind in ABOVE
            for what in ("text", "picture", "part")
        ),
    )  # fmt: skip
    rows = tuple(
        Row(
            (model_label(reach.on_picture.model), marked_name(reach.on_picture)),
            str(reach.on_picture.n_edits),
            (
                marked_cell(reach.in_text, IN_TEXT),
                marked_cell(reach.on_picture, SEEN),
                *(cell for kind in ABOVE for cell in _cells(reach.parts.get(kind))),
            ),
            seeds=len(reach.on_picture.runs),
        )
        for reach in found
    )
    shown = [reach.on_picture for reach in found]
    notes = (
        "Reliability of edits made in text, in percent, asked in text and about the seen picture. "
        "Gain, and gain in specificity, over the unedited model: in points, over the records that "
        "are asked both ways, with the 95 % interval; bold: it excludes 0. Part: picture in "
        f"percent of text, with the interval of the ratio; {EMPTY} where the edit is not told from "
        "the floor in text.",
        *fewer_records(rows, columns),
        *cluster_notes(shown),
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        *editor_note(entry.editor for entry in shown),
    )
    title = "What part of a text edit reaches the picture"
    return ResultTable(title, ("Model", "Editor"), columns, rows, notes)


def _cells(part: Part | None) -> Iterable[Cell]:
    if part is None:
        return [Cell()] * 3
    points = [difference_cell(part.in_text), difference_cell(part.on_picture)]
    share = part.share
    if not share.n:
        return [*points, Cell()]
    interval = f"[{share.low:.0f}, {share.high:.0f}]"
    return [*points, Cell(f"{share.mean + 0.0:.0f} %", interval=interval, n=share.n)]
