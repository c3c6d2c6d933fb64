"""Whether a freely generated answer is the wanted one, compared as text.

Words are compared as SQuAD's evaluation does (Rajpurkar et al. 2016). Its removal of all
punctuation makes 105 of 10.5, 5 of -5 and 34 of 3/4: what stands between digits, or makes a number
negative, is kept here. Spellings that Unicode calls alike are alike.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Compatibility forms that say something else than the letters that Unicode gives for them: 10² is
# not 102, and 2½ not 21/2.
_ANOTHER_MEANING = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
_TYPED = str.maketrans("‘’‚‛′´`“”„‟″‐‑‒–—―−", "'" * 7 + '"' * 5 + "-" * 7)
_THOUSANDS = re.compile(
    r"(?<![\d.,'])\d{1,3}(?:(?P<mark>[,'])\d{3})(?:(?P=mark)\d{3})*(?!\d|[,']\d)"
)
_OF_A_NUMBER = re.compile(
    r"(?<=\d)[^\w\s](?=\d)|(?<=\de)-(?=\d)|(?<!\w)-(?=[$£€¥]?\.?\d)|(?<![\w.])\.(?=\d)"
)


def normalised(answer: str) -> str:
    """An answer as it is compared.

    In one Unicode form, lower case, without punctuation and English articles, spaces collapsed; a
    sign, and what stands between digits, belongs to a number and stays, but for the marks of
    thousands. An answer of which nothing would be left stays as it is.

    >>> normalised("The  Beatles."), normalised("A")
    ('beatles', 'a')
    >>> normalised("-10.5"), normalised("1,050."), normalised("3/4")
    ('-10.5', '1050', '3/4')
    """
    low = _one_form(answer.strip()).lower()
    before, words = "", low
    while words and words != before:  # without a colon, the dash of 1:-5 stands between digits
        before, words = words, _words(words)
    return words or before or low


def generation_match(generated: str, target: str, aliases: Sequence[str] = ()) -> float:
    r"""1 if a greedily generated answer is the target or another name of it, else 0.

        match = [normalised(first lines of generated) = normalised(a) for an a of target, aliases]

    Unlike the teacher-forced measures, the model has to stop by itself: it ends with its end token
    or a new line, after as many lines as the target has. Words after the answer make it wrong.

    Args:
        generated: what the model said after the prompt, without its end token.
        target: the answer that is scored.
        aliases: its other names; the answer ends after as many lines as the name has.

    >>> generation_match(" George Eliot.\nQuestion: Who", "George Eliot")
    1.0
    >>> generation_match("Mary Ann Evans", "George Eliot", ["Mary Ann Evans"])
    1.0
    >>> generation_match("George Eliot was born in", "George Eliot")
    0.0
    """
    names = (target, *aliases)
    return float(any(normalised(first_lines(generated, n)) == normalised(n) for n in names))


def first_lines(generated: str, target: str) -> str:
    """The lines of a generated answer that are compared: as many as the target has."""
    lines = generated.lstrip(" ").split("\n")
    return "\n".join(lines[: 1 + target.strip().count("\n")])


def has_ended(generated: str, target: str) -> bool:
    """Whether a generated answer has come to the line break that ends it."""
    return generated.count("\n") > target.strip().count("\n")


def _one_form(text: str) -> str:
    """The text with typographic quotes and dashes as typed ones, composed, and in full letters."""
    folded = (
        letter
        if unicodedata.decomposition(letter).startswith(_ANOTHER_MEANING)
        else unicodedata.normalize("NFKC", letter)
        for letter in text.translate(_TYPED)
    )
    return unicodedata.normalize("NFC", "".join(folded))


def _words(low: str) -> str:
    """A lower-case answer without punctuation and articles."""
    plain = _THOUSANDS.sub(lambda number: re.sub(r"[,']", "", number[0]), low)
    kept = {found.start() for found in _OF_A_NUMBER.finditer(plain)}
    words = "".join(
        letter for at, letter in enumerate(plain) if at in kept or not _is_punctuation(letter)
    )
    return unicodedata.normalize("NFC", " ".join(_ARTICLES.sub(" ", words).split()))


def _is_punctuation(letter: str) -> bool:
    """ASCII's punctuation as SQuAD has it, and that of other scripts."""
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")
