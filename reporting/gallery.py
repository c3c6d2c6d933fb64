"""The failure gallery: for each editor the edits that went worst, beside some drawn at random.

A record's place among the worst is decided by two means over its probes, as fractions,

    edited(r) = mean of reliability* and generality*         kept(r) = mean of locality*, stability*

with the measure that `summary.json` reports. Lowest `edited` comes first; among equals, as where
every edit took, the lowest `kept`; among those the smaller edit id. An edit with both at 1 is no
failure. Locality_subject, portability and leaks decide nothing, they are shown. The random cases
are those with the smallest SHA-256 of "seed:edit id", so that all editors of one data set show the
same records. Where results tell which pictures were recognised, some cases of every class of
`metrics.chain` are shown too, drawn in the same way.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from metrics.chain import CLASSES
from metrics.headlines import GENERATION_MATCH, TOKEN_ACCURACY, headlines_of, variant_of
from metrics.name_first import NAME, probe_of
from reporting.chain import chain_classes
from reporting.entries import Entry
from reporting.formats import EMPTY
from reporting.labels import UNEDITED, lower_is_better, model_label, together_label
from reporting.thumbnails import Picture, Thumbnail, Thumbnails
from results.files import EDITS, PROBES
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA, RunResult, read_rows

CASES = 6  # worst cases, and random ones, of a run
OF_A_CLASS = 2  # cases of each class of where the chain breaks
WORST, RANDOM, CLASS = "worst", "random", "class"
THE_EDIT = "edit"  # probe name of the edit's own question, in results that hold it
THE_EDIT_SHOWN = "edit_2"  # of its question about a picture, where it is taught in text too

# Metrics whose probes make the two means that rank a case.
_MEANS = {
    "edited": tuple(
        f"{name}{s}" for name in ("Reliability", "Generality") for s in ("", "_S", "_U", "_T")
    ),
    "kept": ("Locality", "Locality_T", "Locality_I", "Stability", "Stability_T"),
}
_FIRST = "reliability"  # what the edit's target is read from
_ASK_THE_EDIT = ("reliability", "reliability_s")  # probes that repeat the edit's question
_FAMILIES = ("reliability", "generality", "portability", "locality", "stability", "leak")
_ROW = ["edit_id", "probe"]
_COLUMNS = [name for name in EDIT_SCHEMA.names if name != "seconds"]


@dataclass(frozen=True)
class Answer:
    """One probe of an edit: what was asked and what was answered.

    Attributes:
        question: None where the results do not hold it.
        picture: None for a question in text.
        target: what is scored, or for locality what fills the context.
        before: the unedited model's answer; None where it was not recorded.
        score: fraction in [0, 1]; None where nothing was scored.
        hops: steps from the edited fact to the answer; None where that means nothing.
        counts_in: "edited" or "kept", the mean that its score is part of; empty if of neither.
    """

    probe: str
    question: str | None
    picture: Picture | None
    target: str | None
    before: str | None
    after: str | None
    score: float | None
    hops: int | None
    counts_in: str = ""

    @property
    def lower_is_better(self) -> bool:
        """Whether a high score is the failure: that of a leak is."""
        return lower_is_better(self.probe.capitalize())

    @property
    def success(self) -> float | None:
        """The score, or of a leak what is left to 1."""
        return 1 - self.score if self.score is not None and self.lower_is_better else self.score


@dataclass(frozen=True)
class Case:
    """One edit with all its probes.

    Attributes:
        question: the edit's own; None where the results do not hold it.
        picture: that the edit saw; None if it saw none.
        target: the new answer.
        picked: `WORST`, `RANDOM` and `CLASS`, one of them or several.
        edited: mean over the probes that should have changed, a fraction; None without any.
        kept: mean over the probes that should not have; None without any.
        answers: in the order of the metrics.
        chain: picture, seen or unseen -> its class of `metrics.chain`; empty where that is not
            known.
    """

    edit_id: int
    subject: str
    question: str | None
    picture: Picture | None
    target: str | None
    picked: tuple[str, ...]
    edited: float | None
    kept: float | None
    answers: tuple[Answer, ...]
    chain: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes in words: `seen: not recognised`."""
        return tuple(f"{picture}: {kind}" for picture, kind in self.chain.items())

    @property
    def worst_answer(self) -> Answer | None:
        """The answer that went worst, in the order in which cases are ranked."""
        for mean in _MEANS:
            counted = [answer for answer in self.answers if answer.counts_in == mean]
            wrong = [answer for answer in counted if answer.score not in (None, 1)]
            if wrong:
                return min(wrong, key=lambda answer: answer.score or 0.0)
        return self.answers[0] if self.answers else None


@dataclass(frozen=True)
class CaseGroup:
    """The cases of one row, of its first seed; `notes` say what its results do not hold."""

    entry: Entry
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name, model, scenario, and the protocol where edits stay in place."""
        entry = self.entry
        protocol = together_label(entry.protocol_name)
        of_many = f",{protocol}" if protocol else ""
        return f"{entry.name} on {model_label(entry.model)}, {entry.scenario}{of_many}"


@dataclass(frozen=True)
class Gallery:
    """All cases, and the thumbnails that their pictures name by key."""

    groups: tuple[CaseGroup, ...]
    thumbnails: Mapping[str, Thumbnail]


def read_gallery(entries: Sequence[Entry], cases: int = CASES) -> Gallery:
    """Pick the cases of each row and read their questions and pictures.

    One folder is read at a time, and of its rows those of the picked edits are kept.

    Args:
        entries: in the order of the report; the unedited model is left out.
        cases: how many worst cases a row shows, at most, and how many random ones. The random ones
            are drawn with the lowest seed of all rows.

    Returns:
        A group per row, also for one without `edits.parquet`; its notes say so.

    Raises:
        DataError: a table of a folder cannot be read or lacks a column.
    """
    thumbnails = Thumbnails()
    seed = min((run.seed for entry in entries for run in entry.runs), default=0)
    groups = tuple(
        _read_group(entry, cases, seed, thumbnails) for entry in entries if entry.editor != UNEDITED
    )
    return Gallery(groups, thumbnails.by_key)


def sample_edits(edit_ids: Iterable[int], seed: int, number: int) -> list[int]:
    """The same edits for every editor, model and version of numpy.

    Args:
        edit_ids: to choose from, in any order.
        seed: of the run.
        number: how many; all if there are fewer.

    Returns:
        Those with the smallest SHA-256 of "seed:edit id", the smallest first.
    """

    def digest(edit_id: int) -> str:
        return hashlib.sha256(f"{seed}:{edit_id}".encode()).hexdigest()

    return sorted(edit_ids, key=digest)[:number]


def percent(fraction: float | None) -> str:
    """A fraction as tables and the gallery print it.

    >>> percent(2 / 3), percent(None)
    ('67 %', '-')
    """
    return EMPTY if fraction is None else f"{100 * fraction:.0f} %"


def _read_group(entry: Entry, cases: int, seed: int, thumbnails: Thumbnails) -> CaseGroup:
    run, path = entry.first, entry.folder / EDITS
    if not path.is_file():
        return CaseGroup(entry, (), (f"{path} does not exist: there are no answers to show.",))
    rows = _headline_rows(read_rows(path, EDIT_SCHEMA, _COLUMNS), run)
    means = _means(rows).sort_values(["edited", "kept", "edit_id"], na_position="last")
    failed = means.index[(means < 1).any(axis=1)]
    picked: dict[int, list[str]] = {}
    chain = {edit: kinds for edit, kinds in chain_classes(run).items() if edit in means.index}
    for reason, edit_ids in (
        (WORST, failed[:cases]),
        (RANDOM, sample_edits(means.index, seed, cases)),
        (CLASS, _of_classes(chain, seed)),
    ):
        for edit_id in edit_ids:
            picked.setdefault(int(edit_id), []).append(reason)
    by_edit = dict(list(rows[rows["edit_id"].isin(picked)].groupby("edit_id")))
    read_case = _CaseReader(run, _read_questions(run, picked), chain, thumbnails)
    means_by_edit = means.to_dict("index")
    picked_cases = (
        read_case(edit_id, by_edit[edit_id], tuple(reasons), means_by_edit[edit_id])
        for edit_id, reasons in picked.items()
    )
    notes = []
    if len(entry.runs) > 1:
        notes.append(f"Of the runs with {entry.seeds}, the first: {run.folder}.")
    if not (run.folder / PROBES).is_file():
        notes.append(
            f"{run.folder} holds no {PROBES}, as results of older versions: questions and pictures "
            "are not known. Evaluate again to see them."
        )
    return CaseGroup(entry, tuple(picked_cases), tuple(notes))


def _of_classes(chain: Mapping[int, Mapping[str, str]], seed: int) -> list[int]:
    """Some edits of every class, whichever picture is of it; each edit once."""
    picked: dict[int, None] = {}
    for kind in CLASSES:
        of_class = [edit for edit, kinds in chain.items() if kind in kinds.values()]
        picked |= dict.fromkeys(sample_edits(of_class, seed, OF_A_CLASS))
    return list(picked)


def _headline_rows(rows: pd.DataFrame, run: RunResult) -> pd.DataFrame:
    """One row per edit and probe, in the order of the metrics, with the measure of the summary."""
    lines = headlines_of(run.scenario, **variant_of(run.settings))
    # Of a probe's metrics the first is the one that tables show.
    measures = {probe: line.measure for line in reversed(lines) for probe in line.probes}
    counts_in = {
        probe: mean
        for mean, names in _MEANS.items()
        for line in lines
        if line.name in names
        for probe in line.probes
    }
    unknown = sorted({str(probe) for probe in rows["probe"].unique()} - measures.keys())
    measures |= {
        probe: GENERATION_MATCH
        if probe.endswith(NAME)
        else measures.get(probe_of(probe), TOKEN_ACCURACY)
        for probe in unknown
    }
    probes = dict.fromkeys([*(probe for line in lines for probe in line.probes), *unknown])
    ranks = {probe: rank for rank, probe in enumerate(sorted(probes, key=_family))}
    once = rows[rows["metric"] == rows["probe"].map(measures)].drop_duplicates(_ROW)
    ranked = once.assign(
        rank=once["probe"].map(ranks), counts_in=once["probe"].map(counts_in).fillna("")
    )
    return ranked.sort_values(["edit_id", "rank"])


def _family(probe: str) -> int:
    """Rank of a probe's kind; within it the order of the metrics stays."""
    kinds = [rank for rank, name in enumerate(_FAMILIES) if probe.startswith(name)]
    return kinds[0] if kinds else len(_FAMILIES)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """`edited` and `kept` of each edit, as the head of this file defines them."""
    edits = pd.Index(rows["edit_id"].unique(), name="edit_id")
    means = {
        name: rows[rows["counts_in"] == name].groupby("edit_id")["value"].mean().reindex(edits)
        for name in _MEANS
    }
    return pd.DataFrame(means, index=edits)


ProbeRow = Mapping[Any, Any]  # a line of probes.parquet; empty in results of before that file


def _read_questions(run: RunResult, edit_ids: Collection[int]) -> dict[tuple[int, str], ProbeRow]:
    """What was asked in some edits, by edit and probe."""
    path = run.folder / PROBES
    if not path.is_file():
        return {}
    rows = read_rows(path, PROBE_SCHEMA)
    rows = rows[rows["edit_id"].isin(edit_ids)].drop_duplicates(_ROW)
    return {(row["edit_id"], row["probe"]): row for row in rows.to_dict("records")}


@dataclass(frozen=True)
class _CaseReader:
    """Makes the cases of one run."""

    run: RunResult
    questions: Mapping[tuple[int, str], ProbeRow]
    chain: Mapping[int, Mapping[str, str]]
    thumbnails: Thumbnails

    def __call__(
        self, edit_id: int, rows: pd.DataFrame, picked: tuple[str, ...], means: Mapping[Any, float]
    ) -> Case:
        """The case of one edit, from its rows in the order of the metrics."""
        answers = tuple(self._answer(row) for row in rows.to_dict("records"))
        # Only in these scenarios is the edit's own question no probe's as well.
        repeats = () if self.run.scenario in ("transitive", "reverse") else _ASK_THE_EDIT
        known = [self.questions.get((edit_id, probe)) for probe in (THE_EDIT, *repeats)]
        question = next(filter(None, known), {})
        shown = self.questions.get((edit_id, THE_EDIT_SHOWN), question)
        targets = [answer.target for answer in answers if answer.probe.startswith(_FIRST)]
        return Case(
            edit_id=edit_id,
            subject=_text(rows["subject"].iloc[0]) or "",
            question=_text(question.get("question")),
            picture=self._picture(shown),
            target=next(iter(targets), None),
            picked=picked,
            edited=_number(means["edited"]),
            kept=_number(means["kept"]),
            answers=answers,
            chain=self.chain.get(edit_id, {}),
        )

    def _answer(self, row: Mapping[Any, Any]) -> Answer:
        question = self.questions.get((row["edit_id"], row["probe"]), {})
        hops = _number(question.get("hops"))
        return Answer(
            probe=row["probe"],
            question=_text(question.get("question")),
            picture=self._picture(question),
            target=_text(row["target"]),
            before=_text(row["pre_text"]),
            after=_text(row["post_text"]),
            score=_number(row["value"]),
            hops=None if hops is None else int(hops),
            counts_in=row["counts_in"],
        )

    def _picture(self, question: ProbeRow) -> Picture | None:
        name = _text(question.get("image"))
        root = self.run.settings.get("image_root")
        return self.thumbnails.of(name, None if root is None else str(root)) if name else None


def _text(value: object) -> str | None:
    """A text of a table without the blanks around it; a missing one is None or nan."""
    return value.strip() if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
