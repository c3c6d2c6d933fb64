"""An editor that is open on a base model, and makes one edit at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from configs.check import load_edit_config
from configs.editing_rules import fact_problem
from configs.overrides import group_options, leaves
from configs.schema import EditConfig
from configs.words import quoted
from datamodules.scenarios import SCENARIOS, with_end
from datamodules.source import RecordSource
from editing.card import Source
from editing.edit import Fact, FactEdit, batch_of, checked_text
from editing.model import OpenedModel, Picture, model_words
from editors.base import (
    AsksLonger,
    DeltaEdit,
    Edit,
    Editor,
    EditorInputs,
    EditsTogether,
    TrainingEdits,
)
from editors.checkpoint import load_editor, read_checkpoint
from editors.options import EditorOptions
from editors.registry import build_editor
from editors.turn import Turn
from errors import ConfigError, DataError
from models.editable import PrefixState
from models.rows import EditBatch
from runner.assembly import check_base, demonstrations
from runner.learnt import terms_of_training
from runner.training import check_checkpoint
from runner.training_edits import training_edits

_AT_ONCE = 8  # training edits of a warm-up


@dataclass(frozen=True)
class FactEditor:
    """Makes edits of one fact each.

    Attributes:
        options: the method's, as the evaluation has them.
        model: what is edited, and never changed.
        editor: the method.
        ckpt: where its trained weights come from; None of a method that has none.
        data: `data.name` of what it was trained on, or shows; None of neither.
        source: where that is from and by whose licence.
    """

    options: EditorOptions
    model: OpenedModel
    editor: Editor
    ckpt: str | None = None
    data: str | None = None
    source: Source | None = None

    def edit(
        self,
        question: str,
        answer: str,
        *,
        image: Picture | None = None,
        subject: str | None = None,
        on: FactEdit | None = None,
    ) -> FactEdit:
        """Makes the model answer a question otherwise.

        Args:
            question: as a user asks it, without the prompt's wording.
            answer: the new answer.
            image: the picture that the question is about; a file or a PIL image.
            subject: what the question is about, as it stands in it; ROME and MEMIT need it.
            on: edits that are in place already. This one is made on the model that they have
                changed (protocol=sequential), and comes back on top of them.

        Returns:
            The edit, a value: the base model stays as it is.

        Raises:
            DataError: a text is empty, a picture cannot be read, the subject is missing or not in
                the question, or the row is longer than what the model reads.
            ModelError: the method diverged on it, its edits do not go on top of `on`, or an edit
                is in place on the model (`applied`).
        """
        self.model.check_unedited("an edit is made")
        question, answer = checked_text("question", question), checked_text("answer", answer)
        subject = checked_text("subject", subject) if subject else None
        picture = None if image is None else self.model.picture_file(image)
        fact = Fact(question, answer, picture, subject)
        problem = fact_problem(
            self.options, fact.question, fact.subject, has_image=fact.image is not None
        )
        if problem is not None:
            raise DataError(f"{problem}.")
        table = self.model.rows()
        row = table.add(fact.prompt._replace(ended=self.options.ends_target), 0)
        batch = batch_of(self.model, table, [row], subject=fact.subject or fact.question)
        if isinstance(self.editor, AsksLonger):
            texts_of_rows = batch.rows.texts
            self.editor.check_lengths([texts_of_rows[row]], texts_of_rows)
        editable = self.model.editable
        with torch.no_grad(), nullcontext() if on is None else on.in_place(self.model):
            state = editable.prefix(batch.rows, self.editor.first_layer(editable))
            value = self._made(batch, state, on)
        edit = FactEdit((fact,), self, value)
        return edit if on is None else on + edit

    def _made(self, batch: EditBatch, state: PrefixState, on: FactEdit | None) -> Edit:
        """The edit of a batch; some methods carry what they know of earlier edits over to it."""
        model = self.model.editable
        if isinstance(self.editor, EditsTogether) and on and isinstance(on.value, DeltaEdit):
            return self.editor.edit_together(model, Turn(1, lambda: [(batch, state)]), on.value)
        return self.editor.edit(model, batch, state)

    def answers_as(self, other: FactEditor) -> bool:
        """Whether edits of both are answered by the same networks, with the same settings."""
        first, second = self.editor, other.editor
        if first is second or self.options != other.options:
            return first is second
        if not (isinstance(first, nn.Module) and isinstance(second, nn.Module)):
            return True
        weights = second.state_dict()
        return all(
            torch.equal(weight, weights[name]) for name, weight in first.state_dict().items()
        )


def open_editor(
    name: str,
    model: OpenedModel,
    *words: str,
    ckpt: str | Path | None = None,
    **options: Any,
) -> FactEditor:
    """Opens an editor on a base model.

    Its settings are those that fit the model (`experiment=demo` for the tiny ones that ship,
    `experiment=smollm` for those around SmolLM2), else the published ones.

    Args:
        name: a file of configs/editor without its ending, such as `ft`.
        model: the base model.
        *words: what is typed for evaluate.py, where more is needed: `data=tmke`, `data.root=DIR`
            for the demonstrations of IKE, `experiment=tmke` for other settings.
        ckpt: the checkpoint of a trained editor (MEND, SERAC), as train.py wrote it.
        **options: keys of configs/editor/<name>.yaml, such as `lr=1e-3`.

    Raises:
        ConfigError: an option is unknown or does not fit; all mistakes in one message.
        DataError: the demonstrations cannot be read.
        ModelError: the checkpoint is damaged, or belongs to another editor or base model.
    """
    empty = {key: value for key, value in options.items() if value == {}}  # no leaf, and said
    given = [f"editor.{key}={_typed(value)}" for key, value in (leaves(options) | empty).items()]
    trained = [] if ckpt is None else [f"ckpt={quoted(str(ckpt))}"]
    all_words = [f"editor={name}", *model_words(model.options), *trained, *given, *words]
    return build(load_edit_config(all_words), model)


def build(config: EditConfig, model: OpenedModel) -> FactEditor:
    """The editor that a configuration describes; arguments and errors as in `open_editor`."""
    options = editor_options(config)
    check_base(options, model.options)
    check_checkpoint(config.ckpt, options, model.editable)
    records = config.data.open() if options.shows_records else None
    training = () if records is None else demonstrations(options, records)
    options.check_records((), training)
    inputs = EditorInputs(model.encoder, training)
    if records is not None:
        is_text = (config.data.train or config.data).edits_text()
        inputs = replace(inputs, training_edits=_training_edits(records, options, model, is_text))
    editor = build_editor(options, model.editable, inputs)
    if config.ckpt is not None:
        load_editor(cast("nn.Module", editor), read_checkpoint(config.ckpt), model.editable)
    if isinstance(editor, nn.Module):
        editor.to(model.editable.device).eval()
    what, terms = "demonstrations", None if records is None else records.of("train").terms
    if config.ckpt is not None:  # whatever `data` is now
        what, terms = "training of the editor", terms_of_training(config.ckpt)
    if terms is None:
        return FactEditor(options, model, editor, config.ckpt)
    data = terms["source"]
    source = Source(what=what, source=f"data={data} ({terms['origin']})", licence=terms["licence"])
    return FactEditor(options, model, editor, config.ckpt, data, source)


def _training_edits(
    records: RecordSource, options: EditorOptions, model: OpenedModel, is_text: bool
) -> TrainingEdits:
    """The training edits in text, where the data has such: nobody knows yet what will be edited."""
    scenario = SCENARIOS["unimodal" if is_text else "multimodal"]
    scenario = with_end(scenario) if options.ends_target else scenario
    return training_edits(
        records, scenario, model.encoder, model.images, model.editable, options,
        batch_size=_AT_ONCE,
    )  # fmt: skip


def editor_options(config: EditConfig) -> EditorOptions:
    """The editor of a configuration.

    Raises:
        ConfigError: it has none, as one that opens an edit.
    """
    if config.editor is None:
        raise ConfigError("choose what makes the edit: editor=NAME, or ckpt=FILE of a trained one.")
    return config.editor


def editor_choices() -> list[str]:
    """Names that `open_editor` accepts."""
    return group_options("editor")


def _typed(value: Any) -> str:
    """A value as it is typed.

    >>> _typed([1e-05, "a b", None, True, Path("x y")]), _typed({"mlp_in": [1, 2]})
    ('[1e-05,"a b",null,true,"x y"]', '{mlp_in:[1,2]}')
    """
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_typed(each)}' for key, each in value.items())}}}"
    if isinstance(value, str | Path):
        return quoted(str(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
