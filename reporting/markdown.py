"""A report as GitHub-flavoured Markdown, with links to its pictures.

Texts of results are data: everything in them to which Markdown or HTML gives a meaning is escaped.
"""

import re
from collections.abc import Sequence

from reporting.blocks import FIGURES, Block, Figure, Items, Section, Span, Table, Text
from reporting.formats import EMPTY, markdown_text, to_markdown
from reporting.gallery import WORST, Case, CaseGroup, Gallery, percent

_MOST_CHARACTERS = 80  # characters of a text in the table of worst cases


def markdown_page(report: Section) -> str:
    """The report as GitHub-flavoured Markdown; pictures are links into `figures/`.

    Of the gallery it holds the worst cases, a line each.
    """
    return _block(report, 1)


def _block(block: Block, level: int) -> str:
    match block:
        case Text(spans):
            return _line(spans) + "\n"
        case Items(items):
            return "".join(f"- {_line(spans)}\n" for spans in items)
        case Table(table):
            return to_markdown(table)
        case Figure(name, _, alt):
            return f"![{markdown_text(alt)}]({FIGURES}/{name}.png)\n"
        case Gallery(groups):
            return "\n".join(_group(group, level) for group in groups)
        case Section(title, blocks):
            parts = [f"{'#' * level} {markdown_text(title)}\n"]
            return "\n".join([*parts, *(_block(inner, level + 1) for inner in blocks)])


def _line(spans: Sequence[Span]) -> str:
    return "".join(_span(span) for span in spans)


def _span(span: Span) -> str:
    if span.mark == "code":
        plain = " ".join(span.text.split())
        # A code span ends at the first run of as many backticks as began it.
        longest = max((len(run) for run in re.findall("`+", plain)), default=0)
        fence = "`" * (longest + 1)
        blank = " " if longest else ""
        return f"{fence}{blank}{plain}{blank}{fence}"
    written = markdown_text(span.text)
    # `markdown_text` drops blanks at the ends, but those divide this span from its neighbours.
    before = " " if span.text[:1].isspace() else ""
    after = " " if span.text[-1:].isspace() else ""
    wrapped = {"bold": f"**{written}**", "underlined": f"<u>{written}</u>"}.get(span.mark, written)
    return f"{before}{wrapped}{after}"


def _group(group: CaseGroup, level: int) -> str:
    parts = [f"{'#' * level} {markdown_text(group.title)}\n"]
    parts += [f"{markdown_text(note)}\n" for note in group.notes]
    worst = [case for case in group.cases if WORST in case.picked]
    if worst:
        header = ["Edit", "Subject", "Question", "New answer", "Probe", "Answer after"]
        lines = [[*header, "Edited", "Kept"], ["---"] * 6 + ["---:"] * 2]
        lines += [_case(case) for case in worst]
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def _case(case: Case) -> list[str]:
    """One line; of its answers the one that decided."""
    worst = case.worst_answer
    texts = [case.subject, case.question, case.target]
    texts += [worst.probe, worst.after] if worst else [None, None]
    cells = [markdown_text(_shorten(text or EMPTY)) for text in texts]
    return [str(case.edit_id), *cells, percent(case.edited), percent(case.kept)]


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
