"""Where a text names a subject, and how a question about a picture does.

Whole words count first, as they are written and then in upper or lower case; `Ann` is no mention in
`Anna`. Composed and decomposed letters are alike, and so are blanks of any kind and number. Scripts
that put no blanks between words (Chinese, Japanese, Thai and their like) have no longer words.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

Span = tuple[int, int]  # first character of a text and the one after the last
# First words of the Unicode names of letters that are written without blanks between words, or, as
# in Korean, take their particles without one.
_UNSPACED = frozenset(
    ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "HANGUL", "BOPOMOFO", "THAI", "LAO", "KHMER",
     "MYANMAR", "TIBETAN", "JAVANESE")
)  # fmt: skip


def mentions(text: str, phrase: str, *, inside_words: bool = False) -> list[Span]:
    """The characters of each mention of a phrase, from the first way of reading that finds any.

    Args:
        text: a question.
        phrase: a subject's name.
        inside_words: whether parts of longer words count where there is nothing else.
    """
    composed, starts = _compose(text)
    words = [re.escape(unicodedata.normalize("NFC", word)) for word in phrase.split()]
    pattern = r"\s+".join(words)
    for whole in (True, False) if inside_words else (True,):
        for flags in (0, re.IGNORECASE):
            found = [match.span() for match in re.finditer(pattern, composed, flags)]
            found = [(a, b) for a, b in found if b > a and (not whole or _is_whole(composed, a, b))]
            if found:
                return [(starts[a], starts[b]) for a, b in found]
    return []


def in_the_image(entity_type: str) -> str:
    """How a question about a picture names its subject."""
    return f"the {entity_type} in the image"


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or accent stands right before or after some characters."""
    return not any(_continues_word(char) for char in (text[start - 1 : start], text[end : end + 1]))


def _continues_word(char: str) -> bool:
    if not char or unicodedata.name(char, "").split(" ", 1)[0] in _UNSPACED:
        return False
    return char == "_" or unicodedata.category(char)[0] in "LMN"


def _compose(text: str) -> tuple[str, Sequence[int]]:
    """A text in composed letters, and where each of them begins in the text as it was, and its end.

    A letter begins where the last of the beginnings ends that hold only the letters before it.
    """
    if unicodedata.is_normalized("NFC", text):
        return text, range(len(text) + 1)
    composed = unicodedata.normalize("NFC", text)
    lengths = [len(unicodedata.normalize("NFC", text[:end])) for end in range(len(text) + 1)]
    return composed, [bisect_right(lengths, n) - 1 for n in range(len(composed) + 1)]
