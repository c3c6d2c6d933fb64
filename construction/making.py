"""What is made of answered rows, without asking anybody.

    DIR/records/      all records: data=hub data.root=DIR/records
    DIR/review.html   the page on which they are accepted, edited or rejected
    DIR/reviewed/     with decisions=FILE: those that were accepted
    DIR/world/        with world=true: a world of the records, of the accepted ones if there are any

Each is written anew by each run; decisions are in the browser and in the file that it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from configs.schema import ConstructionConfig
from construction import data_set, world
from construction.answers import AnsweredRow
from construction.data_set import Terms, check_ours, write_data_set
from construction.decisions import (
    Decision,
    Reviewed,
    apply_decisions,
    check_current,
    read_decisions,
)
from construction.locality import FarQuestions, read_far_questions, with_locality
from construction.records import Constructed, construct_records, count_lacks
from construction.review import PAGE, review_page
from construction.world import WorldCounts, write_world
from datamodules.json_file import read_json
from datamodules.left_out import first_of
from datamodules.missing_pictures import check_present
from datamodules.picture_folder import PictureFolder
from datamodules.records import Picture, Text, field_errors
from errors import DataError, some_of
from results.files import remove_half_written, write_text

RECORDS, REVIEWED, WORLD = "records", "reviewed", "world"
_WRITTEN = {RECORDS: data_set.FILES, REVIEWED: data_set.FILES, WORLD: world.FILES}
_SHOWN = 6  # reasons that are printed; the summary has all


@dataclass
class Made:
    """What was made.

    Attributes:
        summary: for construction.json.
        lines: for the screen.
    """

    summary: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class Maker:
    """Makes records, page and world; what a user got wrong is told before anything is asked.

    Raises:
        ConfigError: an output is taken by something that is not ours.
        DataError: the file of decisions or that of pictures cannot be used.
    """

    def __init__(self, config: ConstructionConfig) -> None:
        self._config = config
        self._folder = Path(config.output_dir)
        for name, files in _WRITTEN.items():
            check_ours(self._folder / name, files)
        self._pictures = PictureFolder(Path(config.pictures or "."))
        self._decisions: list[Decision] = []
        if config.decisions is not None:
            self._decisions = read_decisions(Path(config.decisions))
        self._entities: Mapping[str, str] = {}
        if config.records.entity_pictures is not None:
            self._entities = _read_entities(Path(config.records.entity_pictures), self._pictures)
        self._far = FarQuestions()
        if config.records.locality is not None:
            self._far = read_far_questions(Path(config.records.locality), self._pictures)

    def make(self, answered: Sequence[AnsweredRow]) -> Made:
        """Writes everything that is asked for.

        Raises:
            ConfigError: an output is taken by something that is not ours.
            DataError: decisions do not fit, or something cannot be written.
        """
        made = Made()
        remove_half_written(self._folder, (*_WRITTEN, PAGE))
        if not answered:
            return made
        options = self._config.records
        constructed = construct_records(
            with_locality(answered, self._far, options.seed),
            seed=options.seed,
            stand_ins=options.stand_ins,
            pictures=self._entities,
            kin=[group.split("/") for group in options.kin],
        )
        folder = self._folder / RECORDS
        write_data_set(folder, constructed, self._pictures, self._terms())
        _tell_records(made, constructed, folder)
        page, title = self._folder / PAGE, Path(self._config.rows).name
        write_text(page, review_page(title, constructed, self._pictures, self._decisions))
        if self._config.decisions is None:
            made.lines.append(f"review them on {page}, and go on with decisions=FILE")
        else:
            constructed = self._review(made, constructed, Path(self._config.decisions))
        if self._config.world:
            folder = self._folder / WORLD
            steps = () if self._config.decisions is None else ("reviewed",)
            records = [one.record for one in constructed]
            counts = write_world(folder, records, self._pictures, self._terms(*steps))
            _tell_world(made, counts, folder)
        return made

    def _review(
        self, made: Made, constructed: Sequence[Constructed], file: Path
    ) -> list[Constructed]:
        """The records that were accepted.

        Raises:
            DataError: decisions are of other records, or none was accepted.
        """
        reviewed = apply_decisions(constructed, self._decisions, self._pictures)
        if self._config.on_error == "error":
            check_current(reviewed, file)
        if not reviewed.records:
            raise DataError(f"decisions={file} accepts none of the {len(constructed)} records.")
        folder = self._folder / REVIEWED
        write_data_set(folder, reviewed.records, self._pictures, self._terms("reviewed"))
        _tell_review(made, reviewed, folder)
        return reviewed.records

    def _terms(self, *steps: str) -> Terms:
        """What is said of the records' origin and licence."""
        config = self._config
        ways = " and ".join(["made", *steps])
        origin = (
            f"{ways} with `python -m construction` of {Path(config.rows).name} and answers of "
            f"{config.endpoint.model}"
        )
        return Terms(origin, config.records.licence)


def _read_entities(path: Path, pictures: PictureFolder) -> dict[str, str]:
    """Name of an entity -> its picture.

    Raises:
        DataError: the file is of another form, or a picture is not there.
    """
    try:
        entities = TypeAdapter(dict[Text, Picture]).validate_python(read_json(path))
    except ValidationError as error:
        raise DataError(
            f"records.entity_pictures={path}: {field_errors(error)}. It holds one object, the name "
            'of an entity with its picture: {"Leo Messi": "messi.jpg"}.'
        ) from error
    check_present(
        entities.values(), pictures, who=f"records.entity_pictures={path} names",
        where=f"pictures={pictures.root}", ways="or take them out of the table",
    )  # fmt: skip
    return entities


def _tell_records(made: Made, constructed: Sequence[Constructed], folder: Path) -> None:
    lacks = count_lacks(constructed).most_common()
    complete = sum(one.is_complete for one in constructed)
    made.summary["records"] = {
        "records": len(constructed),
        "complete": complete,
        "lacks": [{"field": name, "why": why, "records": n} for (name, why), n in lacks],
    }
    made.lines.append(
        f"{len(constructed)} records in {folder}, {complete} of them complete in the benchmark's "
        "schema"
    )
    made.lines += [f"  {n} without {name}: {why}" for (name, why), n in lacks[:_SHOWN]]
    if len(lacks) > _SHOWN:
        made.lines.append(f"  further reasons, in the summary: {len(lacks) - _SHOWN}")


def _tell_review(made: Made, reviewed: Reviewed, folder: Path) -> None:
    made.summary["reviewed"] = {
        "accepted": len(reviewed.records),
        "edited": len(reviewed.edited),
        "rejected": reviewed.rejected,
        "undecided": reviewed.undecided,
        "stale": [str(one) for one in reviewed.stale],
        "unknown": reviewed.unknown,
        "borrowers": reviewed.borrowers,
    }
    made.lines.append(
        f"{len(reviewed.records)} records accepted ({len(reviewed.edited)} of them edited), "
        f"{len(reviewed.rejected)} rejected, {len(reviewed.undecided)} without a decision: {folder}"
    )
    if reviewed.stale:
        made.lines.append(
            f"  {len(reviewed.stale)} left out, which have changed since they were decided about: "
            f"{first_of(reviewed.stale)}"
        )
    if reviewed.unknown:
        made.lines.append(
            f"  {len(reviewed.unknown)} decisions are about no record: {some_of(reviewed.unknown)}"
        )
    if reviewed.borrowers:
        made.lines.append(
            f"  {len(reviewed.borrowers)} show a picture of a row that was rejected: "
            f"{some_of(reviewed.borrowers)}"
        )


def _tell_world(made: Made, counts: WorldCounts, folder: Path) -> None:
    made.summary["world"] = counts._asdict()
    made.lines.append(
        f"a world of {counts.entities} entities ({counts.pictured} with pictures), "
        f"{counts.relations} relations and {counts.facts} facts: {folder}"
    )
    if counts.unpictured:
        made.lines.append(
            f"  {len(counts.unpictured)} subjects are known by name alone, without a seen and an "
            f"unseen picture: {some_of(counts.unpictured)}"
        )
    if counts.contradicted:
        made.lines.append(
            f"  {len(counts.contradicted)} facts are answered differently by other records, of "
            f"which the first counts: {some_of(counts.contradicted, 3)}"
        )
