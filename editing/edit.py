"""An edit of facts: a value that answers as the edited model would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from datamodules.collate import RowTable
from datamodules.prompts import Prompt
from datamodules.records import Text
from editing.answer import Answered, Probability
from editing.model import OpenedModel, Picture
from editors.base import DeltaEdit, Edit, Lasting, Remembering
from errors import DataError, ModelError
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.predictions import Predictions
from lightning_modules.scoring import Comparison
from models.deltas import Deltas
from models.editable import PrefixState
from models.rows import EditBatch

if TYPE_CHECKING:
    from editing.editor import FactEditor

UNEDITED = DeltaEdit()
_TEXT: TypeAdapter[str] = TypeAdapter(Text)
_DRAFT = "yes"  # any short answer: generation leaves it at its first token that is not the model's


@dataclass(frozen=True)
class Fact:
    """What an edit teaches.

    Attributes:
        image: the file of the picture that the question is about.
        subject: what it is about, as it stands in the question.
    """

    question: str
    answer: str
    image: Path | None = None
    subject: str | None = None

    @property
    def prompt(self) -> Prompt:
        """The row that teaches it."""
        return _prompt(self.question, self.answer, self.image)


@dataclass(frozen=True)
class FactEdit:
    """One edit, or several in place together.

    Attributes:
        facts: what was taught, in this order.
        editor: what made it; where several were added up, the last of them.
        value: the edit as the engine has it.
        earlier: what made the facts before the last one.
    """

    facts: tuple[Fact, ...]
    editor: FactEditor
    value: Edit
    earlier: tuple[FactEditor, ...] = ()

    @property
    def model(self) -> OpenedModel:
        """The base model, unedited."""
        return self.editor.model

    @property
    def editors(self) -> tuple[FactEditor, ...]:
        """What made each of the facts, in their order."""
        return (*self.earlier, self.editor)

    def ask(
        self, question: str, image: Picture | None = None, *, max_new_tokens: int = 16
    ) -> Answered:
        """Asks both models.

        Args:
            question: without the prompt's wording.
            image: the picture that it is about.
            max_new_tokens: longest answer, unless the new one is longer; it ends at a line's end.

        Raises:
            DataError: the question is empty or too long, or the picture cannot be read.
            ModelError: a model's logits are no numbers.
        """
        answers = list(dict.fromkeys(fact.answer for fact in self.facts))
        return ask_both(
            self.model, question, image, edit=self.value, answers=answers,
            name=self.editor.editor.name, layer=self.editor.editor.first_layer(self.model.editable),
            max_new_tokens=max_new_tokens,
        )  # fmt: skip

    @property
    def deltas(self) -> Deltas:
        """What is added to which weights, E = 1.

        Raises:
            ModelError: the method changes no weight.
        """
        if not isinstance(self.value, DeltaEdit):
            raise ModelError(
                f"editor={self.editor.options.label} changes no weight of the base model: its "
                "edits answer through ask() alone. FT, LoRA, MEND, MALMEN, RLEdit, UltraEdit, "
                "ROME and MEMIT make edits of weights."
            )
        return self.value.deltas

    @contextmanager
    def applied(self) -> Iterator[OpenedModel]:
        """The model of transformers (`model.hf`) answers as the edited one inside the block.

        No weight is written; behind the block it is the unedited model again.

        Raises:
            ModelError: the method changes no weight.
        """
        with self.model.editable.deltas_in_place(self.deltas):
            yield self.model

    def __add__(self, then: FactEdit) -> FactEdit:
        """Both edits in place, each as it was made; `FactEditor.edit(..., on=)` makes one on top.

        Raises:
            ModelError: they are of two models, or of two methods, two trainings of SERAC or
                two settings of IKE that cannot be in place together.
        """
        if not isinstance(then, FactEdit):
            return NotImplemented
        self._check_model(then.model)
        first, second = self.value, then.value
        of_weights = isinstance(first, DeltaEdit) and isinstance(second, DeltaEdit)
        alike = of_weights or type(first) is type(second)
        if not alike or not isinstance(first, Lasting):
            raise ModelError(
                f"edits of editor={self.editor.options.label} and of "
                f"editor={then.editor.options.label} cannot be in place together: edits of weights "
                "go with edits of weights, and those of GRACE, SERAC and IKE with their like."
            )
        if not isinstance(first, DeltaEdit) and not self.editor.answers_as(then.editor):
            raise ModelError(
                f"two edits of editor={self.editor.options.label} are answered by two trainings or "
                "settings of it, and edits in place together by one; make both with one "
                "open_editor(...)."
            )
        both = cast("Lasting", second).after(first.after(None))
        earlier = (*self.editors, *then.earlier)
        return FactEdit((*self.facts, *then.facts), then.editor, both, earlier)

    def in_place(self, model: OpenedModel) -> AbstractContextManager[None]:
        """Inside the block the model is the edited one, for the next edit to be made on.

        Args:
            model: the one that this edit is of.

        Raises:
            ModelError: it is another one, or edits of this kind cannot stay in place.
        """
        self._check_model(model)
        if not isinstance(self.value, Lasting):
            raise ModelError(
                f"edits of editor={self.editor.options.label} cannot stay in place while another "
                "one is made."
            )
        return self.value.in_place(model.editable)

    def _check_model(self, model: OpenedModel) -> None:
        if model is not self.model:
            raise ModelError(
                "the two edits are of two models that were opened apart; make both of them on one "
                "open_model(...)."
            )

    def __radd__(self, first: object) -> FactEdit:
        """`sum([edit, edit, ...])` begins with 0."""
        return self if first == 0 else NotImplemented

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the edit into a folder, which `editing.load_edit` reads and which can be shared.

        Args:
            folder: new or empty; or one that holds an edit, with `overwrite`.
            overwrite: whether an earlier edit there gives way.

        Returns:
            The folder.

        Raises:
            ConfigError: the folder is taken, or nothing can be written there.
            DataError: a picture of the edit is gone.
        """
        from editing.saving import save_edit

        return save_edit(self, folder, overwrite=overwrite)


def ask_both(
    model: OpenedModel,
    question: str,
    image: Picture | None,
    *,
    edit: Edit,
    name: str,
    layer: int,
    answers: Sequence[str] = (),
    max_new_tokens: int,
) -> Answered:
    """Asks the unedited model and an edited one.

    Args:
        model: the base model.
        question: without the prompt's wording.
        image: the picture that it is about.
        edit: of the edited one.
        name: of the method, for errors.
        layer: the lowest that it changes.
        answers: those whose probability is told besides the unedited model's own.
        max_new_tokens: longest answer, unless the new one is longer; it ends at a line's end.

    Raises:
        DataError: the question is empty or too long, or the picture cannot be read.
        ModelError: a model's logits are no numbers, or an edit is in place on the model.
    """
    model.check_unedited("the unedited model is asked")
    question = checked_text("question", question)
    picture = None if image is None else model.picture_file(image)
    edit = edit.anew() if isinstance(edit, Remembering) else edit
    draft = _prompt(question, next(iter(answers), _DRAFT), picture)

    def rows_of(prompts: Sequence[Prompt]) -> AskedRows:
        table = model.rows()
        rows = [table.add(prompt, 0) for prompt in prompts]
        batch = batch_of(model, table, rows[:1], subject=draft.question, probe=rows)
        return AskedRows(model, batch, layer, name, edit)

    asked = rows_of([draft])
    before = asked.generate(UNEDITED, max_new_tokens)
    after = before if edit is UNEDITED else asked.generate(edit, max_new_tokens)
    sayable = [
        answer
        for answer in dict.fromkeys([before, *answers])
        if model.encoder.tokenizer.tokenize(answer)
    ]
    if not sayable:
        return Answered(draft.question, picture, after, before, ())
    probabilities = rows_of([draft._replace(answer=answer) for answer in sayable])
    of_both = [probabilities.of_answers(value) for value in (UNEDITED, edit)]
    pairs = map(Probability, sayable, *of_both)
    return Answered(draft.question, picture, after, before, tuple(pairs))


@dataclass(frozen=True)
class AskedRows:
    """Rows that are asked of the unedited model and under one edit.

    Attributes:
        layer: the lowest that the editor changes.
        name: of the method, for errors.
        edit: the edit.
    """

    model: OpenedModel
    batch: EditBatch
    layer: int
    name: str
    edit: Edit

    @cached_property
    def state(self) -> PrefixState:
        """What both models share of them: all below the lowest layer that an edit changes."""
        lowest = self.layer
        if isinstance(self.edit, DeltaEdit):  # of several editors, perhaps
            lowest = min((site.layer for site in self.edit.deltas), default=lowest)
        return self.model.editable.prefix(self.batch.rows, lowest)

    @torch.no_grad()
    def generate(self, value: Edit, max_new_tokens: int) -> str:
        """The greedy answer to the first row."""
        model, rows = self.model, self.batch.rows
        at = rows.answers()
        top = Predictions.of(value.answer(model.editable, rows, self.state, at))
        check = self._check(value, top, at.row)
        generator = Generator(
            model.editable, model.encoder, self.state.layer, max_new_tokens, check
        )
        everything = torch.arange(1, device=at.row.device)
        _, texts = generator.matches(value, rows, everything, Comparison(at, top, top))
        return texts[0]

    @torch.no_grad()
    def of_answers(self, value: Edit) -> list[float]:
        """The probability of each row's whole answer."""
        rows = self.batch.rows
        at = rows.answers()
        logits = value.answer(self.model.editable, rows, self.state, at)
        of_tokens = logits.log_softmax(-1).gather(1, at.target[:, None])[:, 0]
        of_rows = of_tokens.new_zeros(at.n_rows).index_add(0, at.row, of_tokens)
        probabilities: list[float] = of_rows.exp().tolist()
        return probabilities

    def _check(self, value: Edit, top: Predictions, row: Tensor) -> FiniteCheck:
        check = FiniteCheck(self.batch, self.model.editable, self.name)
        (check.unedited if value is UNEDITED else check.edited)(top.largest, row)
        return check


def batch_of(
    model: OpenedModel,
    table: RowTable,
    edit_rows: Sequence[int],
    *,
    subject: str,
    probe: Sequence[int] = (),
) -> EditBatch:
    """A batch of one edit on the model's device, its pictures encoded.

    Args:
        model: the base model.
        table: all rows.
        edit_rows: the one that teaches the edit.
        subject: of the edit.
        probe: rows that are asked.
    """
    with torch.no_grad():
        rows = model.editable.encode_pictures(table.rows().to(model.editable.device))
    device = rows.input_ids.device
    return EditBatch(
        rows=rows,
        edit_rows=torch.tensor(edit_rows, device=device),
        probes={"asked": torch.tensor(probe, device=device)} if probe else {},
        edit_ids=(0,),
        subjects=(subject,),
    )


def checked_text(key: str, text: str) -> str:
    """A text without blanks around it.

    Raises:
        DataError: it holds nothing that can be seen.
    """
    try:
        return _TEXT.validate_python(text)
    except ValidationError as error:
        raise DataError(
            f"{key}={text!r}: a text is needed that holds something that can be seen."
        ) from error


def _prompt(question: str, answer: str, image: Path | None) -> Prompt:
    return Prompt(question, answer, None if image is None else str(image))
