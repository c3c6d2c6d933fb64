"""Token accuracies of one editor, record by record, in the layout of the benchmark's authors.

A JSON list with an object per record. Its keys are probes of the transitive and the multimodal
scenario (`KEYS`), each with the token accuracy of the edited model, a fraction; beside them stand
`subject`, `answer` (the edit's new one) and `pred` (the likeliest tokens at its positions). From
these follow the named metrics (`metrics.headlines`), and with them what the authors' tables do not
show: how often the whole answer is right, and the floor,

    Specificity(M) = mean over records of M(r) - leak(r),

with `leak` the accuracy of the new answer about an entity of the same, or of another, type. What
the unedited model scores is not in such a file, so there is no gain.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import DataError
from metrics.bootstrap import Estimate, estimates
from metrics.concentration import Concentration
from metrics.headlines import EXACT_MATCH, TOKEN_ACCURACY, Headline, headlines_of, record_means
from reporting.floors import FLOORS
from reporting.formats import NOT_SPECIFIC, Cell, Column, ResultTable, Row, fewer_records
from reporting.pairs import ROUNDING, difference_cell
from reporting.tables import metric_cell

Fraction = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)] | None

# Key -> the probe that it scores. The second portability is of the other picture of the subject,
# which the benchmark's tables do not have.
KEYS = {
    "inner_acc": "reliability_s",
    "image_acc": "reliability_u",
    "rephrase_acc": "generality_s",
    "image_rephrase_acc": "generality_u",
    "one_hop_acc": "portability",
    "image_one_hop_acc": "portability_u",
    "locality_acc": "locality_t_far",
    "image_locality_acc": "locality_i_far",
    "same_entity_acc": "stability_same",
    "diff_entity_acc": "stability_diff",
    "same_entity_original_answer_acc": "leak_same",
    "diff_entity_original_answer_acc": "leak_diff",
}
_SHOWN = (
    "Reliability_S", "Reliability_U", "Generality_S", "Generality_U", "Portability",
    "Portability_U", "Locality_T", "Locality_I", "Stability", "Stability_same", "Stability_diff",
    "Leak", "Leak_same", "Leak_diff",
)  # fmt: skip
_OF_THE_NEW_ANSWER = _SHOWN[:4]
_TYPES = {"Same type": "leak_same", "Different type": "leak_diff"}
_MOST_ERRORS = 3
_MOST_CHARACTERS = 60  # of a value of the file in a message


class AccuracyRecord(BaseModel):
    """One record of such a file; what it does not have is None."""

    model_config = ConfigDict(extra="allow", frozen=True)

    subject: str
    original_question: str | None = None
    answer: str | None = None
    pred: str | None = None
    inner_acc: Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
    image_acc: Fraction = None
    rephrase_acc: Fraction = None
    image_rephrase_acc: Fraction = None
    one_hop_acc: Fraction = None
    image_one_hop_acc: Fraction = None
    locality_acc: Fraction = None
    image_locality_acc: Fraction = None
    same_entity_acc: Fraction = None
    diff_entity_acc: Fraction = None
    same_entity_original_answer_acc: Fraction = None
    diff_entity_original_answer_acc: Fraction = None


@dataclass(frozen=True)
class AccuracyFile:
    """The records of one file, in its order."""

    path: Path
    records: tuple[AccuracyRecord, ...]


@dataclass(frozen=True)
class Figure:
    """One metric of a file, in percent and points.

    Attributes:
        accuracy: its token accuracy, or agreement with the unedited model.
        exact: share of records whose whole answer is right; None for an agreement.
        above: by type of the other entity, the figure minus what the new answer scores about it;
            empty where the figure is of another answer.
    """

    name: str
    accuracy: Estimate
    exact: Estimate | None
    above: dict[str, Estimate]


def read_accuracies(path: Path) -> AccuracyFile:
    """Reads and checks a file.

    Raises:
        DataError: there is no such file, it is no JSON list, it is empty, or a record lacks its
            subject or its `inner_acc`, or holds something that is no fraction; the message names
            record and key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise DataError(f"--records {path} does not exist; give a JSON file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"--records {path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else type(content).__name__
        raise DataError(
            f"--records {path} holds {found}; expected is a JSON list with an object per record: "
            f"subject, answer, pred and the accuracies {', '.join(KEYS)}."
        )
    records: list[AccuracyRecord] = []
    wrong: list[str] = []
    for number, item in enumerate(content):
        try:
            records.append(AccuracyRecord.model_validate(item))
        except ValidationError as error:
            wrong += _wrong(number, item, error)
    if wrong:
        more = f"; and {len(wrong) - _MOST_ERRORS} more" if len(wrong) > _MOST_ERRORS else ""
        raise DataError(
            f"--records {path}: {'; '.join(wrong[:_MOST_ERRORS])}{more}. Accuracies are fractions "
            "from 0 to 1, not percent; one that a record does not have is null or left out."
        )
    return AccuracyFile(path, tuple(records))


def figures_of(file: AccuracyFile, *, seed: int = 0) -> list[Figure]:
    """The metrics of a file, each with what it is above; those that no record has have n = 0.

    Args:
        file: the records.
        seed: of the bootstrap over records.
    """
    scores = _scores(file)
    lines = _lines()
    wanted: list[tuple[str, str, Headline]] = []
    for name in _SHOWN:
        line = lines[name]
        wanted.append((name, TOKEN_ACCURACY, line))
        if line.measure == TOKEN_ACCURACY:
            wanted.append((name, EXACT_MATCH, replace(line, measure=EXACT_MATCH)))
        if name in _OF_THE_NEW_ANSWER:
            wanted += [(name, kind, replace(line, minus=(leak,))) for kind, leak in _TYPES.items()]
    columns = [list(record_means(scores, line).values()) for _, _, line in wanted]
    of_all = zip(wanted, estimates(columns, seed=seed, scale=100), strict=True)
    found = {(name, what): estimate for (name, what, _), estimate in of_all}
    return [
        Figure(
            name,
            found[name, TOKEN_ACCURACY],
            found.get((name, EXACT_MATCH)),
            {kind: found[name, kind] for kind in _TYPES if (name, kind) in found},
        )
        for name in _SHOWN
    ]


def accuracies_table(file: AccuracyFile, *, seed: int = 0) -> ResultTable:
    """The figures of a file with the floor beside each, for the terminal."""
    figures = figures_of(file, seed=seed)
    n = str(len(file.records))
    columns = (Column("%"), Column("Exact match"), *(Column(kind) for kind in _TYPES))
    rows = tuple(Row((figure.name,), n, _cells(figure)) for figure in figures)
    is_marked = any(cell.floor for row in rows for cell in row.cells)
    notes = (
        *fewer_records(rows, columns[:1]),
        *((f"{NOT_SPECIFIC} {FLOORS['specificity'].says}",) if is_marked else ()),
        "Same type, different type: points by which a figure is above what the new answer scores "
        "about such an entity, paired by record, with 95 % intervals over records. The file does "
        "not hold what the unedited model scores: there is no gain.",
        *_about(file),
    )
    return ResultTable(f"{file.path.name}, {n} records", ("Metric",), columns, rows, notes)


def _cells(figure: Figure) -> tuple[Cell, ...]:
    same = figure.above.get("Same type")
    is_floor = same is not None and same.n > 0 and not same.low > ROUNDING
    accuracy = replace(metric_cell(figure.accuracy), floor=NOT_SPECIFIC if is_floor else "")
    exact = Cell(metric_cell(figure.exact).text)
    above = (difference_cell(figure.above.get(kind)) for kind in _TYPES)
    return accuracy, exact, *above


def _about(file: AccuracyFile) -> Iterator[str]:
    """What else the records tell: how answers begin, how they repeat, and what was not read."""
    predicted = [record.pred for record in file.records if record.pred is not None]
    if predicted:
        answers = [record.answer for record in file.records if record.answer is not None]
        yield (
            f"`pred` begins with a digit in {_with_digit(predicted)}; `answer` does in "
            f"{_with_digit(answers)}."
        )
    targets = Counter(record.answer for record in file.records if record.answer is not None)
    if (spread := Concentration.of(targets)) is not None:
        yield (
            f"{len({record.subject for record in file.records}):,} subjects, {spread.targets:,} "
            f"targets; {spread.largest_edits / spread.edits:.1%} of the records teach "
            f"{_shorten(spread.largest)}, and the effective number of targets is "
            f"{spread.effective:.0f}."
        )
    unread = Counter(key for record in file.records for key in record.model_extra or {})
    if unread:
        named = ", ".join(f"{key} ({count:,})" for key, count in sorted(unread.items()))
        yield f"Keys that are not read, with the records that have them: {named}."


def _with_digit(texts: Sequence[str]) -> str:
    count = sum(text.lstrip()[:1].isdecimal() for text in texts)
    share = count / len(texts) if texts else 0
    return f"{count:,} of {len(texts):,} records ({share:.1%})"


def _scores(file: AccuracyFile) -> dict[tuple[str, str], dict[int, float]]:
    """(probe, measure) -> record -> score, as `metrics.headlines` takes them."""
    lines = _lines().values()
    agreements = {probe: line.measure for line in lines for probe in line.probes}
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for key, probe in KEYS.items():
        measure = agreements[probe]
        values = {n: getattr(record, key) for n, record in enumerate(file.records)}
        known = {n: float(value) for n, value in values.items() if value is not None}
        scores[probe, measure] = known
        if measure == TOKEN_ACCURACY:
            scores[probe, EXACT_MATCH] = {n: float(value == 1) for n, value in known.items()}
    return scores


def _lines() -> dict[str, Headline]:
    """The named metrics by name, and the three that no scenario has."""
    lines = {line.name: line for line in headlines_of("transitive")}
    others = (("Portability_U", "portability_u"), ("Leak_same", "leak_same"),
              ("Leak_diff", "leak_diff"))  # fmt: skip
    lines |= {name: Headline(name, (probe,)) for name, probe in others}
    return {name: lines[name] for name in _SHOWN}


def _wrong(number: int, item: object, error: ValidationError) -> Iterable[str]:
    """What is wrong with a record, a phrase each."""
    subject = item.get("subject") if isinstance(item, dict) else None
    where = f"record {number}" + (f" ({_shorten(subject)})" if isinstance(subject, str) else "")
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"][:1])
        if not key:
            yield f"{where} is {type(item).__name__}, expected an object"
        elif problem["type"] == "missing":
            yield f"{where} has no {key}"
        else:
            yield f"{where}: {key} is {_shorten(problem['input'])} ({problem['msg'].lower()})"


def _shorten(value: object) -> str:
    """A value of the file on one line, however long."""
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of the file; a key that stands in it twice has two values, and neither is lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"an object has the key {_shorten(twice)} twice")
    return found
