"""A conversation with one base model: its edits, one on top of the other, and what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.out_of_memory import explained_loading
from configs.schema import EditConfig
from editing.answer import Answered
from editing.card import read_card
from editing.edit import Fact, FactEdit
from editing.editor import FactEditor, build
from editing.folder import load_edit
from editing.model import OpenedModel, open_configured
from editors.hub import edit_folder
from errors import DataError, explained_places
from runner.assembly import check_base
from runner.start import start_alone


class Session:
    """What is in place.

    Attributes:
        model: the base model, unedited.
        editor: makes further edits; None where an edit was opened, which brings none along.
        edits: each with those before it; the last one is what answers.
        image: the picture that questions and edits are about; None: they are text alone.
    """

    def __init__(self, model: OpenedModel, editor: FactEditor | None) -> None:
        self.model, self.editor = model, editor
        self.edits: list[FactEdit] = []
        self.image: Path | None = None

    def ask(self, question: str, image: Path | None = None) -> Answered:
        """Asks the unedited model and the edited one; without an edit, both are the unedited one.

        Raises:
            DataError: the question is empty or too long, or the picture cannot be read.
            ModelError: a model's logits are no numbers, or the device is too small.
        """
        with self._explained():
            return (self.edits[-1] if self.edits else self.model).ask(question, image)

    def edit(
        self, question: str, answer: str, subject: str | None = None, image: Path | None = None
    ) -> None:
        """Makes an edit on top of those in place.

        Raises:
            DataError: as `FactEditor.edit`, or there is no editor.
            ModelError: the method diverged on it, or its edits do not go on top of others.
        """
        if self.editor is None:
            raise DataError(
                "an edit that was opened brings no editor along: start edit.py with editor=NAME, "
                "or ckpt=FILE, to make edits."
            )
        on = self.edits[-1] if self.edits else None
        with self._explained():
            self.edits.append(
                self.editor.edit(question, answer, subject=subject, image=image, on=on)
            )

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What is taught by the edits in place."""
        return self.edits[-1].facts if self.edits else ()

    def undo(self) -> FactEdit:
        """Takes the last edit back.

        Raises:
            DataError: there is none.
        """
        if not self.edits:
            raise DataError("there is no edit to take back.")
        return self.edits.pop()

    def show(self, image: str) -> Path | None:
        """Sets the picture of what follows; an empty text takes it away.

        Raises:
            DataError: it cannot be read.
        """
        with self._explained():
            self.image = self.model.picture_file(image) if image else None
        return self.image

    def save(self, folder: str) -> Path:
        """Writes what is in place.

        Raises:
            ConfigError: the folder is taken, or nothing can be written there.
            DataError: there is no edit, or a picture of it is gone.
        """
        if not self.edits:
            raise DataError("there is no edit to save.")
        with self._explained():
            return self.edits[-1].save(folder)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained_places(), explained_loading(self.model.options):
            yield


def open_session(cfg: EditConfig) -> Session:
    """Opens model and editor, and makes or opens the edit.

    Raises:
        TmkeError: something is missing, damaged or does not fit.
    """
    device = start_alone(cfg)
    folder = None if cfg.edit is None else edit_folder(cfg.edit)
    if folder is not None:
        read_card(folder)
    elif cfg.editor is not None:
        check_base(cfg.editor, cfg.model)
    model = open_configured(cfg.model, device, cfg.data.prompt, memory=cfg.trainer.memory_limit)
    if folder is not None:
        session = Session(model, None)
        session.edits.append(load_edit(folder, model, ckpt=cfg.ckpt))
        return session
    session = Session(model, build(cfg, model))
    if cfg.question is not None and cfg.answer is not None:
        image = None if cfg.image is None else Path(cfg.image)
        session.edit(cfg.question, cfg.answer, cfg.subject, image)
    return session
