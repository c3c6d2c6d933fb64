"""The screen: a text is shown as it is, whatever rich or the terminal would make of it.

Rich takes `[name]` in a text for a style and `:name:` for a picture; both may be parts of a path. A
terminal whose encoding lacks a letter gets its number.
"""

import sys
from typing import TextIO

from rich.console import Console


def screen(*, stderr: bool = False, highlight: bool = True, narrowest: int = 0) -> Console:
    """A console for texts of users and data; styles come as `rich.text.Text`.

    Args:
        stderr: whether it is stderr, which holds what is no result.
        highlight: whether numbers, paths and the like are coloured.
        narrowest: columns that a file or a pipe has at least.
    """
    stream: TextIO = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    console = Console(stderr=stderr, highlight=highlight, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, narrowest)
    return console
