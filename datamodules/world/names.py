"""Made-up names for the generated world: pronounceable, unique, the same for the same seed.

A name is built from consonant-vowel syllables. Names differ in their first four letters as long as
such names are left, so that a tokenizer that splits a name still tells it from the others early.
"""

from __future__ import annotations

import random

from datamodules.world.catalogue import RELATIONS, WORD_LISTS

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
ENDINGS = ("", "n", "r", "l", "s", "")
PREFIX_LETTERS = 4
TRIES = 200
FIRST_NAMES = 16
COMPANY_KINDS = ("Labs", "Group", "Works", "Corp")
LANDMARK_KINDS = ("Tower", "Hall", "Palace", "Bridge")
CITY_ENDINGS = ("burg", "ville")
# Syllables can spell words that nobody wants to meet in a picture caption.
UNWANTED = frozenset({"rape", "nazi", "kike", "dago", "pedo", "puta", "penis", "semen", "negro"})


class NameMaker:
    """Draws words that were not drawn before and that no wording or word list contains."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._words = set(UNWANTED) | _reserved_words()
        self._prefixes: set[str] = set()

    def word(self, ending: str = "") -> str:
        """A new capitalised word, e.g. "Gofin"; `ending` is appended to it ("Gofinburg")."""
        for attempt in range(100 * TRIES):
            word = self._draw(syllables=2 + attempt // TRIES)
            if word in self._words:
                continue
            # Give up distinct beginnings when they run out, uniqueness never.
            if word[:PREFIX_LETTERS] in self._prefixes and attempt < TRIES:
                continue
            self._words.add(word)
            self._prefixes.add(word[:PREFIX_LETTERS])
            return (word + ending).capitalize()
        raise RuntimeError("no unused name found; longer names should always exist")

    def _draw(self, syllables: int) -> str:
        choice = self._rng.choice
        body = "".join(choice(CONSONANTS) + choice(VOWELS) for _ in range(syllables))
        return body + choice(ENDINGS)


def entity_names(rng: random.Random, size: int, cities: int) -> dict[str, list[str]]:
    """Names per type: `size` companies, landmarks and people, and `cities` cities.

    People share a few first names and have a family name of their own, as in "Tama Duva".
    """
    make = NameMaker(rng)
    first_names = [make.word() for _ in range(FIRST_NAMES)]
    return {
        "company": [f"{make.word()} {COMPANY_KINDS[i % 4]}" for i in range(size)],
        "landmark": [f"{make.word()} {LANDMARK_KINDS[i % 4]}" for i in range(size)],
        "person": [f"{rng.choice(first_names)} {make.word()}" for _ in range(size)],
        "city": [make.word(CITY_ENDINGS[i % 2]) for i in range(cities)],
    }


def _reserved_words() -> set[str]:
    texts = [wording for plan in RELATIONS.values() for wording in plan.wordings]
    texts += [plan.hop_phrase for plan in RELATIONS.values()] + list(WORD_LISTS.values())
    return {word.strip("?.,").lower() for text in texts for word in text.split()}
