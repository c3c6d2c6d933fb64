"""Questions about a picture: a text question with "the book in the image" for its subject.

    Who is the author of Middlemarch?   ->  Who is the author of the book in the image?

(Supplementary, "Dataset construction".) An article before the subject goes with it, and so do
quotation marks around it: the benchmark's own files have "the the document in the image" where they
stayed.
"""

from __future__ import annotations

import re

from datamodules.mentions import in_the_image, mentions

_ARTICLE = re.compile(r"(?<!\w)(?:the|an|a)\s+$", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "`": "`"}
_ENDS = frozenset(".?!:")  # a sentence begins after them


def about_picture(question: str, subject: str, entity_type: str) -> str | None:
    """The question about a picture of the subject; None where it does not name the subject.

    >>> about_picture("Who founded the Victoria Cross?", "Victoria Cross", "award")
    'Who founded the award in the image?'
    """
    named = mentions(question, subject)
    for start, end in reversed(named):
        start, end = _with_marks(question, start, end)
        phrase = in_the_image(entity_type)
        if _begins_sentence(question[:start]):
            phrase = phrase[0].upper() + phrase[1:]
        question = question[:start] + phrase + question[end:]
    return question if named else None


def identity_question(entity_type: str) -> str:
    """Who or what a picture shows."""
    return f"What is the name of {in_the_image(entity_type)}?"


def _with_marks(question: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a mention with its quotation marks and the article before it."""
    before, after, beyond = (question[at : at + 1] for at in (start - 1, end, end + 1))
    if after and _QUOTES.get(before) == after and not beyond.isalnum():  # no apostrophe
        start, end = start - 1, end + 1
    article = _ARTICLE.search(question[:start])
    return (start if article is None else article.start()), end


def _begins_sentence(before: str) -> bool:
    text = before.rstrip()
    return not text or text[-1] in _ENDS
