"""The records of a split that can be edited, each judged when its turn comes.

What a record asks is derived, tokenised and has its pictures opened; where the data filter on it,
the unedited model is asked whether it knows the fact. A record that cannot be used is an error, or
with `data.on_error=skip` left out and counted. Records after the last one that is needed are not
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import NamedTuple

from datamodules.asked import all_prompts
from datamodules.collate import RowTable
from datamodules.fact_marks import TaughtFacts
from datamodules.images import ImageStore
from datamodules.known_facts import KnownFacts, KnownFilter, Knows, log_known, nothing_known
from datamodules.left_out import LeftOut, nothing_left
from datamodules.pictures import PictureFile
from datamodules.prompts import Prompt
from datamodules.records import NumberedRecord, Record
from datamodules.scenarios import Scenario
from datamodules.source import RecordSource, Split
from errors import DataError


class _Connection(NamedTuple):
    make_table: Callable[[], RowTable]
    images: ImageStore


class UsableRecords:
    """Records by their place in a split.

    Args:
        source: has the split.
        split: train, val or test.
        scenario: what is taught and asked.
        limit: how many are enough; None: all are needed.
        check_record: refuses a record that the editor cannot work with, as a DataError.
        taught: the facts that the model was taught when it was made.

    Attributes:
        tokens: place -> tokens of its rows, what they begin with counted once, of every record that
            was judged and can be used.
        known_facts: what the unedited model knows of them, once it was asked.
        answered: what it was asked for that -> whether it answered right.

    Raises:
        DataError: pictures are missing, and each record that cannot be used is an error.
    """

    def __init__(
        self,
        source: RecordSource,
        split: Split,
        scenario: Scenario,
        *,
        limit: int | None,
        check_record: Callable[[Record], None],
        taught: TaughtFacts,
    ) -> None:
        self._whole, self._source, self.split = source, source.of(split), split
        self._records: Sequence[Record] = source.records(split)
        self._scenario, self._limit = scenario, limit
        self._check_record, self._taught = check_record, taught
        self.tokens: dict[int, int] = {}
        self.known_facts: KnownFacts | None = None
        self.answered: dict[Prompt, bool] = {}
        self._left_out: dict[int, LeftOut] = {}
        self._connection: _Connection | None = None
        if self._source.on_error == "error":  # else each when its turn comes
            self._check_pictures()

    @property
    def name(self) -> str:
        """The split and its data, for messages."""
        return self._whole.named(self.split)

    def connect(self, make_table: Callable[[], RowTable], images: ImageStore) -> None:
        """Hands in what only the model knows: what makes tables of its tokens, and its pixels."""
        self._connection = _Connection(make_table, images)

    @property
    def make_table(self) -> Callable[[], RowTable]:
        """Makes an empty table of rows."""
        return self._connected().make_table

    @property
    def left_out(self) -> list[LeftOut]:
        """Records that could not be used, of those that were looked at."""
        of_reading = self._whole.left_out.get(self.split, ())
        return [*of_reading, *(record for _, record in sorted(self._left_out.items()))]

    def first(self) -> Iterator[NumberedRecord]:
        """The first records that can be used, as many as are enough.

        Raises:
            DataError: one cannot be used (an answer tokenises to nothing, a picture is damaged), or
                with `data.on_error=skip` none can.
        """
        return islice(self._usable(), self._limit)

    def first_known(self, knows: Knows) -> Iterator[NumberedRecord]:
        """Those of them that the unedited model knows, as far as so many are needed.

        Args:
            knows: rows -> (R,) bool, whether it gives every answer token right.

        Raises:
            DataError: as `first`, or it knows none.
        """
        on_pictures = self._source.filter_known == "pictures"
        known = KnownFilter(self.make_table, knows, self._limit, pictures=on_pictures)
        is_empty = True
        for numbered in islice(known(self._usable()), self._limit):
            is_empty = False
            yield numbered
        self.known_facts, self.answered = known.facts, known.is_right
        n_records = len(self._records) - len(self._left_out)
        n_records -= self._taught.n_left_out(self.split)
        not_asked = n_records - known.facts.candidates
        log_known(self.split, known.facts, not_asked, pictures=on_pictures)
        if is_empty:
            raise nothing_known(self.name, n_records, pictures=on_pictures)

    def refuse(self, place: int, error: DataError) -> None:
        """Leaves a record out.

        Raises:
            DataError: each record that cannot be used is an error; says which it is.
        """
        record, where = self._records[place], self._whole.place(self.split, place)
        if self._source.on_error == "error":
            raise DataError(
                f"{where} ({record.named}), {self.name}: {error} "
                "data.on_error=skip leaves such records out."
            ) from error
        self._left_out[place] = LeftOut(where, record.subject, str(error))

    def nothing_left(self) -> DataError:
        """What to say where no record can be used."""
        return nothing_left(self.name, self.left_out, self._source.on_error)

    def _connected(self) -> _Connection:
        if self._connection is None:
            raise RuntimeError("connect() hands in tokens and pixels before setup()")
        return self._connection

    def _usable(self) -> Iterator[NumberedRecord]:
        is_empty = True
        with closing(self._candidates()) as candidates:
            for place, record in candidates:
                try:
                    if place not in self.tokens:
                        self.tokens[place] = self._check(record)
                except DataError as error:
                    self.refuse(place, error)
                else:
                    is_empty = False
                    yield place, record
        if is_empty:
            raise self._taught.nothing_left(self.name) or nothing_left(self.name, self.left_out)

    def _candidates(self) -> Generator[NumberedRecord, None, None]:
        """Records that are not left out so far; the pictures of the next ones are looked at."""
        folder, shown = self._source.pictures, self._scenario.images
        records = (
            (place, record)
            for place, record in enumerate(self._records)
            if place not in self._left_out
            and not self._taught.leaves_out(self.split, place, record)
        )

        def pictures(numbered: NumberedRecord) -> list[PictureFile]:
            with suppress(DataError):  # which comes when its turn does
                return [] if numbered[0] in self.tokens else [*map(folder.path, shown(numbered[1]))]
            return []

        yield from self._connected().images.ahead(records, pictures, self._limit)

    def _check(self, record: Record) -> int:
        """Makes sure that a record's rows can be made; returns how many tokens they have."""
        self._check_record(record)
        return self.make_table().check(self._prompts(record))

    def _check_pictures(self) -> None:
        """All pictures are there; none is opened."""
        names: set[str] = set()
        for place, record in enumerate(self._records):
            try:
                names.update(p.image for p in self._prompts(record) if p.image is not None)
            except DataError as error:  # a question that is left out and cannot be derived
                self.refuse(place, error)
        why = f"the {self._scenario.name} scenario on {self.name}"
        self._source.pictures.check(names, why)

    def _prompts(self, record: Record) -> list[Prompt]:
        """What an edit of the record asks, and what the unedited model is asked besides."""
        by, reads = self._source.filter_known, self.split == "test"
        return all_prompts(self._scenario, record, filter_known=by, reads=reads)
