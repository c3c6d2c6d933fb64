"""The prompt of edit.py: a line is a question, one that begins with a slash is a command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.text import Text

from configs.overrides import suggest
from editing.answer import Answered
from editing.edit import Fact
from editing.session import Session
from editing.table import answers_table, can_draw
from errors import DataError, TmkeError

_EDIT = "/edit QUESTION => ANSWER [| SUBJECT]"
_HELP = {
    "a line": "is a question to both models",
    "/image FILE": "the picture that questions and edits are about from here on; /image: none",
    _EDIT: "changes another fact, on top of the edits in place",
    "/undo": "takes the last edit back",
    "/edits": "lists the edits in place",
    "/save DIR": "writes what is in place; edit=DIR opens it again",
    "/help": "this list",
    "/quit": "ends, as Ctrl-D does",
}


class Prompt:
    """Reads lines and answers them.

    Attributes:
        session: what they are about.
        console: for answers.
        mistakes: how many lines were answered by an error, which goes to stderr.
    """

    def __init__(self, session: Session, console: Console) -> None:
        self.session, self.console, self.mistakes = session, console, 0
        self._commands: dict[str, Callable[[str], None]] = {
            "image": self._image, "edit": self._edit, "undo": self._undo, "edits": self._edits,
            "save": self.save, "help": self._help,
        }  # fmt: skip

    def run(self, lines: Iterable[str]) -> None:
        """Answers lines up to /quit; a mistake is told, and the next line is read."""
        for line in map(str.strip, lines):
            if line == "/quit":
                return
            try:
                self._answer(line)
            except TmkeError as error:
                self.mistakes += 1
                print(f"error: {error}", file=sys.stderr, flush=True)

    def show(self, answers: Sequence[Answered]) -> None:
        """Prints answers before and after."""
        self.console.print(answers_table(answers, pictures=can_draw(self.console)))

    def _answer(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("/"):
            self.show([self.session.ask(line, self.session.image)])
            return
        name, _, rest = line[1:].partition(" ")
        if name not in self._commands:
            names = [f"/{known}" for known in (*self._commands, "quit")]
            raise DataError(
                f"there is no command /{name}{suggest(f'/{name}', names)}; there are "
                f"{', '.join(names)}, and a question begins with no slash."
            )
        self._commands[name](rest.strip())

    def _image(self, path: str) -> None:
        image = self.session.show(path)
        self._say("No picture from here on." if image is None else f"Picture: {image}")

    def _edit(self, text: str) -> None:
        self.session.edit(*parse_edit(text), self.session.image)
        fact = self.session.facts[-1]
        self.show([self.session.ask(fact.question, fact.image)])

    def _undo(self, rest: str) -> None:
        self._nothing("undo", rest)
        fact = self.session.undo().facts[-1]
        self._say(f"Taken back: {fact_line(fact)}")

    def _edits(self, rest: str) -> None:
        self._nothing("edits", rest)
        for number, fact in enumerate(self.session.facts, 1):
            self._say(f"{number}. {fact_line(fact)}")
        if not self.session.facts:
            self._say("No edit is in place.")

    def save(self, folder: str) -> None:
        """Writes what is in place, and says where.

        Raises:
            TmkeError: as `Session.save`.
        """
        if not folder:
            raise DataError("/save DIR: name a folder, new or empty.")
        self._say(f"Written to {self.session.save(folder)}")

    def _help(self, rest: str) -> None:
        self._nothing("help", rest)
        width = max(map(len, _HELP))
        for command, purpose in _HELP.items():
            self._say(f"{command:<{width}}  {purpose}")

    def _nothing(self, command: str, rest: str) -> None:
        if rest:
            raise DataError(f"/{command} takes nothing, and {rest!r} stands behind it.")

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def parse_edit(text: str) -> tuple[str, str, str | None]:
    """Question, answer and subject of a typed edit.

    Raises:
        DataError: the arrow is missing; an empty part is told by who makes the edit.

    >>> parse_edit("Who founded Daven Labs? => Nigo Vegas | Daven Labs")
    ('Who founded Daven Labs?', 'Nigo Vegas', 'Daven Labs')
    """
    question, arrow, rest = text.partition("=>")
    if not arrow:
        raise DataError(f"{_EDIT}: an arrow stands between question and answer.")
    answer, _, subject = rest.partition("|")
    return question.strip(), answer.strip(), subject.strip() or None


def fact_line(fact: Fact) -> str:
    """A fact as it is typed behind /edit, and its picture.

    >>> fact_line(Fact("Who?", "me", subject="Who"))
    'Who? => me | Who'
    """
    subject = f" | {fact.subject}" if fact.subject else ""
    picture = f"  [{fact.image.name}]" if fact.image else ""
    return f"{fact.question} => {fact.answer}{subject}{picture}"
