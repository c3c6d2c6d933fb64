"""The failure gallery: for each editor the edits that went worst, beside some drawn at random.

A record's place among the worst is decided by two means over its probes, as fractions,

    edited(r) = mean of reliability* and generality*         kept(r) = mean of locality*, stability*

with the measure that `summary.json` reports. Lowest `edited` comes first; among equals, as where
every edit took, the lowest `kept`; among those the smaller edit id. An edit with both at 1 is no
failure. Locality_subject, portability and leaks decide nothing, they are shown. The random cases
are those with the smallest SHA-256 of "seed:edit id", so that all editors of one data set show the
same records.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from metrics.headlines import TOKEN_ACCURACY, headlines_of, variant_of
from reporting.formats import EMPTY
from reporting.labels import UNEDITED, editor_label, lower_is_better, model_label
from reporting.thumbnails import Picture, Thumbnail, Thumbnails
from results.files import EDITS, PROBES
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA, SEQUENTIAL, RunResult, read_rows

CASES = 6  # worst cases, and random ones, of a run
WORST, RANDOM = "worst", "random"
THE_EDIT = "edit"  # probe name of the edit's own question, in results that hold it

# Metrics whose probes make the two means that rank a case.
_MEANS = {
    "edited": tuple(
        f"{name}{s}" for name in ("Reliability", "Generality") for s in ("", "_S", "_U")
    ),
    "kept": ("Locality", "Locality_T", "Locality_I", "Stability"),
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
        probe: its name.
        question: None where the results do not hold it.
        picture: None for a question in text.
        target: what is scored, or for locality what fills the context.
        before: the unedited model's answer; None where it was not recorded.
        after: the answer under the edit.
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


@dataclass(frozen=True)
class Case:
    """One edit with all its probes.

    Attributes:
        edit_id: as in the results.
        subject: of the edited fact.
        question: the edit's own; None where the results do not hold it.
        picture: that the edit saw; None if it saw none.
        target: the new answer.
        picked: `WORST`, `RANDOM` or both.
        edited: mean over the probes that should have changed, a fraction; None without any.
        kept: mean over the probes that should not have; None without any.
        answers: in the order of the metrics.
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

    @property
    def telling(self) -> Answer | None:
        """The answer that went worst, in the order in which cases are ranked."""
        for mean in _MEANS:
            counted = [a for a in self.answers if a.counts_in == mean and a.score is not None]
            wrong = [answer for answer in counted if answer.score != 1]
            if wrong:
                return min(wrong, key=lambda answer: answer.score or 0.0)
        return self.answers[0] if self.answers else None


@dataclass(frozen=True)
class CaseGroup:
    """The cases of one run; `notes` say what its results do not hold."""

    run: RunResult
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Editor, model, scenario, and the protocol where edits stay in place."""
        run = self.run
        sequence = ", in sequence" if run.protocol_name == SEQUENTIAL else ""
        return f"{editor_label(run.editor)} on {model_label(run.model)}, {run.scenario}{sequence}"


@dataclass(frozen=True)
class Gallery:
    """All cases, and the thumbnails that their pictures name by key."""

    groups: tuple[CaseGroup, ...]
    thumbnails: Mapping[str, Thumbnail]


def read_gallery(runs: Sequence[RunResult], cases: int = CASES) -> Gallery:
    """Pick the cases of each run and read their questions and pictures.

    One folder is read at a time, and of its rows those of the picked edits are kept.

    Args:
        runs: in the order of the report; the unedited model is left out.
        cases: how many worst cases a run shows, at most, and how many random ones.

    Returns:
        A group per run, also for one without `edits.parquet`; its notes say so.

    Raises:
        DataError: a table of a folder cannot be read or lacks a column.
    """
    thumbnails = Thumbnails()
    groups = tuple(_read_group(run, cases, thumbnails) for run in runs if run.editor != UNEDITED)
    return Gallery(groups, thumbnails.by_key)


def worst_first(scores: pd.DataFrame) -> pd.DataFrame:
    """Order edits by how badly they went.

    Args:
        scores: columns `edited` and `kept`, fractions or nan, by edit id.

    Returns:
        The same rows, worst first. Edits without a probe that should have changed come last.
    """
    named = scores.rename_axis("edit_id").reset_index()
    ordered = named.sort_values(["edited", "kept", "edit_id"], na_position="last")
    return ordered.set_index("edit_id")


def random_sample(edit_ids: Sequence[int], seed: int, cases: int) -> list[int]:
    """The same edits for every editor, model and version of numpy.

    Args:
        edit_ids: to choose from, in any order.
        seed: of the run.
        cases: how many; all if there are fewer.

    Returns:
        The chosen ids.
    """

    def place(edit_id: int) -> str:
        return hashlib.sha256(f"{seed}:{edit_id}".encode()).hexdigest()

    return sorted(edit_ids, key=place)[:cases]


def percent(fraction: float | None) -> str:
    """A fraction as tables and the gallery print it.

    >>> percent(2 / 3), percent(None)
    ('67 %', '-')
    """
    return EMPTY if fraction is None else f"{100 * fraction:.0f} %"


def _read_group(run: RunResult, cases: int, thumbnails: Thumbnails) -> CaseGroup:
    path = run.folder / EDITS
    if not path.is_file():
        return CaseGroup(run, (), (f"{path} does not exist: there are no answers to show.",))
    rows = _reported(read_rows(path, EDIT_SCHEMA, _COLUMNS), run)
    scores = worst_first(_scores(rows))
    means = {
        int(edit_id): (_number(edited), _number(kept))
        for edit_id, edited, kept in zip(
            scores.index, scores["edited"], scores["kept"], strict=True
        )
    }
    failed = [
        edit_id for edit_id, both in means.items() if any(m is not None and m < 1 for m in both)
    ]
    random = random_sample(list(means), run.seed, cases)
    picked: dict[int, list[str]] = {}
    for name, chosen in ((WORST, failed[:cases]), (RANDOM, random)):
        for edit_id in chosen:
            picked.setdefault(edit_id, []).append(name)
    shown = rows[rows["edit_id"].isin(picked)]
    reader = _CaseReader(run, _read_asked(run, picked), thumbnails)
    by_edit = {int(str(edit_id)): own for edit_id, own in shown.groupby("edit_id")}
    found = [
        reader.case(by_edit[edit_id], tuple(names), *means[edit_id])
        for edit_id, names in picked.items()
    ]
    return CaseGroup(run, tuple(found), _notes(run))


def _reported(rows: pd.DataFrame, run: RunResult) -> pd.DataFrame:
    """One row per edit and probe, in the order of the metrics, with the measure of the summary."""
    lines = headlines_of(run.scenario, **variant_of(run.settings))
    measures: dict[str, str] = {}
    for line in lines:  # of a probe's metrics the first is the one that tables show
        measures = dict.fromkeys(line.probes, line.measure) | measures
    counts_in = {
        probe: mean
        for mean, names in _MEANS.items()
        for line in lines
        if line.name in names
        for probe in line.probes
    }
    unknown = sorted({str(probe) for probe in rows["probe"].unique()} - measures.keys())
    measures |= dict.fromkeys(unknown, TOKEN_ACCURACY)
    order = dict.fromkeys([*(probe for line in lines for probe in line.probes), *unknown])
    places = {probe: place for place, probe in enumerate(sorted(order, key=_family))}
    once = rows[rows["metric"] == rows["probe"].map(measures)].drop_duplicates(_ROW)
    placed = once.assign(
        place=once["probe"].map(places), counts_in=once["probe"].map(counts_in).fillna("")
    )
    return placed.sort_values(["edit_id", "place"])


def _family(probe: str) -> int:
    """Place of a probe's kind; within it the order of the metrics stays."""
    kinds = [place for place, name in enumerate(_FAMILIES) if probe.startswith(name)]
    return kinds[0] if kinds else len(_FAMILIES)


def _scores(rows: pd.DataFrame) -> pd.DataFrame:
    """`edited` and `kept` of each edit, as the head of this file defines them."""
    edits = pd.Index(rows["edit_id"].unique(), name="edit_id")
    means = {
        name: rows[rows["counts_in"] == name].groupby("edit_id")["value"].mean().reindex(edits)
        for name in _MEANS
    }
    return pd.DataFrame(means, index=edits)


ProbeText = Mapping[str, Mapping[str, Any]]  # probe -> question, image and hops


def _read_asked(run: RunResult, edit_ids: Collection[int]) -> dict[int, ProbeText]:
    """What was asked in some edits; nothing in results of before `probes.parquet`."""
    path = run.folder / PROBES
    if not path.is_file():
        return {}
    rows = read_rows(path, PROBE_SCHEMA)
    chosen = rows[rows["edit_id"].isin(edit_ids)].drop_duplicates(_ROW)
    found: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in chosen.to_dict("records"):
        named = {str(name): value for name, value in row.items()}
        found.setdefault(int(row["edit_id"]), {})[str(row["probe"])] = named
    return dict(found)


def _notes(run: RunResult) -> tuple[str, ...]:
    if (run.folder / PROBES).is_file():
        return ()
    return (
        f"{run.folder} holds no {PROBES}, as results of older versions: questions and pictures are "
        "not known. Evaluate again to see them.",
    )


@dataclass(frozen=True)
class _CaseReader:
    """Makes the cases of one run."""

    run: RunResult
    asked: Mapping[int, ProbeText]
    thumbnails: Thumbnails

    def case(
        self,
        rows: pd.DataFrame,
        picked: tuple[str, ...],
        edited: float | None,
        kept: float | None,
    ) -> Case:
        """The case of one edit, from its rows in the order of the metrics."""
        edit_id = int(rows["edit_id"].iloc[0])
        asked = self.asked.get(edit_id, {})
        answers = tuple(self._answer(row, asked) for row in rows.to_dict("records"))
        question, picture = self._edit(asked)
        first = next((answer for answer in answers if answer.probe.startswith(_FIRST)), None)
        return Case(
            edit_id=edit_id,
            subject=_text(rows["subject"].iloc[0]) or "",
            question=question,
            picture=picture,
            target=first.target if first else None,
            picked=picked,
            edited=edited,
            kept=kept,
            answers=answers,
        )

    def _answer(self, row: Mapping[Any, Any], asked: ProbeText) -> Answer:
        question = asked.get(str(row["probe"]), {})
        hops = _number(question.get("hops"))
        return Answer(
            probe=str(row["probe"]),
            question=_text(question.get("question")),
            picture=self._picture(question),
            target=_text(row["target"]),
            before=_text(row["pre_text"]),
            after=_text(row["post_text"]),
            score=_number(row["value"]),
            hops=None if hops is None else int(hops),
            counts_in=str(row["counts_in"]),
        )

    def _edit(self, asked: ProbeText) -> tuple[str | None, Picture | None]:
        """The edit's own question: only in the transitive scenario is it no probe's as well."""
        own = asked.get(THE_EDIT)
        if own is None and self.run.scenario != "transitive":
            own = next((row for name, row in asked.items() if name in _ASK_THE_EDIT), None)
        return (_text(own.get("question")), self._picture(own)) if own else (None, None)

    def _picture(self, asked: Mapping[str, Any]) -> Picture | None:
        name = _text(asked.get("image"))
        root = self.run.settings.get("image_root")
        return self.thumbnails.of(name, None if root is None else str(root)) if name else None


def _text(value: object) -> str | None:
    """A text of a table without the blanks around it; a missing one is None or nan."""
    return value.strip() if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
