"""data=hub: records of the project's own form, in a folder or in a repository of a hub.

A folder has a file for each split, `train.jsonl`, `validation.jsonl` and `test.jsonl` (or `.json`),
of which any may be missing, and the pictures beside them. Where there are training records and none
to validate on, a tenth of their subjects validates.
"""

from __future__ import annotations

from pathlib import Path

from datamodules.source import DataOptions, RecordSource, missing_root
from options import TypedPath

PICTURES = "images"  # the folder of the pictures, beside the files


class HubData(DataOptions):
    """A folder of split files; configs/data/hub.yaml explains the keys."""

    root: TypedPath
    image_root: TypedPath | None

    def problems(self, command: str) -> list[str]:
        """The folder has to be there, and files in it."""
        del command
        from datamodules.split_files import NAMES, split_files

        if problems := missing_root(self.root):
            return problems
        if split_files(Path(self.root)):
            return []
        names = ", ".join(f"{names[0]}.jsonl" for names in NAMES.values())
        return [
            f"data.root={self.root}: the folder holds no split; a split is a file named {names}, "
            "or the same as .json"
        ]

    def read(self) -> RecordSource:
        """Reads the files that are there."""
        from datamodules.split_files import read_splits, split_files

        root = Path(self.root)
        files = split_files(root)
        parts = read_splits(files, self.on_error, self.seed)
        source = RecordSource(
            name=self.name,
            image_root=Path(self.image_root) if self.image_root else root / PICTURES,
            splits={split: part.records for split, part in parts.items()},
            plain_locality=False,
            filter_known=self.filter_known,
            absent=f"{root} has {', '.join(path.name for path in files.values())}.",
            on_error=self.on_error,
            places={split: part.places for split, part in parts.items()},
            left_out={split: part.left_out for split, part in parts.items()},
            allow_overlap=self.allow_overlap,
        )
        source.check_disjoint()
        return source


SOURCE = HubData
