"""v*: the MLP output at the subject that makes the model say the new object.

    d* = argmin  1/P sum_j -log p(new object | x_j + prompt; v0 + d)
                 + w_kl KL(p(. | essence; v0 + d) || p(. | essence; v0))  + w_d |d| / |v0|^2

(Meng et al. 2022, eq. 4, with the divergence and the decay as the authors' code has them.) d is
added to the MLP's output at the lookup token of every prompt. What is below the edited layer or
before that token is computed once (`models.context.rest`); B edits are optimised side by side, each
with its own Adam moments and its own stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from editors.descent import descend
from editors.rome.config import LookupOptions
from metrics.functional import row_mean
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.hooks import add_to_output
from models.rows import Answers

_PER_TOKEN = 32  # values that a layer keeps per token and unit of width
_PER_LOGIT = 16  # bytes: it, its logarithm and their gradients in float32


@dataclass(frozen=True)
class Prompts:
    """The prompts of E edits, rows of one table.

    Attributes:
        lookup: (R,) the token where the fact is looked up.
        edit: (R,) the edit of each row.
        plain: (E,) the row of each edit's own prompt without a prefix.
        essence: (E,) the row of each edit's prompt for the divergence.
        at: the target tokens of the rewriting rows; rows of `essence` have none.
    """

    lookup: Tensor
    edit: Tensor
    plain: Tensor
    essence: Tensor
    at: Answers

    @property
    def n_edits(self) -> int:
        return len(self.plain)

    @property
    def rewriting(self) -> Tensor:
        """Rows that ask for the new object, in order."""
        keep = torch.ones_like(self.edit, dtype=torch.bool)
        keep[self.essence] = False
        return keep.nonzero().squeeze(1)

    @property
    def last(self) -> Tensor:
        """(R,) the last token of each row whose logits are looked at."""
        return self.lookup.scatter_reduce(0, self.at.row, self.at.position, "amax")

    def without(self, cut: Tensor) -> Prompts:
        """The same prompts where each row lacks its first tokens: (R,) how many."""
        at = replace(self.at, position=self.at.position - cut[self.at.row])
        return replace(self, lookup=self.lookup - cut, at=at)

    def to(self, device: torch.device) -> Prompts:
        """The same prompts on a device."""
        at = Answers(
            self.at.row.to(device),
            self.at.position.to(device),
            self.at.target.to(device),
            self.at.n_rows,
        )
        return Prompts(
            self.lookup.to(device),
            self.edit.to(device),
            self.plain.to(device),
            self.essence.to(device),
            at,
        )

    def select(self, edits: Tensor) -> tuple[Prompts, Tensor]:
        """The prompts of some edits (ascending), and their rows."""
        rows = torch.isin(self.edit, edits).nonzero().squeeze(1)
        new_row = torch.full_like(self.edit, -1)
        new_row[rows] = torch.arange(len(rows), device=rows.device)
        part = Prompts(
            self.lookup[rows],
            torch.searchsorted(edits, self.edit[rows]),
            new_row[self.plain[edits]],
            new_row[self.essence[edits]],
            self.at.select(rows),
        )
        return part, rows


class Terms(NamedTuple):
    """The parts of the loss, each (E,), and the mean probability of the target."""

    nll: Tensor
    kl: Tensor
    decay: Tensor
    probability: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.nll + self.kl + self.decay


class Values:
    """The loss of offsets d at the lookup tokens.

    Args:
        state: the base model's for all prompts, entering the edited layer.
        site: the edited matrix.
        prompts: which rows they are.
        stream: whether d is added to what leaves the site's layer, the residual stream (MEMIT's
            hidden state h), and not to what the matrix says.

    Attributes:
        v_0: what d is added to, at the lookup token of the plain prompt: (E, d).
    """

    def __init__(
        self,
        model: EditableModel,
        state: PrefixState,
        site: Site,
        prompts: Prompts,
        options: LookupOptions,
        *,
        stream: bool = False,
    ) -> None:
        self.model, self.site, self.options = model, site, options
        self._all, self._state = prompts, state
        self._module = model.decoder.layers[site.layer] if stream else model.linear(site)
        plain, at = prompts.plain, prompts.lookup[prompts.plain]
        if stream:
            leaving = model.advance(state.select(plain), site.layer + 1).hidden
            v_0 = leaving[torch.arange(len(plain), device=plain.device), at]
        else:
            _, v_0 = model.read(state, site, plain, at)
        self.v_0 = v_0.to(torch.promote_types(v_0.dtype, torch.float32))
        self._at_work = torch.arange(prompts.n_edits, device=plain.device)
        self._prompts, self._part = prompts, state
        with torch.no_grad():
            before = self._logits(torch.zeros_like(self.v_0))[1]
        self._before = before.log_softmax(-1)  # (E, V)

    def terms(self, offsets: Tensor, edits: Tensor) -> Terms:
        """The loss of some edits' offsets: (A, d), (A,) -> each (A,)."""
        self._narrow(edits)
        logits, essence = self._logits(offsets)
        at, edit = self._prompts.at, self._prompts.edit
        log_p = -F.cross_entropy(logits, at.target, reduction="none")  # (N,)
        rows = self._prompts.rewriting
        of_edit = edit[rows]
        nll = -row_mean(at.row_mean(log_p)[rows], of_edit, len(edits))
        now, before = essence.log_softmax(-1), self._before[edits]
        kl = (now.exp() * (now - before)).sum(-1)
        decay = offsets.norm(dim=1) / self.v_0[edits].norm(dim=1).square()
        probability = row_mean(at.row_mean(log_p.detach())[rows].exp(), of_edit, len(edits))
        return Terms(nll, self.options.kl * kl, self.options.weight_decay * decay, probability)

    def __call__(self, offsets: Sequence[Tensor], edits: Tensor) -> tuple[Tensor, Tensor]:
        """The total loss of each edit, and whether it is low enough to stop."""
        total = self.terms(offsets[0], edits).total
        return total, total.detach() < self.options.stop_loss

    def _narrow(self, edits: Tensor) -> None:
        """Edits only ever leave; their rows are run no more."""
        if len(edits) == len(self._at_work):
            return
        self._at_work = edits
        self._prompts, rows = self._all.select(edits)
        self._part = self._state.select(rows)

    def _logits(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """At the target tokens (N, V), and at the lookup token of the essence rows (E, V)."""
        prompts, state = self._prompts, self._part
        essence = prompts.essence
        row = torch.cat([prompts.at.row, essence])
        position = torch.cat([prompts.at.position, prompts.lookup[essence]])
        every = torch.arange(len(prompts.edit), device=row.device)
        n_rows = len(every)
        with add_to_output(self._module, every, prompts.lookup, offsets[prompts.edit], n_rows):
            if self.site.layer == self.model.n_layers - 1:  # `at` would leave out lookup tokens
                logits = self.model.suffix(state)[row, position]
            else:
                where = Answers(row, position, torch.zeros_like(row), n_rows)
                logits = self.model.suffix(state, at=where)
        split = len(prompts.at.row)
        return logits[:split], logits[split:]


def project(offsets: Tensor, limit: Tensor) -> None:
    """Shortens, in place, the offsets (A, d) that are longer than their limit (A,)."""
    norm = offsets.norm(dim=1)
    offsets.mul_(torch.where(norm > limit, limit / norm, 1.0)[:, None])


def optimise(values: Values) -> Tensor:
    """The best offsets d*: (E, d).

    Raises:
        ModelError: a loss is not finite.
    """
    options, v_0 = values.options, values.v_0
    limit = options.clamp * v_0.norm(dim=1)

    def bring_back(offsets: Sequence[Tensor], edits: Tensor) -> None:
        project(offsets[0], limit[edits])

    (offsets,) = descend(
        [torch.zeros_like(v_0[0])],
        len(v_0),
        values,
        steps=options.steps - 1,  # the published loop only evaluates in its last round
        lr=options.lr,
        project=bring_back,
    )
    return offsets


def edits_at_once(model: EditableModel, prompts: Prompts, layer: int) -> int:
    """How many edits' prompts fit into one backward pass down to a layer."""
    tokens = int((prompts.last - prompts.lookup).max()) + 1
    rows, asked = (len(part) // prompts.n_edits + 1 for part in (prompts.edit, prompts.at.row))
    config = model.hf.config.get_text_config()
    layers = rows * tokens * (model.n_layers - layer) * config.hidden_size * _PER_TOKEN
    each = layers * model.dtype.itemsize + asked * config.vocab_size * _PER_LOGIT
    return model.budget.fit(each)
