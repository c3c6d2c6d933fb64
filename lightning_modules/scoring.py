"""From what two models predict for the rows of a batch to scores and lines of the result.

Every measure is computed once for all rows of a batch; which of them count for a probe says
`measures`. The unedited and the edited model are always compared on the same padded batch, so an
editor that changes nothing scores a Locality of exactly 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from editors.base import Edit
from lightning_modules.finite import FiniteCheck
from lightning_modules.predictions import Predictions, base_predictions
from lightning_modules.reading import NOT_ASKED, OfProbes
from metrics.functional import (
    exact_match,
    first_token,
    token_accuracy,
    token_agreement,
    token_agreement_positional,
)
from metrics.headlines import (
    BEFORE,
    EVERYWHERE,
    EXACT_MATCH,
    FACT_BEFORE,
    FIRST_TOKEN,
    GENERATION_MATCH,
    NAMED_BEFORE,
    PRE_VALUE,
    READ_BEFORE,
    SCOPE_PROBABILITY,
    TOKEN_ACCURACY,
    TOKEN_AGREEMENT,
    TOKEN_AGREEMENT_POSITIONAL,
    WITH_BEFORE,
)
from metrics.name_first import CHAIN, NAME
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows

Decode = Callable[[Tensor], str]
Scores = Mapping[str, Tensor]  # measure -> (R,) fraction of each row
LOGIT_SHARE = 1 / 8  # of the memory budget, for logits where every position of a row is compared


@dataclass(frozen=True)
class Scoring:
    """What is measured besides the defaults.

    Attributes:
        positions: where locality is compared; `all` adds every real token of the row.
        generation: whether answers are also generated freely.
        max_new_tokens: longest generated answer.
    """

    positions: Literal["answer", "all"] = "answer"
    generation: bool = False
    max_new_tokens: int = 16


@dataclass(frozen=True)
class Comparison:
    """What the unedited and the edited model predict at the same positions."""

    at: Answers
    pre: Predictions
    post: Predictions

    def answers(self) -> dict[str, Tensor]:
        """All measures at answer tokens: measure -> (R,) fractions."""
        return self._accuracies(self.post) | self.agreements()

    def before(self) -> dict[str, Tensor]:
        """Measures of the unedited model's answers against the same targets."""
        return self._accuracies(self.pre)

    def _accuracies(self, of: Predictions) -> dict[str, Tensor]:
        answered = of.best, self.at.target, self.at.row, self.at.n_rows
        return {
            TOKEN_ACCURACY: token_accuracy(*answered),
            EXACT_MATCH: exact_match(*answered),
            FIRST_TOKEN: first_token(*answered),
        }

    def agreements(self, suffix: str = "") -> dict[str, Tensor]:
        """How far both models agree, top-1 and rank by rank; nan for rows without a position."""
        at, pre, post = self.at, self.pre.top, self.post.top
        by_rank = token_agreement_positional(pre, post, at.row, at.n_rows, k=pre.shape[1])
        return {
            f"{TOKEN_AGREEMENT}{suffix}": token_agreement(pre, post, at.row, at.n_rows),
            f"{TOKEN_AGREEMENT_POSITIONAL}{suffix}": by_rank,
        }


@dataclass(frozen=True)
class Unedited:
    """What the unedited model said of a batch.

    Attributes:
        answers: at the answer tokens of all rows.
        read: what it made of the pictures that probes show.
        seconds: its pass took, where the edits' answers are made of the same logits; else 0.
    """

    answers: Predictions
    read: OfProbes
    seconds: float = 0.0


def measures(probe: str, scoring: Scoring) -> tuple[str, ...]:
    """How a probe is scored: locality against the unedited model, all else against a target."""
    if not probe.startswith("locality"):
        generated = (GENERATION_MATCH,) if scoring.generation else ()
        return (TOKEN_ACCURACY, EXACT_MATCH, FIRST_TOKEN, *generated)
    suffixes = ("", EVERYWHERE) if scoring.positions == "all" else ("",)
    return tuple(
        f"{measure}{suffix}"
        for suffix in suffixes
        for measure in (TOKEN_AGREEMENT, TOKEN_AGREEMENT_POSITIONAL)
    )


def columns(probes: Iterable[str], scoring: Scoring) -> list[tuple[str, str]]:
    """Every (probe, measure) that an evaluation may score.

    Besides a probe's own measures these are the scope's probability, and what the unedited model
    scored and read.
    """
    every = (SCOPE_PROBABILITY, *(f"{m}{BEFORE}" for m in WITH_BEFORE), *READ_BEFORE)
    return [(probe, m) for probe in probes for m in (*measures(probe, scoring), *every)]


def name_first_columns(probes: Iterable[str], scoring: Scoring) -> list[tuple[str, str]]:
    """The same of probes that are asked by a name too, and whether it was the right one."""
    listed = list(probes)
    named = [(f"{probe}{NAME}", GENERATION_MATCH) for probe in listed]
    return [*columns([f"{probe}{CHAIN}" for probe in listed], scoring), *named]


@torch.no_grad()
def compare(
    model: EditableModel, edit: Edit, rows: Rows, state: PrefixState, at: Answers, pre: Predictions
) -> Comparison:
    """Asks the edited models what the unedited one was asked already."""
    return Comparison(at, pre, Predictions.of(edit.answer(model, rows, state, at)))


@torch.no_grad()
def compare_everywhere(
    model: EditableModel,
    edit: Edit,
    rows: Rows,
    state: PrefixState,
    to_compare: Tensor,
    check: FiniteCheck,
) -> dict[str, Tensor]:
    """The published locality: both models compared at every real token of some rows.

    Padding is left out, since what stands there depends on the rows beside a row. Editors that
    put a text before the question are compared counted from the row's end, as published.

    Returns:
        measure -> (R,) fractions, nan for the other rows.

    Raises:
        ModelError: a logit is not finite.
    """
    agreements: dict[str, Tensor] = {}
    for part in to_compare.split(_rows_at_once(model, rows)):
        part_rows, part_state = rows.select(part), state.select(part)
        at = part_rows.positions(torch.ones_like(part, dtype=torch.bool))
        pre = base_predictions(model, part_rows, part_state, at, where="everywhere")
        check.unedited(pre.largest, part[at.row])
        comparison = compare(model, edit, part_rows, part_state, at, pre)
        check.edited(comparison.post.largest, part[at.row])
        for name, values in comparison.agreements(EVERYWHERE).items():
            whole = agreements.setdefault(name, values.new_full((len(rows),), torch.nan))
            whole[part] = values
    return agreements


def locality_rows(batch: EditBatch) -> Tensor:
    """Distinct rows of a batch that serve a locality probe."""
    return _rows_of(batch, lambda probe: probe.startswith("locality"))


def target_rows(batch: EditBatch) -> Tensor:
    """Distinct rows of a batch that are scored against a target."""
    return _rows_of(batch, lambda probe: not probe.startswith("locality"))


def _rows_of(batch: EditBatch, is_meant: Callable[[str], bool]) -> Tensor:
    rows = [rows for probe, rows in batch.probes.items() if is_meant(probe)]
    return torch.cat([batch.edit_rows[:0], *rows]).unique()


def result_lines(
    batch: EditBatch,
    scores: Scores,
    comparison: Comparison,
    decode: Decode,
    *,
    scoring: Scoring,
    seconds: float,
    read: OfProbes | None = None,
    generated: Mapping[int, str] | None = None,
) -> Iterator[dict[str, object]]:
    """Lines of edits.parquet (`results.folder.EDIT_SCHEMA`), by probe, measure and edit.

    Args:
        batch: the edits.
        scores: measure -> (R,) fractions; `SCOPE_PROBABILITY`, where it is there, goes into the
            lines of every probe.
        comparison: predictions at answer tokens, for the texts.
        decode: ids -> text.
        scoring: what is measured.
        seconds: per edit, to make it.
        read: what the unedited model made of the probes' pictures.
        generated: row -> what the edited model said freely; nothing is shown before the edit.
    """
    edit_of = batch.rows.edit_index.tolist()
    values = {name: scores[name].tolist() for name in scores}
    before = {name: scored.tolist() for name, scored in comparison.before().items()}
    texts: dict[int, tuple[str | None, str, str]] = {}
    of_all_probes = (SCOPE_PROBABILITY,) if SCOPE_PROBABILITY in scores else ()
    for probe, probe_rows in batch.probes.items():
        rows = probe_rows.tolist()
        of_rows = (read or {}).get(probe) or [NOT_ASKED] * len(rows)
        for measure in (*measures(probe, scoring), *of_all_probes):
            for row, (named, fact) in zip(rows, of_rows, strict=True):
                if row not in texts:
                    texts[row] = _texts(comparison, row, decode)
                pre, post, target = texts[row]
                if measure == GENERATION_MATCH and generated is not None:
                    pre, post = None, generated[row]
                yield {
                    "edit_id": batch.edit_ids[edit_of[row]],
                    "subject": batch.subjects[edit_of[row]],
                    "probe": probe,
                    "metric": measure,
                    "value": values[measure][row],
                    PRE_VALUE: before[measure][row] if measure in before else None,
                    NAMED_BEFORE: named,
                    FACT_BEFORE: fact,
                    "pre_text": pre,
                    "post_text": post,
                    "target": target,
                    "seconds": seconds,
                }


def _texts(comparison: Comparison, row: int, decode: Decode) -> tuple[str | None, str, str]:
    """Answers before and after the edit, and the target."""
    tokens = comparison.at.row == row
    return (
        decode(comparison.pre.best[tokens]),
        decode(comparison.post.best[tokens]),
        decode(comparison.at.target[tokens]),
    )


def _rows_at_once(model: EditableModel, rows: Rows) -> int:
    """Rows whose logits at every position fit into the memory set aside for them, twice."""
    vocabulary = model.hf.config.get_text_config().vocab_size
    return model.budget.fit(2 * 4 * vocabulary * rows.input_ids.shape[1], share=LOGIT_SHARE)
