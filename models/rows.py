"""Rows: tokenised (question, answer, picture?) prompts, and the batch of edits they belong to.

Everything that a model is asked stands in one table of rows: the edit prompts of a batch of
independent single edits and the probes of all of them. A row says under which edit it is answered,
so B single edits run side by side. Sizes: R rows, T tokens, P distinct pictures, E edits, N answer
tokens of all rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metrics.functional import row_mean
from metrics.precision import single

TEXT_ONLY = -1


@dataclass(frozen=True)
class Answers:
    """Where the answer tokens of some rows are predicted, flat over rows.

    Attributes:
        row: (N,) the row of each answer token.
        position: (N,) index of the token *before* it: the logits there predict it.
        target: (N,) its id.
        n_rows: R.
    """

    row: Tensor
    position: Tensor
    target: Tensor
    n_rows: int

    def select(self, rows: Tensor) -> Answers:
        """The answers of a selection of rows; row i of the result is `rows[i]`."""
        new_row, old = self._of(rows)
        return Answers(new_row, self.position[old], self.target[old], len(rows))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """The answers of several tables of rows, whose rows are counted through."""
        starts = accumulate((part.n_rows for part in parts), initial=0)
        return cls(
            torch.cat([part.row + start for part, start in zip(parts, starts, strict=False)]),
            torch.cat([part.position for part in parts]),
            torch.cat([part.target for part in parts]),
            sum(part.n_rows for part in parts),
        )

    def numbers(self, rows: Tensor) -> Tensor:
        """Where the answer tokens of a selection of rows stand here, in the order of `select`."""
        return self._of(rows)[1]

    def _of(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows[:, None] == self.row[None, :]).nonzero(as_tuple=True)

    @property
    def prompt_end(self) -> Tensor:
        """The last token before each row's answer, which predicts its first token: (R,)."""
        unset = torch.iinfo(self.position.dtype).max
        first = self.position.new_full((self.n_rows,), unset)
        return first.scatter_reduce(0, self.row, self.position, "amin")

    def where(self, kept: Tensor) -> Answers:
        """Those of some answer tokens, (N,) bool; the rows stay all."""
        return Answers(self.row[kept], self.position[kept], self.target[kept], self.n_rows)

    def same_tokens(self, other: Answers) -> bool:
        """Whether they stand at the same tokens, in the same order."""
        here, there = (self.row, self.position), (other.row, other.position)
        return all(torch.equal(one, two) for one, two in zip(here, there, strict=True))

    def row_mean(self, values: Tensor) -> Tensor:
        """Mean of a value per answer token over each row: (N,) -> (R,)."""
        return row_mean(values, self.row, self.n_rows)


class RowText(NamedTuple):
    """What a row says, for editors that read words: SERAC's scope, IKE's demonstrations.

    Attributes:
        question: without the prompt's template.
        answer: what the row is scored against; a scope decision must never look at it.
        picture: whether it shows a picture.
        plain: whether the question stands without the template.
        generated: tokens in place of the answer's own, while an answer is being generated.
        aliases: other texts that a generated answer may be; no token of them is ever read.
        ended: whether the end token follows the answer, and is the last token of it.
    """

    question: str
    answer: str
    picture: bool = False
    plain: bool = False
    generated: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    ended: bool = False

    @property
    def tokens(self) -> dict[str, Any]:
        """What decides the row's tokens: arguments of `PromptEncoder.encode`."""
        decides = self._asdict()
        del decides["aliases"]
        return decides


@dataclass(frozen=True)
class Rows:
    """Tokenised prompts with their answers.

    Attributes:
        input_ids: (R, T) with image slots already in place.
        attention_mask: (R, T) bool, false on padding.
        answer_mask: (R, T) bool, true on answer tokens only.
        image_slots: (R, T) bool, true where picture features replace the token's embedding.
        image_index: (R,) index into `pixel_values`, `TEXT_ONLY` (-1) for rows without a picture.
        pixel_values: (P, C, H, W) distinct pictures, or None when no row has one. model=auto has
            what its family's processor makes of each, in one shape (P, ...): patches, crops.
        edit_index: (R,) the edit under which a row is answered.
        texts: what each row says; empty where the rows were made from tokens alone.
        features: (P, S, d) what the model sees in the pictures, once
            `EditableModel.encode_pictures` was called; then no later pass runs the vision tower.
        picture_keys: a hash of the pixels of each distinct picture; empty where none was made.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_mask: Tensor
    image_slots: Tensor
    image_index: Tensor
    pixel_values: Tensor | None
    edit_index: Tensor
    texts: tuple[RowText, ...] = ()
    features: Tensor | None = None
    picture_keys: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def questions(self) -> list[str]:
        """What each row asks; its number where the rows were made from tokens alone."""
        if not self.texts:
            return [f"row {number}" for number in range(len(self))]
        return [text.question for text in self.texts]

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on a device."""
        return self._with_tensors(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Rows:
        """The same rows in memory from which a GPU fetches them by itself."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Rows:
        changed: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **changed)

    def select(self, rows: Tensor) -> Rows:
        """A selection of rows; pictures that no selected row shows are left out."""
        image_index = self.image_index[rows]
        pixel_values, features, keys = self.pixel_values, self.features, self.picture_keys
        if pixel_values is not None:
            used, inverse = image_index.unique(return_inverse=True)
            text_rows = bool((used == TEXT_ONLY).any())
            used, image_index = used[int(text_rows) :], inverse - int(text_rows)
            if len(used) < len(pixel_values):  # else they are all there, in their order
                pixel_values = pixel_values[used] if len(used) else None
                features = features[used] if features is not None and len(used) else None
                keys = tuple(keys[picture] for picture in used.tolist()) if keys else ()
        return Rows(
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            answer_mask=self.answer_mask[rows],
            image_slots=self.image_slots[rows],
            image_index=image_index,
            pixel_values=pixel_values,
            edit_index=self.edit_index[rows],
            texts=tuple(self.texts[row] for row in rows.tolist()) if self.texts else (),
            features=features,
            picture_keys=keys,
        )

    def cut(self, stop: int, start: int = 0) -> Rows:
        """The rows without what stands behind their first tokens, or before them."""
        names = ("input_ids", "attention_mask", "answer_mask", "image_slots")
        return replace(self, **{name: getattr(self, name)[:, start:stop] for name in names})

    def trimmed(self) -> Rows:
        """The rows without what is padding in all of them."""
        real = self.attention_mask.any(0).nonzero().squeeze(1)
        return self.cut(int(real[-1]) + 1, int(real[0])) if len(real) else self

    def showing(self, other: Rows) -> Rows:
        """The rows with the pictures of other ones, which their `image_index` is of."""
        return replace(
            self,
            pixel_values=other.pixel_values,
            features=other.features,
            picture_keys=other.picture_keys,
        )

    def without_pictures(self) -> Rows:
        """Rows that say the same and show nothing; their tokens stay, for positions in them."""
        return replace(
            self,
            texts=tuple(text._replace(picture=False) for text in self.texts),
            image_index=torch.full_like(self.image_index, TEXT_ONLY),
            pixel_values=None,
            features=None,
            picture_keys=(),
        )

    def answers(self) -> Answers:
        """The answer tokens of all rows, flat, with the position that predicts each."""
        row, token = self.answer_mask.nonzero(as_tuple=True)
        return Answers(row, token - 1, self.input_ids[row, token], len(self))

    def positions(self, everywhere: Tensor) -> Answers:
        """The positions before answer tokens, and all real tokens of the rows `everywhere` (R,).

        The target of a position is the next token; the last one has none and repeats its own.
        """
        predicts = self.answer_mask.roll(-1, 1)
        predicts[:, -1] = False
        predicts = torch.where(everywhere[:, None], self.attention_mask, predicts)
        following = torch.cat([self.input_ids[:, 1:], self.input_ids[:, -1:]], 1)
        row, position = predicts.nonzero(as_tuple=True)
        return Answers(row, position, following[row, position], len(self))


@dataclass(frozen=True)
class PictureQuestions:
    """What the unedited model is asked besides, to tell which pictures of a batch it reads.

    Questions are counted on from the batch's own rows, since some of them stand there already.

    Attributes:
        rows: distinct questions with their true answers, about pictures of the batch: their
            `image_index` is into its `pixel_values`. None where the batch asks all of them itself.
        keys: what tells each of these rows from any other, in this batch or another one.
        naming: probe -> for each of its rows the question who its picture shows; None where that
            is not asked.
        facts: probe -> for each of its rows its own question with the true answer.
    """

    rows: Rows | None
    keys: tuple[Hashable, ...]
    naming: Mapping[str, tuple[int | None, ...]]
    facts: Mapping[str, tuple[int | None, ...]]

    def to(self, device: torch.device | str) -> PictureQuestions:
        """The same questions on a device."""
        return self if self.rows is None else replace(self, rows=self.rows.to(device))

    def pin_memory(self) -> PictureQuestions:
        """The same questions, as `Rows.pin_memory` has them."""
        return self if self.rows is None else replace(self, rows=self.rows.pin_memory())


class TextForm(NamedTuple):
    """How a probe that shows a picture is asked in text, by what its picture was named.

    Attributes:
        naming: row of `NamingQuestions.rows` that asks who is shown.
        pieces: the text question, cut where the name stands.
        plain: whether it stands without the template.
    """

    naming: int
    pieces: tuple[str, ...]
    plain: bool


@dataclass(frozen=True)
class NamingQuestions:
    """What the unedited model is asked first where probes are asked by a name.

    Attributes:
        rows: distinct questions who is shown, with the true names, about pictures of the batch:
            their `image_index` is into its `pixel_values`.
        keys: what tells each of these rows from any other, in this batch or another one.
        forms: probe -> for each of its rows how it is asked in text; None where it is not.
    """

    rows: Rows
    keys: tuple[Hashable, ...]
    forms: Mapping[str, tuple[TextForm | None, ...]]

    def to(self, device: torch.device | str) -> NamingQuestions:
        """The same questions on a device."""
        return replace(self, rows=self.rows.to(device))

    def pin_memory(self) -> NamingQuestions:
        """The same questions, as `Rows.pin_memory` has them."""
        return replace(self, rows=self.rows.pin_memory())


@dataclass(frozen=True)
class EditBatch:
    """B independent single edits and every probe that is asked after each.

    Attributes:
        rows: the distinct rows of all edits; a prompt that serves as edit and as probe stands once.
        edit_rows: (K,) the rows that teach the edits, with the new target as their answers: one
            or more of each edit, in the order of the edits. `rows.edit_index` says whose each is.
            Where an editor teaches the end token too they are no rows of a probe.
        probes: probe name -> (n,) rows asked under that name, at most one per edit.
        edit_ids: position of each edit's record in its split.
        subjects: the edited subjects.
        pictures: what tells which pictures the unedited model reads; None where no probe shows any.
        naming: what is asked first where probes are asked by a name; None where none is.
    """

    rows: Rows
    edit_rows: Tensor
    probes: Mapping[str, Tensor]
    edit_ids: tuple[int, ...]
    subjects: tuple[str, ...]
    pictures: PictureQuestions | None = None
    naming: NamingQuestions | None = None

    def __len__(self) -> int:
        return len(self.edit_ids)

    def teaching(self) -> EditBatch:
        """The rows that teach the edits, and nothing that is asked of them."""
        rows = self.rows.select(self.edit_rows)
        order = torch.arange(len(rows), device=self.edit_rows.device)
        return EditBatch(rows, order, {}, self.edit_ids, self.subjects)

    def to(self, device: torch.device | str) -> EditBatch:
        """The same batch on a device."""
        return replace(
            self,
            rows=self.rows.to(device),
            edit_rows=self.edit_rows.to(device),
            probes={name: rows.to(device) for name, rows in self.probes.items()},
            pictures=self.pictures and self.pictures.to(device),
            naming=self.naming and self.naming.to(device),
        )

    def pin_memory(self) -> EditBatch:
        """The same batch, as `Rows.pin_memory` has it; a DataLoader with `pin_memory` asks."""
        pictures = self.pictures and self.pictures.pin_memory()
        naming = self.naming and self.naming.pin_memory()
        return replace(self, rows=self.rows.pin_memory(), pictures=pictures, naming=naming)


def text_rows(ids: Tensor, mask: Tensor | None = None) -> Rows:
    """Rows of tokens alone, without answers and pictures.

    Args:
        ids: (R, T).
        mask: (R, T) bool, which of them are real; default all.
    """
    none = torch.zeros_like(ids, dtype=torch.bool)
    index = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
    mask = ~none if mask is None else mask
    return Rows(ids, mask, none, none, torch.full_like(index, TEXT_ONLY), None, index)


def last_tokens(rows: Rows) -> Tensor:
    """Index of each row's last real token: (R,). Rows that end alike are aligned by it."""
    steps = torch.arange(rows.input_ids.shape[1], device=rows.input_ids.device)
    return (rows.attention_mask * steps).amax(1)


def pooled_pictures(rows: Rows) -> Tensor | None:
    """Mean features of each row's picture: (R, d), zero rows without one; None without any.

    The mean is in float32 or better, whatever type the features have.

    Raises:
        ValueError: the rows show pictures that `EditableModel.encode_pictures` was not called for.
    """
    if rows.pixel_values is None:
        return None
    if rows.features is None:
        raise ValueError("EditableModel.encode_pictures(rows) comes first")
    has_picture = (rows.image_index != TEXT_ONLY)[:, None]
    pooled = rows.features.mean(1, dtype=single(rows.features.dtype))
    return pooled[rows.image_index.clamp(min=0)] * has_picture
