"""By what the record of a source is told in a file: the names of its fields, and how some begin.

Each source says how its own records look (`DataOptions.looks`), and together they are the table by
which a file that was named for another source is recognised (`datamodules.source.look_alike`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Look:
    """One form of a source's records.

    Attributes:
        fields: names that every record of the form has.
        values: field -> pattern that its text begins with.
        lacks: names that no record of the form has.
    """

    fields: frozenset[str]
    values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, fields: str, *, lacks: str = "", **begins: str) -> Look:
        """A form by the names of its fields, parted by blanks.

        Args:
            fields: that it has.
            lacks: that it has not.
            **begins: field -> regular expression for the beginning of its text.
        """
        patterns = {name: re.compile(pattern) for name, pattern in begins.items()}
        return cls(frozenset(fields.split()), patterns, frozenset(lacks.split()))

    def fits(self, value: Mapping[object, object]) -> bool:
        """Whether an object of a file has this form, as far as the names of its fields say."""
        return (
            self.fields <= value.keys()
            and not self.lacks & value.keys()
            and all(
                isinstance(text := value[name], str) and pattern.match(text) is not None
                for name, pattern in self.values.items()
            )
        )
