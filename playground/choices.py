"""What can be chosen on the page: models that are there, editors, facts of the world they know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from configs.check import load_edit_config
from configs.composing import CONFIG_DIR
from configs.models import every_model
from configs.overrides import group_options
from configs.schema import ModelOptions
from datamodules.prompts import PromptMaker
from datamodules.records import Record
from datamodules.scenarios import IMAGE_PROBES, TEXT_PROBES
from datamodules.source import RecordSource
from editing.model import model_words
from editors.options import TrainedEditorOptions
from editors.registry import editor_names, registration

# Probe -> what is said of it; those that ask the same as another one are left out.
_IN_TEXT = {
    "reliability": "the edited question",
    "generality": "in other words",
    "portability": "one step further",
    "locality_near": "the same of another subject",
    "locality_subject": "another fact of the subject",
    "locality_far": "something else",
}
_ABOUT_PICTURES = {
    "reliability_s": "about its picture",
    "reliability_u": "about another picture of it",
    "generality_s": "about its picture, in other words",
    "portability": "about its picture, one step further",
    "locality_i_near": "about the picture of another subject",
    "locality_i_subject": "about its picture, another fact",
    "locality_i_far": "about another picture, something else",
}


@dataclass(frozen=True)
class Question:
    """A question that can be picked.

    Attributes:
        about: how it is related to the fact.
        image: the file that it is about.
    """

    about: str
    question: str
    image: Path | None

    def __str__(self) -> str:
        return f"{self.about}: {self.question}"


@dataclass(frozen=True)
class Example:
    """A fact of the world, a new answer to it, and what can be asked afterwards.

    Attributes:
        image: a picture of the subject, and `image_question` what to ask about it.
    """

    subject: str
    question: str
    answer_true: str
    answer_new: str
    image: Path | None
    image_question: str | None
    questions: tuple[Question, ...]

    def __str__(self) -> str:
        return f"{self.question} {self.answer_true} → {self.answer_new}"


def models() -> list[str]:
    """Names in configs/model whose folders are there."""
    return [options.name for options in every_model() if _is_there(options)]


def _is_there(options: ModelOptions) -> bool:
    folder = Path(options.path)
    return any((root / folder / "config.json").is_file() for root in (Path(), CONFIG_DIR.parent))


def editors() -> list[str]:
    """Names in configs/editor of all that edit."""
    return [name for name in group_options("editor") if name != "none"]


def needs_checkpoint(editor: str) -> bool:
    """Whether train.py has to train it first."""
    if editor not in editor_names():  # settings of a method under another name; none is trained
        return False
    return issubclass(registration(editor).options, TrainedEditorOptions)


def read_examples(model: ModelOptions) -> list[Example]:
    """Facts of the world that a model knows, from its test split.

    Raises:
        TmkeError: they cannot be read.
    """
    source = load_edit_config(["editor=ft", *model_words(model)]).data.read()
    return [example(record, source) for record in source.records("test")]


def example(record: Record, source: RecordSource) -> Example:
    """What can be taught and asked of one record."""
    edit = record.knowledge_edit
    # What other sources may lack, the records of a world have.
    assert record.subject is not None
    assert edit.question is not None
    assert edit.answer_true is not None
    questions = chain(
        _questions(record, source, TEXT_PROBES, _IN_TEXT),
        _questions(record, source, IMAGE_PROBES, _ABOUT_PICTURES),
    )
    return Example(
        record.subject,
        edit.question,
        edit.answer_true,
        edit.answer_new,
        _file(source, record.image),
        edit.image_question,
        tuple(questions),
    )


def _questions(
    record: Record,
    source: RecordSource,
    probes: Mapping[str, PromptMaker],
    titles: Mapping[str, str],
) -> list[Question]:
    """The record's questions of these probes, without those that it lacks."""
    asked = ((title, probes[name](record)) for name, title in titles.items())
    return [
        Question(
            title,
            prompt.question,
            _file(source, prompt.image),
        )
        for title, prompt in asked
        if prompt is not None
    ]


def _file(source: RecordSource, name: str | None) -> Path | None:
    """The picture of a name."""
    path = None if name is None else source.pictures.path(name)
    assert path is None or isinstance(path, Path)  # those of a world are files
    return path
