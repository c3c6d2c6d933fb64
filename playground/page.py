"""The page: what stands on it, from top to bottom, and what its buttons do.

Streamlit runs `show` anew after each click. What has to outlast that is in its session state (of
one visitor) or in its cache (of all): models and editors, which one visitor at a time may use.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock

import streamlit as st

from datamodules.picture_file import read_image
from editing.answer import Answered
from editing.editor import FactEditor, open_editor
from editing.model import OpenedModel, open_model
from editing.session import Session
from errors import ConfigError, TmkeError
from playground.choices import (
    Example,
    Question,
    editors,
    models,
    needs_checkpoint,
    read_examples,
)
from playground.table import answer_table
from results.files import replacing

STATE = st.session_state
SHOWN = 6  # answers at once; all of them are asked again after each edit
GALLERY, COLUMNS = 40, 8  # pictures, and how many stand side by side
_LOCK = Lock()  # an edit is made with those before it in place, which others must not see


def show() -> None:
    """The whole page."""
    st.set_page_config(page_title="Edit a fact, ask the model", layout="wide")
    st.title("Edit a fact, ask the model")
    with _told():
        with st.sidebar:
            session, examples = _open()
        _begin(examples)
        if (problem := STATE.pop("problem", None)) is not None:
            st.error(plain(problem))
        teach, picture, ask = st.columns([3, 2, 3], gap="large")
        with teach:
            _teach(session, examples)
        with picture:
            _choose_picture(examples)
        with ask:
            _ask(session)
        if STATE.gallery:
            _gallery(examples)
        _answers(session)
        with st.sidebar:
            _edits(session)


def plain(text: object) -> str:
    r"""A text for where Streamlit reads Markdown, to be shown as it is.

    >>> print(plain("editor=ft_l: *"))
    editor\=ft\_l\: \*
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text))


@contextmanager
def _told() -> Iterator[None]:
    """Shows an error of the user instead of what would have come behind it."""
    try:
        yield
    except TmkeError as error:
        st.error(plain(error))


def _doing(action: Callable[..., object]) -> Callable[..., None]:
    """What a button does; an error of the user stands on the page afterwards."""

    def act(*arguments: object) -> None:
        try:
            action(*arguments)
        except TmkeError as error:
            STATE.problem = error

    return act


# --- model and editor


@st.cache_resource(show_spinner="Opening the model ...", max_entries=2)
def _model(name: str) -> OpenedModel:
    return open_model(name)


@st.cache_resource(show_spinner="Opening the editor ...", max_entries=8)
def _editor(model: str, name: str, ckpt: str | None) -> FactEditor:
    return open_editor(name, _model(model), ckpt=ckpt)


@st.cache_resource(show_spinner="Reading the world ...", max_entries=2)
def _examples(model: str) -> list[Example]:
    return read_examples(_model(model).options)


@st.cache_resource
def _uploads() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="uploads-")


def _open() -> tuple[Session, list[Example]]:
    """What was chosen; another model begins anew, another editor makes the edits from here on.

    Raises:
        TmkeError: it cannot be opened.
    """
    names = models()
    if not names:
        raise ConfigError("no model of configs/model is there: run this from a whole checkout.")
    default = names.index("llava_tiny") if "llava_tiny" in names else 0
    name = st.selectbox("Model", names, index=default, key="model")
    choices = editors()
    editor = st.selectbox("Editor", choices, index=choices.index("ft"), key="editor")
    ckpt = None
    if needs_checkpoint(editor):
        typed = st.text_input("Checkpoint of the trained editor", key="ckpt")
        ckpt = typed.strip() or None
    if STATE.get("opened") != name:
        for key in [key for key in STATE if key not in ("model", "editor", "ckpt")]:
            del STATE[key]
        STATE.session, STATE.opened = Session(_model(name), None), name
    STATE.session.editor = _editor(name, editor, ckpt)
    return STATE.session, _examples(name)


def _begin(examples: Sequence[Example]) -> None:
    """Fills the page with the first fact."""
    if "question" not in STATE:
        STATE.example = examples[0]
        STATE.update(asked=[], answers={}, uploaded=[], gallery=False, ask_pictured=False)
        _fill()


# --- teach


def _teach(session: Session, examples: Sequence[Example]) -> None:
    st.subheader("Teach")
    st.selectbox("A fact of the world", examples, key="example", on_change=_fill)
    st.checkbox("The question is about the picture", key="pictured", on_change=_fill_question)
    st.text_input("Question", key="question")
    st.text_input("New answer", key="answer")
    st.text_input("Subject, as it stands in the question (ROME needs it)", key="subject")
    st.button("Edit", type="primary", on_click=_doing(_edit), args=(session,))


def _fill() -> None:
    """Everything of the fact that was picked."""
    fact: Example = STATE.example
    STATE.update(answer=fact.answer_new, pictured=False, suggested=None)
    if fact.image is not None:
        STATE.picture = fact.image
    STATE.update(ask=fact.question, ask_pictured=False)
    _fill_question()


def _fill_question() -> None:
    fact: Example = STATE.example
    STATE.question = (STATE.pictured and fact.image_question) or fact.question
    STATE.subject = "" if STATE.pictured else fact.subject


def _edit(session: Session) -> None:
    image = STATE.get("picture") if STATE.pictured else None
    with _LOCK:
        session.edit(STATE.question, STATE.answer, STATE.subject.strip() or None, image)
    _remember(STATE.question, image)


def _edits(session: Session) -> None:
    """Those in place, and the way back."""
    st.subheader("Edits in place")
    if not session.edits:
        st.caption("none: the model answers as it was trained")
    for fact in session.facts:
        st.text(f"{fact.question} → {fact.answer}" + (" (picture)" if fact.image else ""))
    undo, reset = st.columns(2)
    undo.button("Undo", on_click=_doing(session.undo), disabled=not session.edits)
    reset.button("Reset", on_click=_reset, args=(session,))


def _reset(session: Session) -> None:
    session.edits.clear()
    STATE.asked = []


# --- the picture that both are about


def _choose_picture(examples: Sequence[Example]) -> None:
    st.subheader("Picture")
    pictures = [*STATE.uploaded, *_pictures(examples)]
    if pictures:
        name = partial(_picture_name, uploaded=frozenset(STATE.uploaded))
        st.selectbox("Of the world", pictures, format_func=name, key="picture")
        with _told():
            st.image(read_image(STATE.picture), width="stretch")
        st.toggle("Gallery", key="gallery")
    st.file_uploader("or one of yours", key="upload", on_change=_doing(_upload))


def _pictures(examples: Sequence[Example]) -> list[Path]:
    """All that the examples show, each once."""
    of_facts = (example.image for example in examples)
    of_questions = (question.image for example in examples for question in example.questions)
    return sorted({image for image in (*of_facts, *of_questions) if image is not None})


def _picture_name(path: Path, uploaded: Collection[Path]) -> str:
    if path in uploaded:
        return f"yours: {path.name}"
    return f"{path.parent.name.replace('_', ' ')}, {path.stem.replace('_', ' ')}"


def _upload() -> None:
    """Keeps a picture for as long as the page is served.

    Raises:
        DataError: it cannot be read.
    """
    if STATE.upload is None:
        return
    content = STATE.upload.getvalue()
    path = Path(_uploads().name) / f"{sha256(content).hexdigest()[:12]}{_ending(STATE.upload.name)}"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        read_image(temporary)
    STATE.uploaded = [path, *(other for other in STATE.uploaded if other != path)]
    STATE.picture = path


def _ending(name: str) -> str:
    return re.sub(r"[^.a-zA-Z0-9]", "", Path(name).suffix)


def _gallery(examples: Sequence[Example]) -> None:
    """One picture of each subject; a click takes it."""
    firsts = {example.subject: example.image for example in examples if example.image}
    columns = st.columns(COLUMNS)
    for number, (subject, image) in enumerate(list(firsts.items())[:GALLERY]):
        with columns[number % COLUMNS]:
            st.image(read_image(image), width="stretch")
            st.button(plain(subject), key=f"picture of {subject}", on_click=_take, args=(image,))


def _take(image: Path) -> None:
    STATE.picture = image


# --- ask


def _ask(session: Session) -> None:
    st.subheader("Ask")
    fact: Example = STATE.example
    st.selectbox(
        "A question around this fact", fact.questions, index=None, key="suggested",
        placeholder="Choose one, or type another below", on_change=_suggest,
    )  # fmt: skip
    st.checkbox("About the picture", key="ask_pictured")
    st.text_input("Question to ask", key="ask")
    st.button("Ask", type="primary", on_click=_doing(_put), args=(session,))


def _suggest() -> None:
    if (question := STATE.suggested) is not None:
        suggested: Question = question
        STATE.update(ask=suggested.question, ask_pictured=suggested.image is not None)
        if suggested.image is not None:
            STATE.picture = suggested.image


def _put(session: Session) -> None:
    image = STATE.get("picture") if STATE.ask_pictured else None
    _answer(session, STATE.ask, image)  # refuses before it stands among the questions
    _remember(STATE.ask, image)


def _remember(question: str, image: Path | None) -> None:
    one = (question, image)
    STATE.asked = [one, *(other for other in STATE.asked if other != one)][:SHOWN]


def _answers(session: Session) -> None:
    """The last questions, as they are answered with the edits that are in place now."""
    st.subheader("Before and after")
    if not STATE.asked:
        st.caption("Edit or ask, and both models' answers stand here.")
    for question, image in STATE.asked:
        answers, picture = st.columns([7, 1])
        if image is not None:
            picture.image(read_image(image), width="stretch")
        with answers, st.spinner("Asking ..."):
            st.html(answer_table(_answer(session, question, image)))


def _answer(session: Session, question: str, image: Path | None) -> Answered:
    """Asked once for each state of the edits."""
    edits = tuple(session.edits)  # kept with the answer: another edit would get the id of one gone
    key = (question, image, tuple(map(id, edits)))
    if key not in STATE.answers:
        with _LOCK:
            STATE.answers[key] = (edits, session.ask(question, image))
    answer: Answered = STATE.answers[key][1]
    return answer
