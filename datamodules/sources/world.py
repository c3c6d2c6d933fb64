"""Records made from a world folder: counterfactual edits of its facts, with all their probes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from datamodules.records import Record
from datamodules.sources.source import SPLITS, RecordSource, Split
from datamodules.world import World, world_records


def read_world(
    world: World, *, name: str, seed: int = 0, targets_per_fact: int = 8, filter_known: bool = True
) -> RecordSource:
    """Makes the records of a world.

    Args:
        world: the world.
        name: the data set's name in results.
        seed: draws targets, wordings, probes and the order of the records.
        targets_per_fact: counterfactual targets per training fact; validation and test edits
            have one each.
        filter_known: keep only edits of facts that the unedited model knows.

    Returns:
        The records by split, shuffled so that the first n are a fair sample.
    """
    splits: dict[Split, Sequence[Record]] = {}
    for split in SPLITS:
        targets = targets_per_fact if split == "train" else 1
        records = list(world_records(world, split, seed=seed, targets_per_fact=targets))
        random.Random(seed).shuffle(records)
        splits[split] = records
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
    )
