"""data=folder: counterfactual edits of the facts of a world folder, with all their probes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from datamodules.left_out import OnError
from datamodules.looks import Look
from datamodules.record_table import RecordTable
from datamodules.records import Record
from datamodules.source import (
    SPLITS,
    DataOptions,
    FilterKnown,
    RecordSource,
    Split,
    missing_root,
)
from options import TypedPath, TypedText

if TYPE_CHECKING:
    from datamodules.world import World


class FolderData(DataOptions):
    """A world folder that the user brings; configs/data/folder.yaml explains the keys."""

    is_world: ClassVar[bool] = True
    looks: ClassVar[tuple[Look, ...]] = (Look.of("name facts"),)

    root: TypedPath
    noun: TypedText | None
    targets_per_fact: int = Field(ge=1)

    def problems(self, command: str) -> list[str]:
        """The folder has to be there."""
        del command
        return missing_root(self.root)

    def open_world(self) -> World:
        """Reads the folder."""
        from datamodules.world import World

        return World.load(Path(self.root), seed=self.seed, noun=self.noun)

    def read(self) -> RecordSource:
        """Makes the records of the world."""
        return read_world(
            self.open_world(),
            name=self.name,
            seed=self.seed,
            targets_per_fact=self.targets_per_fact,
            filter_known=self.filter_known,
            on_error=self.on_error,
            allow_overlap=self.allow_overlap,
        )


def read_world(
    world: World,
    *,
    name: str,
    seed: int = 0,
    targets_per_fact: int = 8,
    filter_known: FilterKnown = "pictures",
    on_error: OnError = "error",
    allow_overlap: bool = False,
) -> RecordSource:
    """Makes the records of a world.

    Args:
        world: the world.
        name: the data set's name in results.
        seed: draws targets, wordings, probes and the order of the records.
        targets_per_fact: counterfactual targets per training fact; validation and test edits
            have one each.
        filter_known: keep only edits of facts that the unedited model knows, and by what.
        on_error: whether a record that cannot be used is an error or left out.
        allow_overlap: as in `RecordSource`; of use where another source is trained on.

    Returns:
        The records by split, shuffled so that the first n are a fair sample.
    """
    from datamodules.world import world_records

    splits: dict[Split, Sequence[Record]] = {}
    for split in SPLITS:
        targets = targets_per_fact if split == "train" else 1
        records = RecordTable.of(world_records(world, split, seed=seed, targets_per_fact=targets))
        order = list(range(len(records)))
        random.Random(seed).shuffle(order)
        splits[split] = records.take(order)
    return RecordSource(
        name=name,
        image_root=world.root,
        splits=splits,
        plain_locality=False,
        filter_known=filter_known,
        absent=(
            f"The world {world.root} has {len(world.entities)} entities; an edit needs one with a "
            "picture and a fact whose relation has another object."
        ),
        content=world.digest,
        on_error=on_error,
        allow_overlap=allow_overlap,
        origin=world.origin,
        licence=world.licence,
    )


SOURCE = FolderData
