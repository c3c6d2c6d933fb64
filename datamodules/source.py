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
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from datamodules.left_out import LeftOut, OnError, copies, first_of, nothing_left
from datamodules.looks import Look
from datamodules.overlap import Overlap, Traces, overlap_error, split_overlaps
from datamodules.picture_folder import PictureFolder
from datamodules.pictures import Pictures
from datamodules.record_table import contents
from datamodules.records import Record
from errors import ConfigError, DataError
from options import Options, Seed

if TYPE_CHECKING:
    from datamodules.world import World

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
NOT_STATED = "not stated"  # the licence or origin of a source whose authors state none
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


def _by_name(value: object) -> object:
    """The options of `data.train` as those of the source that they name.

    Raises:
        ValueError: they name none.
    """
    if not isinstance(value, Mapping):
        return value
    if value.get("train") is not None:
        raise ValueError("training records come from one other source, which has no data.train")
    try:
        return source_options(str(value.get("name"))).model_validate(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class DataOptions(Options, ABC):
    """Group `data`: the keys that every source has, and what a source does.

    Attributes:
        is_world: whether the records are made from a world folder, which a model can be
            pretrained on.
        has_text: whether edits in text can be made of the records.
        has_pictures: whether scenarios with pictures can be asked of the records.
        says_true: whether the records say what is true, so that the model can be asked for it.
        licence: of the records and pictures, as their authors state it; None: they state none.
        origin: where the records come from.
        looks: by what a record of the source is told in a file, whatever it was read as.
        entity_folders: whether pictures lie in a folder for each entity, so that two records whose
            pictures share one are about the same.
        name: the source, not the YAML file's name: two files may share a source.
        train: another source that training and validation records come from, `data.train=NAME`.
        allow_overlap: whether test records may share subjects with those that are trained on; they
            are counted then, and results say so.
    """

    is_world: ClassVar[bool] = False
    has_text: ClassVar[bool] = True
    has_pictures: ClassVar[bool] = True
    says_true: ClassVar[bool] = True
    licence: ClassVar[str | None] = None
    origin: ClassVar[str | None] = None
    looks: ClassVar[tuple[Look, ...]] = ()
    entity_folders: ClassVar[bool] = False

    name: str
    # Chosen by a word and not by a key of the YAML files, so that there is no value in them.
    train: Annotated[
        SerializeAsAny[DataOptions] | None,
        BeforeValidator(_by_name),
        Field(exclude_if=lambda train: train is None),
    ] = None
    seed: Seed
    limit: int | None = Field(ge=1)
    filter_known: Annotated[FilterKnown, BeforeValidator(named_filter)]
    taught: bool
    on_error: OnError
    allow_overlap: bool
    prompt: Literal["default", "published", "native"]
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"]

    def edits_text(self) -> bool:
        """Whether these options give edits in text."""
        return self.has_text

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

    def read_training(self) -> RecordSource:
        """The same for another source's test: what stands in no training split may stay unread."""
        return self.read()

    def open(self, *, training: bool = True) -> RecordSource:
        """Reads the records, and those of `data.train` in place of its own training records.

        Args:
            training: whether training records are needed.

        Raises:
            DataError: something in them is missing or broken, or a subject stands in both.
        """
        source = self.read()
        if self.train is None or not training:
            return source
        train = self.train.model_copy(update={"allow_overlap": self.allow_overlap})
        return source.trained_on(train.read_training())

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


def texted_names() -> list[str]:
    """Names of the sources whose records have edits in text."""
    return [name for name in source_names() if source_options(name).has_text]


def pictured_names() -> list[str]:
    """Names of the sources whose records have pictures."""
    return [name for name in source_names() if source_options(name).has_pictures]


def origin_of(name: str) -> dict[str, str]:
    """What a result says of a source: its name, where its records come from, and their licence."""
    known = source_options(name) if name in source_names() else DataOptions
    return {
        "source": name,
        "origin": known.origin or NOT_STATED,
        "licence": known.licence or NOT_STATED,
    }


def look_alike(value: object) -> str | None:
    """The source whose record a value of a file looks most like; None where it is like none."""
    if not isinstance(value, Mapping):
        return None
    fitting = [(len(look.fields), name) for name, look in _looks() if look.fits(value)]
    return max(fitting)[1] if fitting else None


@cache
def _looks() -> tuple[tuple[str, Look], ...]:
    return tuple((name, look) for name in source_names() for look in source_options(name).looks)


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
        training: where training and validation records come from, if from elsewhere.
        filter_known: edits are only made of facts that the unedited model answers right, in `text`
            or on `pictures` too; `none` makes edits of all.
        absent: why a split has no records and what to do, for messages.
        content: digest of what the records were made from, pictures included, where there is one.
        on_error: whether a record that cannot be used is an error, or left out.
        places: split -> where each of its records stands, `record 3 of a.json`; a split without
            them has records that stand in no file.
        left_out: split -> what reading has left out of it.
        allow_overlap: whether a subject may stand in two splits; `overlaps` counts them.
        entity_folders: whether a folder of pictures is an entity.
        packed: the pictures, where they are no files of `image_root`.
        licence: of these records, where the data says so itself.
        origin: where they come from, where the data says so itself.
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
    training: RecordSource | None = None
    allow_overlap: bool = False
    entity_folders: bool = False
    packed: Pictures | None = None
    licence: str | None = None
    origin: str | None = None

    def of(self, split: Split) -> RecordSource:
        """The source of a split: what is said of pictures and prompts there holds for its rows."""
        return self if split == "test" or self.training is None else self.training

    def trained_on(self, other: RecordSource) -> RecordSource:
        """The test records of this source, with the training and validation records of another.

        Raises:
            DataError: a subject stands in both.
        """

        def both(mine: Mapping[Split, Any], theirs: Mapping[Split, Any]) -> dict[Split, Any]:
            return {s: (mine if s == "test" else theirs).get(s, ()) for s in SPLITS}

        joined = replace(
            self,
            splits=both(self.splits, other.splits),
            places=both(self.places, other.places),
            left_out=both(self.left_out, other.left_out),
            training=other,
        )
        joined.check_disjoint()
        return joined

    @cached_property
    def pictures(self) -> Pictures:
        """What image fields name."""
        return self.packed or PictureFolder(self.image_root)

    @property
    def terms(self) -> dict[str, str]:
        """What results say of the records: source, origin and licence."""
        said = {"origin": self.origin, "licence": self.licence}
        return origin_of(self.name) | {key: text for key, text in said.items() if text is not None}

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
            raise nothing_left(self.named(split), left_out, self.of(split).on_error)
        if not records:
            raise DataError(f"{self.named(split)} has no records. {self.of(split).absent}")
        return records

    def named(self, split: Split) -> str:
        """A split in a message."""
        return f"the {split} split of data={self.of(split).name}"

    @property
    def training_records(self) -> Sequence[Record]:
        """The records of the training split; none where the data has no such split."""
        return self.splits.get("train", ())

    def digest(self) -> str:
        """A short hash of all records, to tell whether two results are of the same data."""
        digest = hashlib.sha256(self.content.encode())
        for split in SPLITS:
            for content in contents(self.splits.get(split, ())):
                digest.update(content)
        return digest.hexdigest()[:16]

    def check_disjoint(self) -> None:
        """Makes sure that no record stands there twice, and no subject in two splits.

        Raises:
            DataError: one does; with `allow_overlap` a subject may.
        """
        for split, records in self.splits.items():
            places = [self.place(split, number) for number in range(len(records))]
            if found := copies(records, places):
                way = " data.on_error=skip leaves them out." if self.on_error == "error" else ""
                raise DataError(
                    f"{len(found)} of the {len(records)} records of {self.named(split)} "
                    "stand there for the second time and would count twice: "
                    f"{first_of(list(found.values()))}. Take the copies out.{way}"
                )
        shared = {pair: found for pair, found in self.overlaps.items() if found}
        if shared and not self.allow_overlap:
            raise overlap_error(self, shared)

    @cached_property
    def overlaps(self) -> Mapping[tuple[Split, Split], Overlap]:
        """What the records of a split share with those that a training sees before them."""
        return split_overlaps(self)

    def traces(self, *splits: Split) -> Traces:
        """By what the records of some splits are known again."""
        every = (record for split in splits for record in self.splits.get(split, ()))
        return Traces.of(every, entity_folders=self.of(splits[0]).entity_folders)
