"""UltraEdit (Gu et al., UltraEdit, TMLR 2026): many edits in one step, without a network.

Every token that predicts an answer token asks a linear map for a change of its output,

    D_t = -eta |k^_t|^2 g^_t        k^, g^: key and value gradient, normalised over all edits so far

and least squares with the keys as they are come as near to all of them as the ridge lets them:

    dW^T = (K^T K + lambda I)^-1 K^T D

The running statistics are what makes turn after turn the same size of step, so they are part of the
edit: `LifelongEdit.seen` goes from turn to turn, and the editor itself never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.gradients import (
    EditTokens,
    answer_count,
    answer_tokens,
    capture_bytes,
    turn_tokens,
)
from editors.ridge import check_solve, ridge_update
from editors.turn import Turn
from editors.ultraedit.config import UltraEditOptions
from editors.ultraedit.files import load_statistics
from editors.ultraedit.statistics import (
    NOTHING,
    SiteStatistics,
    Statistics,
    check_counts,
    check_pairs,
    merged,
    normalised,
    whitened,
)
from metrics.precision import in_float64, single
from models.deltas import Delta, Groups, LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.factors import Factors
from models.rows import EditBatch

# Of a token's key and gradient in float64: captured, sorted by edit, normalised, solved.
_COPIES = 6


@dataclass(frozen=True)
class LifelongEdit(DeltaEdit):
    """Deltas, and the statistics of the tokens that taught them.

    Attributes:
        seen: of their own tokens alone, and after `after` of the earlier ones' too.
    """

    seen: Statistics = field(default_factory=dict)

    def after(self, earlier: DeltaEdit | None) -> LifelongEdit:
        """The sum of the deltas, with the statistics of the tokens of both."""
        seen = earlier.seen if isinstance(earlier, LifelongEdit) else {}
        return LifelongEdit(super().after(earlier).deltas, merged(seen, self.seen))


class UltraEdit:
    """One least-squares update for any number of edits.

    Args:
        options: what is edited, and how far.
        model: the base model whose matrices are edited; only shapes are read.
        warm: statistics of tokens before the first edit.

    Raises:
        ModelError: the model has fewer layers, or no such matrices.
    """

    name = "ultraedit"

    def __init__(
        self, options: UltraEditOptions, model: EditableModel, warm: Statistics = NOTHING
    ) -> None:
        self.options, self.warm = options, warm
        self.sites = options.sites_in(model)

    def first_layer(self, model: EditableModel) -> int:
        """The lowest edited layer."""
        return min(site.layer for site in self.sites)

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """Of the edits' own rows: the capture's graph, and tokens and statistics as they are."""
        shapes = [linear_shape(model.linear(site)) for site in self.sites]
        pairs = sum(d_out**2 for _, d_out in shapes) if self.options.whitening else 0
        per_edit = len(batch) * (pairs + 4 * sum(map(sum, shapes)))
        per_token = answer_count(batch) * _COPIES * sum(map(sum, shapes))
        return capture_bytes(model, batch, self.first_layer(model)) + 8 * (per_edit + per_token)

    @torch.no_grad()
    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> LifelongEdit:
        """Edits independent of each other, each normalised by the warm statistics and its own.

        Raises:
            ModelError: gradients are no numbers, or one token has no deviation.
        """
        tokens = answer_tokens(self.name, model, self.sites, batch, state)
        return self._updates(tokens, len(batch), self.warm)

    @torch.no_grad()
    def edit_together(
        self, model: EditableModel, turn: Turn, earlier: Lasting | None
    ) -> LifelongEdit:
        """One update of all edits of a turn, normalised by all tokens up to its last.

        Raises:
            ModelError: as `edit`; or the device has no room for so many edits in one update; or
                this editor whitens, and the earlier edits were made without.
        """
        tokens = turn_tokens(self.name, model, self.sites, turn)
        for of_site in tokens.values():
            d_in, d_out = of_site.keys.shape[1], of_site.gradients.shape[1]
            beside = _COPIES * (d_in + d_out)
            check_solve(model.budget, len(of_site), d_in, len(turn), beside=beside)
        seen = earlier.seen if isinstance(earlier, LifelongEdit) else {}
        if self.options.whitening:
            check_pairs(seen)
        return self._updates(tokens, 1, merged(self.warm, seen))

    def statistics(
        self, model: EditableModel, batches: Iterable[tuple[EditBatch, PrefixState]]
    ) -> Statistics:
        """Those of the tokens of some edits, none of which is made."""
        seen: Statistics = {}
        for batch, state in batches:
            tokens = answer_tokens(self.name, model, self.sites, batch, state)
            seen = merged(seen, self._seen({s: _padded(of, 1) for s, of in tokens.items()}))
        return seen

    def _updates(
        self, tokens: Mapping[Site, EditTokens], n_edits: int, before: Statistics
    ) -> LifelongEdit:
        padded = {site: _padded(of_site, n_edits) for site, of_site in tokens.items()}
        seen = self._seen(padded)
        known, deltas = merged(before, seen), dict[Site, Delta]()
        for site, factors in padded.items():
            check_counts(known[site], factors.mask)
            like, pairs = tokens[site].keys, self._pairs(factors, known[site])
            inputs, outputs = (
                side.to(like.device, single(like.dtype)) for side in (pairs.inputs, pairs.outputs)
            )
            deltas[site] = LowRankDelta(inputs, outputs).compact()
        return LifelongEdit(deltas, seen)

    def _seen(self, tokens: Mapping[Site, Factors]) -> Statistics:
        pairs = self.options.whitening
        return {site: SiteStatistics.of(of_site, pairs=pairs) for site, of_site in tokens.items()}

    def _pairs(self, tokens: Factors, known: SiteStatistics) -> LowRankDelta:
        """The update of E edits at one map: D, and least squares with the keys as they are."""
        padding = ~tokens.mask[..., None]
        k_hat = normalised(tokens.x, known.keys)
        g_hat = normalised(tokens.delta, known.gradients)
        if self.options.whitening:
            g_hat = whitened(g_hat, known.gradients, self.options.shrinkage)
        change = -self.options.edit_lr * k_hat.square().sum(-1, keepdim=True) * g_hat
        keys, change = (side.masked_fill(padding, 0) for side in (tokens.x, change))
        return ridge_update(keys, change, self.options.ridge)


def build(options: UltraEditOptions, model: EditableModel, inputs: EditorInputs) -> UltraEdit:
    """The editor that the options describe; reads its statistics, or takes them of training edits.

    Raises:
        ModelError: the file of statistics is damaged, or of another model or other matrices.
    """
    editor = UltraEdit(options, model)
    if options.statistics is not None:
        warm = load_statistics(options.statistics, model, editor.sites, pairs=options.whitening)
        return UltraEdit(options, model, warm)
    if not options.warm_up:
        return editor
    return UltraEdit(options, model, warm_statistics(editor, model, inputs))


def warm_statistics(editor: UltraEdit, model: EditableModel, inputs: EditorInputs) -> Statistics:
    """Statistics of the first training edits, as the scenario teaches them, on the base model."""
    layer = editor.first_layer(model)

    def entered(batch: EditBatch) -> tuple[EditBatch, PrefixState]:
        batch = replace(batch, rows=model.encode_pictures(batch.rows))
        return batch, model.prefix(batch.rows, layer, packed=True)

    batches = inputs.training_edits(editor.options.warm_up)
    return editor.statistics(model, map(entered, batches))


def _padded(tokens: EditTokens, n_edits: int) -> Factors:
    """The tokens of each edit side by side, in float64; of n_edits = 1 all tokens are of one."""
    edit = tokens.edit if n_edits > 1 else torch.zeros_like(tokens.edit)
    groups = Groups(edit, n_edits)
    x, delta = (in_float64(groups.split(side)) for side in (tokens.keys, tokens.gradients))
    return Factors(x, delta, groups.mask.to(x.device))
