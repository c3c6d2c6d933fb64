"""Reliability on pictures, split by where the chain from the edit to the picture breaks.

The classes and their definition are those of `metrics.chain`; what they rest on stands in
`edits.parquet`, record by record: what the unedited model named, and exact match.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics.bootstrap import Estimate, estimates
from metrics.chain import CLASSES, OF_ANOTHER, ON_PICTURES, Link, class_indicators, links
from metrics.headlines import BEFORE, EXACT_MATCH, GENERATION_MATCH, NAMED_BEFORE, PRE_VALUE
from metrics.name_first import NAME
from metrics.seeds import Measured, over_seeds
from reporting.clusters import Clusters, cluster_notes
from reporting.comparable import check_comparable, data_and_seeds, in_order
from reporting.entries import Entry, each_once
from reporting.formats import Cell, Column, ResultTable, Row
from reporting.kept import kept_while_unchanged
from reporting.labels import editor_note, model_label
from reporting.overlap import marked_name
from reporting.tables import metric_cell, seed_notes
from results.files import EDITS
from results.folder import EDIT_SCHEMA, RunResult, read_rows

OWN_WORDS = ", by its own words"  # behind a picture: what the model named when it answered freely
PICTURES = tuple(f"{picture}{how}" for picture in ON_PICTURES for how in ("", OWN_WORDS))
_OWN_WORDS_NOTE = (
    "By its own words: the unedited model said what the picture shows as it answered freely "
    "(evaluate.name_first); elsewhere the name's tokens were compared one by one."
)
_COLUMNS = ("edit_id", "probe", "metric", "value", PRE_VALUE, NAMED_BEFORE)


@dataclass(frozen=True)
class Split:
    """One row's answers about one kind of picture, by class.

    Attributes:
        entry: the row.
        picture: of `PICTURES`.
        shares: class -> its share of the records with a naming question, in percent.
        n: records with a naming question.
        unasked: records without one, which are of no class.
    """

    entry: Entry
    picture: str
    shares: Mapping[str, Measured]
    n: int
    unasked: int


def chain_splits(entries: Sequence[Entry]) -> list[Split]:
    """The splits of all rows, of the seen picture and of the unseen one.

    Args:
        entries: of one scenario with pictures.

    Returns:
        In the order of tables. Rows are left out that name nothing: their results are of before
        that was asked, their folders have no `edits.parquet`, or no record has a naming question.

    Raises:
        DataError: a table cannot be read.
    """
    splits = (_split(entry, picture) for entry in in_order(entries) for picture in PICTURES)
    return [split for split in splits if split is not None]


def chain_table(splits: Sequence[Split]) -> ResultTable | None:
    """The splits as a table, a row each; None without any.

    Raises:
        DataError: the rows cannot share a table.
    """
    if not splits:
        return None
    of_rows = each_once(split.entry for split in splits)
    check_comparable(of_rows)
    rows = tuple(
        Row(
            (model_label(split.entry.model), marked_name(split.entry), split.picture),
            str(split.n),
            (*(metric_cell(split.shares[name]) for name in CLASSES), Cell(str(split.unasked))),
            seeds=len(split.entry.runs),
        )
        for split in splits
    )
    notes = (
        "Shares in percent of the n records with a question for the name; those without one are "
        "counted in the last column. Recognised: before the edit the unedited model named what "
        "the picture shows. Given: the edited model answers with every token of the new answer. "
        "Recognised and carried: given and recognised; by chance: given though it was not "
        "recognised, or though the unedited model gave it already, or the edited model gives it "
        "about another entity of the type too.",
        *([_OWN_WORDS_NOTE] if any(split.picture.endswith(OWN_WORDS) for split in splits) else []),
        *seed_notes(of_rows),
        *cluster_notes(of_rows),
        *editor_note(entry.editor for entry in of_rows),
    )
    columns = (*(Column(_title(name)) for name in CLASSES), Column("No naming question"))
    title = f"Where the chain breaks, {of_rows[0].scenario} scenario, {data_and_seeds(of_rows)}"
    return ResultTable(title, ("Model", "Editor", "Picture"), columns, rows, notes)


def run_links(run: RunResult, picture: str) -> Mapping[int, Link]:
    """What is known of each record's answer about a picture: edit id -> link.

    Args:
        run: empty where it has no `edits.parquet`, or asks about no such picture.
        picture: of `PICTURES`.

    Raises:
        DataError: the table cannot be read.
    """
    path = run.folder / EDITS
    if not path.is_file():
        return {}
    return _read_links(path)[picture]


def chain_classes(run: RunResult) -> dict[int, dict[str, str]]:
    """Of each edit, the class of each of its pictures that has one: edit id -> picture -> class.

    Raises:
        DataError: the table cannot be read.
    """
    classes: dict[int, dict[str, str]] = {}
    for picture in ON_PICTURES:
        for edit, link in run_links(run, picture).items():
            if link.kind is not None:
                classes.setdefault(edit, {})[picture] = link.kind
    return classes


def _title(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"


def _split(entry: Entry, picture: str) -> Split | None:
    shares: dict[str, list[Estimate]] = {name: [] for name in CLASSES}
    counts: list[tuple[int, int]] = []
    for run in entry.runs:
        of_records = run_links(run, picture)
        indicators = class_indicators(of_records)
        n = len(indicators[CLASSES[0]])
        if not n:
            return None
        counts.append((n, len(of_records) - n))
        columns = [list(indicators[name].values()) for name in CLASSES]
        drawn = Clusters(run)
        labels = [drawn.of(indicators[name]) for name in CLASSES]
        of_classes = estimates(columns, seed=run.seed, scale=100, clusters=labels)
        for name, share in zip(CLASSES, of_classes, strict=True):
            shares[name].append(share)
    n, unasked = min(counts)
    return Split(entry, picture, {k: over_seeds(v) for k, v in shares.items()}, n, unasked)


@kept_while_unchanged(maxsize=64)
def _read_links(path: Path) -> dict[str, dict[int, Link]]:
    """Table, figure and gallery ask for the same."""
    rows = read_rows(path, EDIT_SCHEMA, _COLUMNS)
    own_words = rows[rows["metric"] == GENERATION_MATCH]
    rows = rows[rows["metric"] == EXACT_MATCH]
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for probe in (*ON_PICTURES.values(), OF_ANOTHER):
        of_probe = rows[rows["probe"] == probe].set_index("edit_id")
        for measure, column in (
            (EXACT_MATCH, "value"),
            (f"{EXACT_MATCH}{BEFORE}", PRE_VALUE),
            (NAMED_BEFORE, NAMED_BEFORE),
        ):
            scores[probe, measure] = _told(of_probe[column].dropna().items())
    read = {picture: links(scores, probe) for picture, probe in ON_PICTURES.items()}
    for picture, probe in ON_PICTURES.items():
        said = own_words[own_words["probe"] == f"{probe}{NAME}"].set_index("edit_id")
        named = _told(said["value"].items())
        read[f"{picture}{OWN_WORDS}"] = links(scores, probe, named) if named else {}
    return read


def _told(values: Iterable[tuple[object, object]]) -> dict[int, float]:
    return {int(str(edit)): float(value) for edit, value in values}  # type: ignore[arg-type]
