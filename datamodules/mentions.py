"""Where a text names a subject.

Whole words count first, as they are written and then in upper or lower case; `Ann` is no mention in
`Anna`. Composed and decomposed letters are alike, and so are blanks of any kind and number. Scripts
that put no blanks between words (Chinese, Japanese, Thai and their like) have no longer words.
"""

from __future__ import annotations

import re
import unicodedata

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


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or accent stands right before or after some characters."""
    return not any(_continues_word(char) for char in (text[start - 1 : start], text[end : end + 1]))


def _continues_word(char: str) -> bool:
    if not char or unicodedata.name(char, "").split(" ", 1)[0] in _UNSPACED:
        return False
    return char == "_" or unicodedata.category(char)[0] in "LMN"


def _compose(text: str) -> tuple[str, list[int]]:
    """A text in composed letters, and where each of them begins in the text as it was, and its end.

    Letters that compose are few and stand side by side, so each group is composed by itself.
    """
    if text.isascii():
        return text, [*range(len(text) + 1)]
    parts: list[str] = []
    starts: list[int] = []
    begin = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and _joins(text[begin:end], text[end]):
            continue
        part = unicodedata.normalize("NFC", text[begin:end])
        parts.append(part)
        starts += [begin] * len(part)
        begin = end
    return "".join(parts), [*starts, len(text)]


def _joins(before: str, char: str) -> bool:
    """Whether a character changes what stands before it, or stands on it as an accent does."""
    if char.isascii():
        return False
    apart = unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", char)
    return unicodedata.combining(char) > 0 or unicodedata.normalize("NFC", before + char) != apart
