"""Changes one fact of a model and asks: before and after as a table, or a prompt to talk to it.

`python edit.py --help` shows examples and options.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs.launch import run_edit

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import EditConfig


def main(cfg: EditConfig) -> int:
    """Makes or opens the edit, shows what it changes, and asks; returns the exit status.

    Lines of a pipe that were mistakes make it that of a mistake.
    """
    from editing.lines import is_typed, lines
    from editing.prompt import Prompt
    from editing.session import open_session
    from errors import USER_ERROR
    from results.screen import screen

    session = open_session(cfg)
    prompt = Prompt(session, screen(narrowest=120))
    answers = [session.ask(fact.question, fact.image) for fact in session.facts]
    if cfg.ask is not None:
        answers.append(session.ask(cfg.ask, None if cfg.ask_image is None else Path(cfg.ask_image)))
    if answers:
        prompt.show(answers)
    if cfg.save is not None:
        prompt.save(cfg.save)
    if cfg.ask is None:
        prompt.run(lines())
    return USER_ERROR if prompt.mistakes and not is_typed() else 0


if __name__ == "__main__":
    run_edit(main)
