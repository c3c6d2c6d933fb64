"""Where the chain from an edit to a picture breaks, told for each record and each of its pictures.

    picture --(recognised: the unedited model names it)--> subject --(carried)--> new answer

With n: the unedited model named what the picture shows, g: the edited model gives the new answer,
every token of it, b: the unedited model gave it already, o: the edited model gives it about a
picture of another entity of the subject's type too,

    recognised and carried        g and n and not (b or o)
    carried by chance             g and (not n or b or o)
    recognised and not carried    not g and n
    not recognised                not g and not n

so each picture with a naming question is of one class, and the shares of the classes sum to 100. An
answer that is given about a picture which the model does not recognise, or about anybody, has not
come by the chain, however right it is. A picture without a naming question is of no class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metrics.headlines import BEFORE, EXACT_MATCH, NAMED_BEFORE, Scores

CARRIED = "recognised and carried"
BY_CHANCE = "carried by chance"
NOT_CARRIED = "recognised and not carried"
NOT_RECOGNISED = "not recognised"
CLASSES = (CARRIED, BY_CHANCE, NOT_CARRIED, NOT_RECOGNISED)
ON_PICTURES = {"seen": "reliability_s", "unseen": "reliability_u"}  # picture -> its probe
OF_ANOTHER = "leak_same"  # the new answer, about another entity of the type


@dataclass(frozen=True)
class Link:
    """What is known of one record's answer about one picture.

    Attributes:
        named: whether the unedited model named what the picture shows; None: it was not asked.
        given: whether the edited model gives the new answer.
        given_before: whether the unedited model did.
        given_of_another: whether the edited model gives it about another entity of the type too;
            None: the record has no such probe, which then excuses nothing.
    """

    named: bool | None
    given: bool
    given_before: bool = False
    given_of_another: bool | None = None

    @property
    def kind(self) -> str | None:
        """One of `CLASSES`; None without a naming question.

        >>> Link(named=True, given=True).kind, Link(named=False, given=True).kind
        ('recognised and carried', 'carried by chance')
        >>> Link(named=True, given=True, given_of_another=True).kind, Link(False, False).kind
        ('carried by chance', 'not recognised')
        """
        if self.named is None:
            return None
        if not self.given:
            return NOT_CARRIED if self.named else NOT_RECOGNISED
        has_come_otherwise = not self.named or self.given_before or bool(self.given_of_another)
        return BY_CHANCE if has_come_otherwise else CARRIED


def links(scores: Scores, probe: str, named: Mapping[int, float] | None = None) -> dict[int, Link]:
    """The links of all records that ask a probe about a picture.

    Args:
        scores: per (probe, measure) the score of each edit, as `metrics.collection` has them.
        probe: of `ON_PICTURES`.
        named: by edit, 1 or 0, in place of what the unedited model named teacher forced.

    Returns:
        By edit id, in the order of the ids.
    """
    given = scores.get((probe, EXACT_MATCH), {})
    before = scores.get((probe, f"{EXACT_MATCH}{BEFORE}"), {})
    another = scores.get((OF_ANOTHER, EXACT_MATCH), {})
    recognised = scores.get((probe, NAMED_BEFORE), {}) if named is None else named
    return {
        edit: Link(
            named=_flag(recognised.get(edit)),
            given=given[edit] == 1,
            given_before=before.get(edit) == 1,
            given_of_another=_flag(another.get(edit)),
        )
        for edit in sorted(given)
    }


def class_indicators(of_records: Mapping[int, Link]) -> dict[str, dict[int, float]]:
    """Class -> by edit id 1 or 0, over the records that are of a class: means are its share."""
    kinds = {edit: link.kind for edit, link in of_records.items()}
    told = {edit: kind for edit, kind in kinds.items() if kind is not None}
    return {name: {edit: float(kind == name) for edit, kind in told.items()} for name in CLASSES}


def _flag(value: float | None) -> bool | None:
    return None if value is None or np.isnan(value) else value == 1
