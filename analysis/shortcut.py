"""The share by which the paper's authors tell a shortcut from a chain, before and after an edit.

An answer c about a picture a may come by way of the subject b that it shows. With N the coarse sets
of the naming question (a -> b), of the text question (b -> c) and of the image question (a -> c),

    share = |N(a->c) & (N(a->b) | N(b->c))| / |N(a->c)|,

above 0.2 there is "no shortcut", below 0.1 a "shortcut" (their published code: 20 steps, sets above
0.15 of a row's largest attribution). Their sets are those of the given answers, whether the model
gives them or not; here the share is told for all edits so, and for those whose three answers the
model gives. Its two levels are those of `analysis.overlap`, without which it says little: the sets
grow as the threshold falls, and so does what they have in common by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.judging import Judge
from analysis.overlap import Ids, overlaps
from results.partial import Line

STEPS_OF_CHAIN = ("name", "text", "image")  # a -> b, b -> c, a -> c
THRESHOLD = 0.15  # part of a row's largest attribution
NO_SHORTCUT, SHORTCUT = 0.2, 0.1  # above, and below
VERDICTS = ("no shortcut", "between", "shortcut")


@dataclass(frozen=True)
class Chains:
    """The sets of n edits at one time.

    Attributes:
        sets: step -> (n,) sets of the given answers; None where it cannot be asked.
        given: step -> (n,) whether the model gives that answer, token by token.
    """

    sets: Mapping[str, list[Ids | None]]
    given: Mapping[str, list[bool]]

    @classmethod
    def of(cls, n: int) -> Chains:
        """Those of n edits, still without a set."""
        return cls(
            {step: [None] * n for step in STEPS_OF_CHAIN},
            {step: [False] * n for step in STEPS_OF_CHAIN},
        )

    @classmethod
    def joined(cls, parts: Iterable[Chains]) -> Chains:
        """Those of several batches, one after the other."""
        joined = cls.of(0)
        for part in parts:
            for step in STEPS_OF_CHAIN:
                joined.sets[step].extend(part.sets[step])
                joined.given[step].extend(part.given[step])
        return joined

    def add(self, step: str, edit: int, ids: Ids, *, is_given: bool) -> None:
        """Keeps the set of one step of one edit."""
        self.sets[step][edit], self.given[step][edit] = ids, is_given


def shortcut_lines(
    chains: Mapping[Any, Chains], edit_ids: Sequence[int], subjects: Sequence[str], *, n: int
) -> list[Line]:
    """The share of each edit at each time, a line each.

    Args:
        chains: "before" and "after" -> the sets; a time at which nothing was asked is left out.
        edit_ids: (n,) of the edits.
        subjects: (n,) of the edits.
        n: neurons of the model.

    Returns:
        Fractions and verdict, null where a question cannot be asked or the image question has no
        neurons.
    """
    lines: list[Line] = []
    for when, found in chains.items():
        single = [_union(pair) for pair in zip(found.sets["name"], found.sets["text"], strict=True)]
        shared = overlaps(found.sets["image"], single, subjects=subjects, n=n)
        for edit, edit_id in enumerate(edit_ids):
            sizes = {f"size_{step}": _size(found.sets[step][edit]) for step in STEPS_OF_CHAIN}
            values = shared.of(edit)
            share = values["share"]
            lines.append(
                {"edit_id": edit_id, "subject": subjects[edit], "when": when}
                | sizes
                | {name: values[name] for name in ("share", "chance_share", "unrelated_share")}
                | {
                    "is_given": all(found.given[step][edit] for step in STEPS_OF_CHAIN),
                    "verdict": None if share is None else verdict(share),
                }
            )
    return lines


def verdict(share: float) -> str:
    """What the authors call an edit of this share.

    >>> verdict(0.3), verdict(0.2), verdict(0.05)
    ('no shortcut', 'between', 'shortcut')
    """
    return VERDICTS[0] if share > NO_SHORTCUT else VERDICTS[2] if share < SHORTCUT else VERDICTS[1]


def shortcut_numbers(lines: Sequence[Line], judge: Judge) -> dict[str, dict[str, Any]]:
    """Means over edits, for neurons.json.

    Args:
        lines: of `shortcut_lines`.
        judge: makes means.

    Returns:
        When -> "all" edits that have a share, and those whose three answers are "given" -> the
        share with its levels, and the part of each verdict in percent.
    """
    numbers: dict[str, dict[str, Any]] = {}
    for when in dict.fromkeys(line["when"] for line in lines):
        told = [line for line in lines if line["when"] == when and line["verdict"] is not None]
        for which, of in (("all", told), ("given", [line for line in told if line["is_given"]])):
            numbers.setdefault(when, {})[which] = judge(of, "share", "chance_share") | {
                "verdicts": {
                    name: judge.mean(
                        [line | {name: line["verdict"] == name} for line in of], name, 100
                    )
                    for name in VERDICTS
                }
            }
    return numbers


def shortcut_settings() -> dict[str, float]:
    """What the share was made with, besides the steps of the integral."""
    return {"threshold": THRESHOLD, "no_shortcut_above": NO_SHORTCUT, "shortcut_below": SHORTCUT}


def _union(pair: tuple[Ids | None, Ids | None]) -> Ids | None:
    """The neurons of either; None where one of the two is missing."""
    first, second = pair
    return None if first is None or second is None else np.union1d(first, second)


def _size(ids: Ids | None) -> int | None:
    return None if ids is None else len(ids)
