"""What a data source is, and how `data=NAME` finds it.

The file `datamodules/sources/<name>.py` is a source: its option class says which keys
`configs/data/<name>.yaml` may have and reads the records, and its last line registers that class,
`SOURCE = MyData`. Nothing else lists the sources, so a new one touches no shared file
(docs/add-data.md). Command lines are judged by the option classes, so these files load nothing
heavy: what a reader needs besides records is imported where it reads.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from datamodules.left_out import LeftOut, OnError, copies, first_of, nothing_left
from datamodules.picture_folder import PictureFolder
from datamodules.records import Record, name_key
from errors import ConfigError, DataError
from options import Options, Seed

if TYPE_CHECKING:
    from datamodules.world import World

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FilterKnown = Literal["text", "pictures", "none"]
_FOLDER = Path(__file__).resolve().parent / "sources"


def named_filter(value: object) -> object:
    """`data.filter_known` by its name; earlier it was a boolean, which may still be typed.

    >>> named_filter(True), named_filter(False), named_filter("text")
    ('pictures', 'none', 'text')
    """
    if isinstance(value, bool):
        return "pictures" if value else "none"
    return value


class DataOptions(Options, ABC):
    """Group `data`: the keys that every source has, and what a source does.

    Attributes:
        is_world: whether the records are made from a world folder, which a model can be
            pretrained on.
        has_pictures: whether scenarios with pictures can be asked of the records.
        licence: of the records and pictures; None where it is not known.
        name: the source, not the YAML file's name: two files may share a source.
    """

    is_world: ClassVar[bool] = False
    has_pictures: ClassVar[bool] = True
    licence: ClassVar[str | None] = None

    name: str
    seed: Seed
    limit: int | None = Field(ge=1)
    filter_known: Annotated[FilterKnown, BeforeValidator(named_filter)]
    taught: bool
    on_error: OnError
    prompt: Literal["default", "published", "native"]
    num_workers: int = Field(ge=0)

    def problems(self, command: str) -> list[str]:
        """What keeps a command from using these options, one sentence for each mistake.

        Args:
            command: `train`, `evaluate` or `pretrain`.
        """
        del command
        return []

    @abstractmethod
    def read(self) -> RecordSource:
        """Reads the records.

        Raises:
            DataError: something in them is missing or broken.
        """

    def open_world(self) -> World:
        """The world that the records are made from.

        Raises:
            ConfigError: they are made from none.
            DataError: its folder is missing or broken.
        """
        raise ConfigError(
            f"data={self.name} holds records, not a world with entities and pictures. "
            f"Use {' or '.join(f'data={name}' for name in world_names())}."
        )


def source_names() -> list[str]:
    """Names of the sources that this checkout has, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__")


def source_options(name: str) -> type[DataOptions]:
    """The option class that `datamodules/sources/<name>.py` registers.

    Raises:
        ConfigError: there is no such file, or nothing is registered in it.
    """
    if name not in source_names():
        raise ConfigError(f"data.name={name}: data is one of {', '.join(source_names())}")
    registered = getattr(import_module(f"datamodules.sources.{name}"), "SOURCE", None)
    if not (isinstance(registered, type) and issubclass(registered, DataOptions)):
        raise ConfigError(
            f"datamodules/sources/{name}.py registers no source; its last line must say SOURCE = "
            "and its option class, as datamodules/sources/tmke.py does."
        )
    return registered


def licence_of(name: str) -> str | None:
    """The licence of a source's records and pictures; None where it is not known."""
    return source_options(name).licence if name in source_names() else None


def pictured_names() -> list[str]:
    """Names of the sources whose records have pictures."""
    return [name for name in source_names() if source_options(name).has_pictures]


def world_names() -> list[str]:
    """Names of the sources that have a world."""
    return [name for name in source_names() if source_options(name).is_world]


def missing_root(root: str) -> list[str]:
    """The problem of a `data.root` that is no folder, or none that can be read."""
    problem = folder_problem(root)
    return [] if problem is None else [f"data.root={root}: {problem}"]


def folder_problem(path: str | Path) -> str | None:
    """What keeps a folder from being read; None where nothing does."""
    if not os.path.isdir(path):  # Path.is_dir raises where a folder above may not be entered
        return "there is no such folder"
    try:
        os.scandir(path).close()
    except OSError as error:
        return f"the folder cannot be read ({error.strerror})"
    return None


@dataclass(frozen=True)
class RecordSource:
    """Records of a data set, split by subject.

    Attributes:
        name: the data set, for results and messages.
        image_root: the folder that image fields are relative to.
        splits: split -> records; a split may be absent.
        plain_locality: text locality questions stand without the prompt's template (the TMKE
            authors' way; a tiny model knows questions only inside the template).
        cloze: all text questions do: they are beginnings of sentences that the answer continues.
        filter_known: edits are only made of facts that the unedited model answers right, in `text`
            or on `pictures` too; `none` makes edits of all.
        absent: why a split has no records and what to do, for messages.
        content: digest of what the records were made from, pictures included, where there is one.
        on_error: whether a record that cannot be used is an error, or left out.
        places: split -> where each of its records stands, `record 3 of a.json`; a split without
            them has records that stand in no file.
        left_out: split -> what reading has left out of it.
    """

    name: str
    image_root: Path
    splits: dict[Split, Sequence[Record]]
    plain_locality: bool
    filter_known: FilterKnown
    absent: str = ""
    content: str = ""
    on_error: OnError = "error"
    places: Mapping[Split, Sequence[str]] = field(default_factory=dict)
    left_out: Mapping[Split, Sequence[LeftOut]] = field(default_factory=dict)
    cloze: bool = False

    @cached_property
    def pictures(self) -> PictureFolder:
        """The files that image fields name."""
        return PictureFolder(self.image_root)

    def place(self, split: Split, number: int) -> str:
        """Where a record of a split stands."""
        places = self.places.get(split, ())
        return places[number] if places else f"record {number} of the {split} split"

    def records(self, split: Split) -> Sequence[Record]:
        """The records of a split.

        Raises:
            DataError: there are none.
        """
        records = self.splits.get(split, ())
        if not records and (left_out := self.left_out.get(split, ())):
            raise nothing_left(f"the {split} split of data={self.name}", left_out)
        if not records:
            raise DataError(f"the {split} split of data={self.name} has no records. {self.absent}")
        return records

    @property
    def training_records(self) -> Sequence[Record]:
        """The records of the training split; none where the data has no such split."""
        return self.splits.get("train", ())

    def digest(self) -> str:
        """A short hash of all records, to tell whether two results are of the same data."""
        digest = hashlib.sha256(self.content.encode())
        for split in SPLITS:
            for record in self.splits.get(split, ()):
                digest.update(record.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def check_disjoint(self) -> None:
        """Makes sure that no record stands there twice, and no subject in two splits.

        A subject is the same however it is spelled.

        Raises:
            DataError: one does.
        """
        for split, records in self.splits.items():
            places = [self.place(split, number) for number in range(len(records))]
            if found := copies(records, places):
                way = " data.on_error=skip leaves them out." if self.on_error == "error" else ""
                raise DataError(
                    f"{len(found)} of the {len(records)} records of the {split} split of "
                    f"data={self.name} stand there for the second time and would count twice: "
                    f"{first_of(list(found.values()))}. Take the copies out.{way}"
                )
        seen: dict[str, tuple[Split, str]] = {}
        for split, records in self.splits.items():
            for record in records:
                other, subject = seen.setdefault(name_key(record.subject), (split, record.subject))
                if other != split:
                    spelled = "" if subject == record.subject else f" (as {subject!r})"
                    raise DataError(
                        f"the subject {record.subject!r} stands in the {split} split of "
                        f"data={self.name} and in the {other} split{spelled}: an editor would be "
                        "tested on what it was trained on. Remove it from one of them."
                    )
