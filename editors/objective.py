"""The outer losses of learned editors: what an edited model should say, and what it should keep.

    text        L = w_g NLL(rephrase) + w_p NLL(one-hop) + w_l KL(text locality)
    image_text  L = w_g NLL(rephrase, picture) + w_i NLL(question, other picture)
                    + w_l [KL(text locality) + KL(image locality)]
    transitive  L = w_g NLL(rephrase) + w_t NLL(question and rephrase, both pictures)
                    + w_n NLL(text question beside both pictures)
                    + w_l [KL(text locality) + KL(image locality)]
                    + w_s KL(question, picture of another subject of the same type)

The first two are how the TMKE authors' code trains MEND and SERAC (text records), and how MMEdit
and VLKEB do (pictures). `transitive` is this project's: a text edit has to reach the pictures of
its subject, and theirs alone. All may add w_r NLL(edit question). KL is KL(unedited || edited). A
value is averaged over the tokens of a row, then over the rows of a term; with one edit this is the
published loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from editors.base import Edit
from editors.processes import per_process
from errors import ConfigError
from metrics.functional import kl_divergence, negative_log_likelihood
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows
from models.stored_states import stored_logits

Positions = Literal["answer", "all"]
_LOCALITY = ("far", "near", "subject")
_TEXT = tuple(f"locality_{kind}" for kind in _LOCALITY)
_TEXT_AMONG_PICTURES = tuple(f"locality_t_{kind}" for kind in _LOCALITY)
_PICTURES = tuple(f"locality_i_{kind}" for kind in _LOCALITY)
_OF_THE_SUBJECT = ("reliability_s", "reliability_u", "generality_s", "generality_u")


class Term(NamedTuple):
    """A term of the loss: the probes whose rows it averages, and the weight it answers to."""

    name: str
    probes: tuple[str, ...]
    weight: str
    kl: bool = False


TERMS: Mapping[str, tuple[Term, ...]] = {
    "text": (
        Term("reliability", ("reliability",), "reliability"),
        Term("generality", ("generality",), "generality"),
        Term("portability", ("portability",), "portability"),
        Term("locality", _TEXT, "locality", kl=True),
    ),
    "image_text": (
        Term("reliability", ("reliability_s",), "reliability"),
        Term("generality", ("generality_s",), "generality"),
        Term("image", ("reliability_u",), "image"),
        Term("locality_t", _TEXT_AMONG_PICTURES, "locality", kl=True),
        Term("locality_i", _PICTURES, "locality", kl=True),
    ),
    "transitive": (
        Term("reliability", ("reliability_t",), "reliability"),
        Term("generality", ("generality_t",), "generality"),
        Term("transfer", _OF_THE_SUBJECT, "transfer"),
        Term("named", ("named_s", "named_u"), "named"),
        Term("locality_t", _TEXT_AMONG_PICTURES, "locality", kl=True),
        Term("locality_i", _PICTURES, "locality", kl=True),
        Term("specificity", ("stability_same",), "specificity", kl=True),
    ),
}


@dataclass(frozen=True)
class OuterLoss:
    """The loss of a batch.

    Attributes:
        total: weighted sum, with the editor's graph.
        terms: mean of each term, unweighted; terms that the batch has no rows for are absent, or 0
            where a batch of another process has some.
        accuracy: share of right answer tokens per NLL term, and of unchanged answers (argmax) per
            KL term, averaged like the terms; fractions.
        rows: number of rows behind each term.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    accuracy: Mapping[str, Tensor]
    rows: Mapping[str, int]

    @classmethod
    def of_parts(cls, parts: Sequence[OuterLoss]) -> OuterLoss:
        """One loss of the shares of its batches, without their graphs."""
        rows = {name: sum(part.rows.get(name, 0) for part in parts) for name in parts[0].terms}
        terms = {
            name: torch.stack([part.terms[name].detach() for part in parts]).sum() for name in rows
        }
        accuracy = {
            name: sum(p.accuracy[name] * p.rows[name] for p in parts if name in p.rows) / n_rows
            for name, n_rows in rows.items() if n_rows
        }  # fmt: skip
        total = torch.stack([part.total.detach() for part in parts]).sum()
        return cls(total, terms, {k: torch.as_tensor(v) for k, v in accuracy.items()}, rows)


class Objective:
    """An outer loss over the probes of a batch.

    Args:
        name: `text`, `image_text` or `transitive`.
        weights: weight of each kind of term; terms of weight 0 are not computed.
        positions: where KL compares; `answer` is the answer tokens, `all` every token, prompt and
            picture included, as published.

    Raises:
        ConfigError: the name is unknown, or no term has a weight.
    """

    def __init__(
        self, name: str, weights: Mapping[str, float], positions: Positions = "answer"
    ) -> None:
        if name not in TERMS:
            raise ConfigError(
                f"editor.questions is {name!r}; it can be one of {', '.join(sorted(TERMS))}."
            )
        self.name, self.positions = name, positions
        self.terms = tuple(term for term in TERMS[name] if weights.get(term.weight, 0.0) > 0)
        self.weights = {term.name: float(weights[term.weight]) for term in self.terms}
        if not self.terms:
            raise ConfigError(
                f"editor.weights gives questions {name!r} nothing to train on: all of "
                f"{', '.join(sorted({term.weight for term in TERMS[name]}))} are 0. Give one of "
                "them a positive weight."
            )

    @property
    def probes(self) -> set[str]:
        """The probes that a training batch should ask."""
        return {probe for term in self.terms for probe in term.probes}

    @property
    def taught(self) -> set[str]:
        """Those of them that ask for the new answer."""
        return {probe for term in self.terms if not term.kl for probe in term.probes}

    def __call__(
        self,
        model: EditableModel,
        edit: Edit,
        batch: EditBatch,
        state: PrefixState,
        *,
        synced: bool = False,
        counts: Mapping[str, Tensor] | None = None,
    ) -> OuterLoss:
        """The loss of the edits of a batch.

        Args:
            model: the base model.
            edit: its edits.
            batch: their probes.
            state: the base model's state for all rows of the batch.
            synced: every data-parallel process judges a batch of one step now. Terms are then
                means over the rows of all processes, times their number, so that the mean of the
                processes' gradients is the gradient of their batches taken together.
            counts: what `counts` says of all batches of a step. Terms are then this batch's shares
                of the step's terms, which they add up to.

        Raises:
            ConfigError: the batch asks none of the objective's probes.
        """
        terms = self._rows_of_terms(batch)
        rows = torch.cat([term_rows for _, term_rows in terms]).unique()
        kl_rows = [term_rows for term, term_rows in terms if term.kl]
        compared = torch.isin(rows, torch.cat([rows[:0], *kl_rows]))  # (n,)
        outer, outer_state = batch.rows.select(rows), state.select(rows)
        everywhere = compared if self.positions == "all" else torch.zeros_like(compared)
        at = outer.positions(everywhere)
        logits = edit.answer(model, outer, outer_state, at)
        nll = negative_log_likelihood(logits, at.target)
        right = logits.argmax(-1) == at.target
        kl, same = torch.zeros_like(nll), torch.zeros_like(right)
        if kl_rows:
            of_compared = compared[at.row]
            if outer_state.answered is None:
                compared_rows = compared.nonzero().squeeze(1)
                before = self._unedited(
                    model, outer.select(compared_rows), outer_state.select(compared_rows),
                    at.select(compared_rows),
                )  # fmt: skip
            else:  # the edit went by the unedited logits of all rows, which are still there
                before = model.unedited(outer_state, at)[of_compared]
            after = logits[of_compared]
            kl = kl.masked_scatter(of_compared, kl_divergence(before, after))
            same = same.masked_scatter(of_compared, before.argmax(-1) == after.argmax(-1))
        counts = self.counts([batch], synced=synced) if counts is None else counts
        return self._sum(terms, rows, at, (nll, kl), (right, same), counts)

    def _unedited(
        self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers
    ) -> Tensor:
        if self.positions == "answer":
            return stored_logits(model, rows, state, at)
        with torch.no_grad():  # every token of a row would take more room than its prefix
            return model.suffix(state, at=at)

    def _rows_of_terms(self, batch: EditBatch) -> list[tuple[Term, Tensor]]:
        terms = []
        for term in self.terms:
            rows = [batch.probes[probe] for probe in term.probes if probe in batch.probes]
            if rows:
                terms.append((term, torch.cat(rows)))
        if not terms:
            raise ConfigError(
                f"editor.questions={self.name} asks {', '.join(sorted(self.probes))}, and this "
                f"batch asks {', '.join(sorted(batch.probes)) or 'none'}. Choose the "
                "editor.questions that fit the scenario."
            )
        return terms

    def asked(self, batch: EditBatch) -> Tensor:
        """The rows of a batch that the loss is made of: (n,), ascending."""
        rows = [batch.probes[probe] for probe in self.probes if probe in batch.probes]
        return torch.cat([batch.edit_rows[:0], *rows]).unique()

    def counts(self, batches: Iterable[EditBatch], *, synced: bool = False) -> dict[str, Tensor]:
        """Term -> what the sum over its rows is divided by: the rows that all of the batches have.

        Args:
            batches: those of one step.
            synced: as of a loss; the counts are then means over all processes.
        """
        counts = torch.stack([self._rows_by_term(batch) for batch in batches]).sum(0)
        if synced:
            counts = per_process(counts)
        return dict(zip((term.name for term in self.terms), counts, strict=True))

    def nothing(self, counts: Mapping[str, Tensor]) -> OuterLoss:
        """The share of edits of which nothing is asked, of a loss with these counts."""
        zero = torch.zeros((), device=next(iter(counts.values())).device)
        terms = {term.name: zero for term in self.terms if counts[term.name] > 0}
        return OuterLoss(zero, terms, {}, {})

    def _rows_by_term(self, batch: EditBatch) -> Tensor:
        numbers = [
            sum(len(batch.probes[probe]) for probe in term.probes if probe in batch.probes)
            for term in self.terms
        ]
        return torch.tensor(numbers, device=batch.edit_rows.device)

    def _sum(
        self,
        asked_terms: list[tuple[Term, Tensor]],
        rows: Tensor,
        at: Answers,
        losses: tuple[Tensor, Tensor],
        agreement: tuple[Tensor, Tensor],
        counts: Mapping[str, Tensor],
    ) -> OuterLoss:
        losses = (at.row_mean(losses[0]), at.row_mean(losses[1]))  # each (n,)
        shares = [at.row_mean(hit.to(losses[0].dtype)) for hit in agreement]
        zero, accuracy = losses[0].new_zeros(()), {}
        terms = {term.name: zero for term in self.terms if counts[term.name] > 0}
        for term, term_rows in asked_terms:
            index = torch.searchsorted(rows, term_rows)
            terms[term.name] = losses[term.kl][index].sum() / counts[term.name].to(losses[0].dtype)
            accuracy[term.name] = shares[term.kl][index].mean()
        total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        n_rows = {term.name: len(term_rows) for term, term_rows in asked_terms}
        return OuterLoss(total, terms, accuracy, n_rows)
