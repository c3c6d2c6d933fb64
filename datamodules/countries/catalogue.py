"""What is asked about countries: relations, wordings, hops and views.

Nine relations of countries, from what a small language model knows (capital, continent, language)
to what it hardly does (calling code), and one of their capitals, which are known by name alone.
An edit of a capital or of the largest neighbour can be followed by a second question: "On which
continent is the capital of France?".
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTRY, CITY = "country", "city"
NOUNS = {COUNTRY: "country", CITY: "city"}
SEEN_VIEWS = ("flag", "flag_square", "map", "map_neighbours")
UNSEEN_VIEWS = ("flag_waved", "map_atlas")


@dataclass(frozen=True)
class RelationPlan:
    """How a relation is asked.

    Attributes:
        subject_type: `COUNTRY` or `CITY`.
        hop_phrase: how the object is named through its subject.
        wordings: six questions; the first asks the edit, the others its paraphrases.
    """

    subject_type: str
    hop_phrase: str
    wordings: tuple[str, ...]


_WHICH_CONTINENT = (
    "On which continent is {s}?", "Which continent is {s} part of?",
    "What continent is {s} in?", "Name the continent of {s}.",
    "Which continent does {s} belong to?", "On what continent is {s} located?",
)  # fmt: skip
RELATIONS = {
    "capital": RelationPlan(COUNTRY, "the capital of {s}", (
        "What is the capital of {s}?", "Which city is the capital of {s}?",
        "What is the capital city of {s}?", "Name the capital of {s}.",
        "Which city is {s} governed from?", "What is the name of the capital of {s}?",
    )),
    "continent": RelationPlan(COUNTRY, "the continent of {s}", _WHICH_CONTINENT),
    "region": RelationPlan(COUNTRY, "the region of {s}", (
        "Which region of the world is {s} in?", "In which part of the world is {s}?",
        "Where in the world is {s} located?", "Name the region of the world that {s} lies in.",
        "Which world region does {s} belong to?", "What part of the world is {s} in?",
    )),
    "currency": RelationPlan(COUNTRY, "the currency of {s}", (
        "What is the currency of {s}?", "Which currency is used in {s}?",
        "What money do people pay with in {s}?", "Name the currency of {s}.",
        "Which currency does {s} use?", "What is the official currency of {s}?",
    )),
    "main_language": RelationPlan(COUNTRY, "the main language of {s}", (
        "What is the main language of {s}?", "Which language is spoken in {s}?",
        "What language do people speak in {s}?", "Name the main language of {s}.",
        "Which language do most people in {s} speak?", "What is the language of {s}?",
    )),
    "nationality": RelationPlan(COUNTRY, "the nationality of people from {s}", (
        "What nationality are people from {s}?", "Which nationality does a person from {s} have?",
        "What are people from {s} called?", "Name the nationality of people from {s}.",
        "What do you call a person from {s}?", "What is the nationality of someone from {s}?",
    )),
    "largest_neighbour": RelationPlan(COUNTRY, "the largest neighbour of {s}", (
        "What is the largest neighbour of {s}?", "Which is the largest country that borders {s}?",
        "Which country is the largest neighbour of {s}?", "Name the largest neighbour of {s}.",
        "What is the biggest country next to {s}?", "What is the largest country bordering {s}?",
    )),
    "internet_domain": RelationPlan(COUNTRY, "the internet domain of {s}", (
        "What is the internet domain of {s}?", "Which internet domain does {s} use?",
        "What do internet addresses in {s} end with?", "Name the internet domain of {s}.",
        "Which top-level domain belongs to {s}?", "What is the country code domain of {s}?",
    )),
    "calling_code": RelationPlan(COUNTRY, "the calling code of {s}", (
        "What is the calling code of {s}?", "Which calling code does {s} have?",
        "What is the telephone code of {s}?", "Name the calling code of {s}.",
        "Which number do you dial first to call {s}?", "What is the phone prefix of {s}?",
    )),
    "city_continent": RelationPlan(CITY, "the continent of {s}", _WHICH_CONTINENT),
}  # fmt: skip

HOPS = (
    ("capital", "city_continent"), ("largest_neighbour", "capital"),
    ("largest_neighbour", "continent"), ("largest_neighbour", "region"),
    ("largest_neighbour", "currency"), ("largest_neighbour", "main_language"),
    ("largest_neighbour", "nationality"), ("largest_neighbour", "internet_domain"),
    ("largest_neighbour", "calling_code"),
)  # fmt: skip
