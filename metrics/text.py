"""Whether a freely generated answer is the wanted one, compared as text."""

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """An answer as SQuAD's evaluation compares it (Rajpurkar et al. 2016).

    Lower case, without punctuation and English articles, spaces collapsed; an answer of which
    nothing would be left stays as it is.

    >>> normalised("The  Beatles."), normalised("A")
    ('beatles', 'a')
    """
    low = answer.strip().lower()
    return " ".join(_ARTICLES.sub(" ", low.translate(_PUNCTUATION)).split()) or low


def generation_match(generated: str, target: str) -> float:
    r"""1 if a greedily generated answer is the target, else 0.

        match = [normalised(first line of generated) = normalised(target)]

    Unlike the teacher-forced measures, the model has to stop by itself: it ends with its end token
    or a new line. Words after the answer make it wrong.

    Args:
        generated: what the model said after the prompt, without its end token.
        target: the answer that is scored.

    >>> generation_match(" George Eliot.\nQuestion: Who", "George Eliot")
    1.0
    >>> generation_match("George Eliot was born in", "George Eliot")
    0.0
    """
    answer = generated.lstrip(" ").split("\n", 1)[0]
    return float(normalised(answer) == normalised(target))
