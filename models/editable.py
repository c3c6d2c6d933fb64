"""A frozen multimodal LLM that answers rows under per-row edits, without repeated work.

Three operations serve every editor (names as in MEND, Mitchell et al. 2022):

* `prefix(rows, k)`: embeddings, pictures and decoder layers 0..k-1, without gradients. They are the
  same for an edit, its probes and the unedited model, because no edit touches them.
* `suffix(state, ...)`: the layers from k on, final norm and head, with per-row deltas. With `at`
  given, the last block's MLP and the head run at the answer tokens alone: an MLP edit in the last
  block changes nothing before that MLP. Its attention runs at all tokens, each of which has a key.
* `capture(state, sites, ...)` (`models.captures`): per token the input x of a linear map and
  delta = dL/dy at its output, so that dL/dW = sum_t delta_t x_t^T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from caching.entries import Tensors
from caching.store import Cache
from errors import ModelError
from models.budget import MemoryBudget, tokens_at_once
from models.captures import LinearMapPasses
from models.decoder import Decoder
from models.deltas import (
    Deltas,
    Site,
    apply_to_every_row,
    linear_weight,
)
from models.fingerprint import fingerprint
from models.offloaded import is_spread
from models.packing import buckets_of, pack
from models.passes import groups_of
from models.positions import check_lengths, max_positions
from models.row_keys import picture_keys
from models.rows import Answers, Rows
from models.state import (
    LayerState,
    PrefixState,
    StateCollector,
    attention_mask,
    mask_dtype,
    stop_on_entering,
)
from models.unread import unread


class EditableModel(LinearMapPasses, ABC):
    """A frozen base model behind the operations that editors need.

    Args:
        hf: the transformers model; it is put in eval mode and its parameters are frozen.
        decoder: the parts of its language model.

    Attributes:
        budget: what passes over it may hold, as `runner.assembly.open_model` measures it.
        cache: what it computed in earlier batches and runs; at first one that holds nothing.
        recorded_fingerprint: of all weights, for as long as some are unread (`models.unread`).
    """

    budget = MemoryBudget()
    recorded_fingerprint: str | None = None

    def __init__(self, hf: PreTrainedModel, decoder: Decoder) -> None:
        super().__init__()
        self.hf = hf.eval().requires_grad_(False)
        self.decoder = decoder
        self._in_place: tuple[Deltas, ...] = ()
        self.cache = Cache()

    def train(self, mode: bool = True) -> EditableModel:
        """Stays in eval mode: dropout in a frozen base would make edits random."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EditableModel:
        """A model that is spread stays where it is: some weights are read only as they are used."""
        return self if is_spread(self.hf) else super()._apply(fn, recurse)

    @property
    def max_positions(self) -> int:
        """Tokens that the language model can read at once, a picture's among them."""
        return max_positions(self.hf.config)

    @property
    def device(self) -> torch.device:
        """Where passes begin and end; of a model that is spread, where its embeddings are."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the language model; a Q-Former may have more digits."""
        return self.hf.get_input_embeddings().weight.dtype

    @property
    def places_tokens_alike(self) -> bool:
        """Whether a token's position is how many stand before it, in every row."""
        return True

    @property
    def packed_mask(self) -> torch.dtype | None:
        """Number type of a mask (S, 1, L, L) that the layers take; None where they take none."""
        kinds = {self.layer_kind(layer) for layer in range(self.n_layers)}
        if not self.places_tokens_alike or not kinds <= {"", "full_attention"}:
            return None
        attention = self.hf.config.get_text_config()._attn_implementation
        return mask_dtype(attention, self.dtype)

    def body_inputs(self, rows: Rows) -> dict[str, Tensor]:
        """What the body is told besides embeddings and mask: positions in a picture, say.

        Where it is not empty, a row's tokens cannot be read one part after the other.
        """
        return {}

    @abstractmethod
    def embed(self, rows: Rows) -> Tensor:
        """Token embeddings with picture features in their slots: (R, T, d)."""

    @abstractmethod
    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """What the language model sees of distinct pictures: (P, C, H, W) -> (P, S, d)."""

    def encode_pictures(self, rows: Rows) -> Rows:
        """The rows with the features of their pictures, so that the tower runs once."""
        if rows.pixel_values is None or rows.features is not None:
            return rows
        if not self.cache.holds("pictures"):
            return replace(rows, features=self.picture_features(rows.pixel_values))
        pixels = rows.pixel_values

        def encode(numbers: list[int]) -> list[Tensors]:
            return [{"features": features} for features in self.picture_features(pixels[numbers])]

        values = self.cache.through("pictures", picture_keys(rows), encode)
        features = [value["features"].to(pixels.device) for value in values]
        return replace(rows, features=torch.stack(features))

    def weight(self, site: Site) -> Tensor:
        """What a map multiplies with, deltas in place included: (d_out, d_in)."""
        weight = linear_weight(self.linear(site)).to(self.device)
        for deltas in self._in_place:
            weight = weight + deltas[site].dense()[0] if site in deltas else weight
        return weight

    @property
    def is_edited(self) -> bool:
        """Whether deltas are in place, so that every pass meets them."""
        return any(self._in_place)

    @contextmanager
    def deltas_in_place(self, deltas: Deltas) -> Iterator[None]:
        """The model with one edit in place: every pass inside the block meets it.

        No weight is written (`models.deltas.apply_to_every_row`). The next edit of a sequence is
        made inside such a block; states from outside hold good there up to the lowest of the
        deltas' layers.

        Args:
            deltas: E = 1; empty for the unedited model. Blocks can be nested.

        Raises:
            ModelError: they are of several edits, which cannot all be in place.
        """
        outside, self._in_place = self._in_place, (*self._in_place, deltas)
        try:
            with apply_to_every_row({site: self.linear(site) for site in deltas}, deltas):
                yield
        finally:
            self._in_place = outside

    @torch.no_grad()
    def prefix(self, rows: Rows, layer: int, *, packed: bool = False) -> PrefixState:
        """Everything below decoder layer `layer`, without gradients; refuses rows too long.

        Args:
            rows: whole rows.
            layer: the one that is entered.
            packed: whether rows of one edit share what they begin with (`models.packing`), where
                the model can read them so.
        """
        check_lengths(rows, self.max_positions)
        dtype = self.packed_mask if packed else None
        if dtype is None:
            return self._run(layer, rows, rows.attention_mask, self.body_inputs(rows)).state()
        packing, rows = pack(rows), self.encode_pictures(rows)
        parts = []
        for numbers, part, bucket in buckets_of(rows, packing, tokens_at_once(self)):
            positions = {"position_ids": part.depth}
            entered = self._run(layer, bucket, attention_mask(part, dtype), positions)
            parts.append(entered.part(packing, numbers))
        return PrefixState(tuple(parts), layer)

    def _run(
        self, layer: int, rows: Rows, mask: Tensor, inputs: Mapping[str, Tensor]
    ) -> StateCollector:
        """A pass over all layers below one."""
        embeds = self.embed(rows)  # before layers are hooked: it may have them read, and replaced
        layers, kind = self.decoder.layers, self.layer_kind
        with stop_on_entering(layers, layer, kind, self.device) as collector:
            self.decoder.body(inputs_embeds=embeds, attention_mask=mask, use_cache=False, **inputs)
        return collector

    def suffix(
        self,
        state: PrefixState,
        *,
        deltas: Deltas | None = None,
        edit_index: Tensor | None = None,
        at: Answers | None = None,
    ) -> Tensor:
        """Finishes the forward pass under per-row edits.

        Args:
            state: from `prefix`, at or below the lowest edited layer.
            deltas: one delta per edited site; None for the unedited model.
            edit_index: (R,) the edit of each row, needed with `deltas`.
            at: answer tokens to predict; None for all positions.

        Returns:
            Logits in float32 or better: (N, V) in the order of `at`, or (R, T, V) without it.

        Raises:
            ModelError: a delta lies below the state, where it could have no effect.
        """
        deltas = deltas or {}
        self._check_above(state, deltas)
        if at is None:
            return self.everywhere(state, deltas, edit_index)

        def finish(part: LayerState, at: Answers) -> Tensor:
            hidden = self.up_to_answers(part, state.layer, at, deltas, edit_index)
            return self.top(hidden, deltas, groups_of(deltas, edit_index, at.row))

        return state.over(at, finish)

    @torch.no_grad()
    def unedited(self, state: PrefixState, at: Answers) -> Tensor:
        """`suffix(state, at=at)` without gradients: (N, V), not to be written on.

        A state that remembers what it was asked keeps them, and is asked for the same tokens once.
        With an edit in place it never is.
        """
        if self.is_edited or state.answered is None:
            return self.suffix(state, at=at)
        known = state.answered.get("last")
        if known is None or not known[0].same_tokens(at):
            known = state.answered["last"] = (at, self.suffix(state, at=at))
        return known[1]

    @torch.no_grad()
    def answer_state(self, state: PrefixState, at: Answers) -> Tensor:
        """What enters the last block's MLP at each answer token, unedited: (N, d).

        Edits of that MLP leave it alone, so FT of the last layer computes it once and iterates over
        `finish_answers`.
        """
        return state.over(at, lambda part, at: self.up_to_answers(part, state.layer, at, {}, None))

    def finish_answers(
        self, hidden: Tensor, deltas: Deltas | None = None, edit_index: Tensor | None = None
    ) -> Tensor:
        """The last block's MLP, final norm and head on `answer_state`: (N, d) -> (N, V) logits.

        `edit_index` (N,) is the edit of each answer token, needed with `deltas`.

        Raises:
            ModelError: a delta lies elsewhere than in that MLP, where it could have no effect.
        """
        return self.predicted(self.answer_output(hidden, deltas, edit_index))

    def answer_output(
        self, hidden: Tensor, deltas: Deltas | None = None, edit_index: Tensor | None = None
    ) -> Tensor:
        """What the last block puts out at each answer token, before the final norm: (N, d).

        Arguments and errors are those of `finish_answers`.
        """
        deltas = deltas or {}
        if wrong := [site for site in deltas if not self.is_at_answers(site)]:
            raise ModelError(
                f"{wrong[0].role} in layer {wrong[0].layer} is edited, and answers are finished "
                "from the last layer's MLP on: the edit would have no effect. Ask `suffix`."
            )
        return self.last_mlp(hidden, deltas, groups_of(deltas, edit_index))

    def forward(
        self, rows: Rows, *, deltas: Deltas | None = None, at: Answers | None = None
    ) -> Tensor:
        """The whole forward pass; the slow way to what `prefix` and `suffix` give."""
        state = self.prefix(rows, 0)
        return self.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)

    def fingerprint(self) -> str:
        """A short hash of the weights, to tell whether a checkpoint belongs to this base model."""
        if self.recorded_fingerprint is not None and unread(self.hf):
            return self.recorded_fingerprint
        return fingerprint(self.hf)

    def _check_above(self, state: PrefixState, deltas: Deltas) -> None:
        lowest = min((site.layer for site in deltas), default=state.layer)
        if lowest < state.layer:
            raise ModelError(
                f"a delta edits layer {lowest}, below the state at layer {state.layer}: it would "
                f"have no effect. Compute the state with prefix(rows, {lowest})."
            )
