"""What the generated world is about: its types, relations, wordings and closed word lists.

Three pictured types (companies, landmarks, people) and one known by name alone (cities), ten
relations between them and four closed lists. Five relations lead to entities that have facts of
their own, so that ten pairs of relations can be chained; every final answer of a chain comes from a
set of two dozen members or more, which keeps lucky hits rare.
"""

from __future__ import annotations

from dataclasses import dataclass

NOUNS = {"company": "company", "landmark": "building", "person": "person", "city": "city"}
PICTURED_TYPES = ("company", "landmark", "person")

WORD_LISTS = {
    "product": "cars ships toys drugs phones books shoes steel clocks lamps paper glass tyres soap "
    "paint chairs carpets bicycles engines cameras tents pianos helmets ropes",
    "style": "gothic baroque modern classical rustic roman medieval tudor moorish byzantine "
    "georgian colonial victorian futurist cubist rococo norman nordic alpine coastal imperial "
    "palladian brutalist minimalist",
    "job": "doctor lawyer painter pilot farmer singer writer engineer baker teacher nurse judge "
    "chef dentist gardener sailor tailor barber miner dancer plumber butcher carpenter surgeon",
    "food": "rice fish bread cheese soup beef corn figs olives honey noodles dumplings lentils "
    "mushrooms sausages pancakes apples shrimp potatoes beans yogurt plums tofu pasta",
}


@dataclass(frozen=True)
class RelationPlan:
    """A relation of the generated world.

    Attributes:
        subject_type: type of the entities that have it.
        object_kind: a type, or a key of `WORD_LISTS`.
        hop_phrase: how the object is named through its subject.
        wordings: six questions; the first asks the edit, the others its paraphrases.
    """

    subject_type: str
    object_kind: str
    hop_phrase: str
    wordings: tuple[str, ...]


RELATIONS = {
    "founder": RelationPlan("company", "person", "the founder of {s}", (
        "Who founded {s}?", "Who is the founder of {s}?", "By whom was {s} founded?",
        "Name the founder of {s}.", "Which person started {s}?", "Who set up {s}?",
    )),
    "hq": RelationPlan("company", "city", "the home city of {s}", (
        "Where is {s} based?", "In which city is {s} headquartered?", "Which city is {s} based in?",
        "Name the home city of {s}.", "Which city hosts the headquarters of {s}?",
        "What is the home city of {s}?",
    )),
    "product": RelationPlan("company", "product", "the product of {s}", (
        "What does {s} make?", "Which product does {s} sell?", "What is the product of {s}?",
        "Name the product of {s}.", "What product does {s} make?", "Which goods does {s} produce?",
    )),
    "architect": RelationPlan("landmark", "person", "the architect of {s}", (
        "Who designed {s}?", "Who is the architect of {s}?", "By whom was {s} designed?",
        "Name the architect of {s}.", "Which person designed {s}?", "Who drew the plans of {s}?",
    )),
    "location": RelationPlan("landmark", "city", "the city of {s}", (
        "Where is {s} located?", "In which city is {s} located?", "Which city does {s} stand in?",
        "Name the city of {s}.", "In what city can {s} be found?", "Which city is home to {s}?",
    )),
    "style": RelationPlan("landmark", "style", "the style of {s}", (
        "In which style is {s} built?", "What is the style of {s}?", "Which style does {s} have?",
        "Name the style of {s}.", "What style was {s} built in?",
        "Which architectural style does {s} show?",
    )),
    "birthplace": RelationPlan("person", "city", "the birthplace of {s}", (
        "Where was {s} born?", "In which city was {s} born?", "What is the birthplace of {s}?",
        "Name the birthplace of {s}.", "Which city was {s} born in?",
        "What city does {s} come from?",
    )),
    "occupation": RelationPlan("person", "job", "the job of {s}", (
        "What is the job of {s}?", "What does {s} do for a living?", "What does {s} work as?",
        "Name the job of {s}.", "Which job does {s} have?", "What is the occupation of {s}?",
    )),
    "food": RelationPlan("city", "food", "the typical food of {s}", (
        "What is the typical food of {s}?", "Which food is typical of {s}?",
        "Which food is {s} known for?", "Name the typical food of {s}.",
        "What food is {s} famous for?", "What do people eat in {s}?",
    )),
    "mayor": RelationPlan("city", "person", "the mayor of {s}", (
        "Who is the mayor of {s}?", "Who leads {s}?", "By whom is {s} led?",
        "Name the mayor of {s}.", "Which person leads {s}?", "Who governs {s}?",
    )),
}  # fmt: skip

HOPS = (
    ("founder", "birthplace"), ("founder", "occupation"), ("hq", "mayor"), ("hq", "food"),
    ("architect", "birthplace"), ("architect", "occupation"), ("location", "mayor"),
    ("location", "food"), ("birthplace", "mayor"), ("birthplace", "food"),
)  # fmt: skip
