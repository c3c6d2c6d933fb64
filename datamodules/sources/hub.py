"""data=hub: records of the project's own form, in a folder or in a data set of a hub.

A folder holds either a file for each split, `train.jsonl`, `validation.jsonl` and `test.jsonl` (or
`.json`), with the pictures beside them, or Parquet as `python -m datamodules export` writes it,
with the pictures inside. Any split may be missing. Where there are training records and none to
validate on, a tenth of their subjects validates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.hub_folder import download, hub_name
from datamodules.source import DataOptions, RecordSource, missing_root
from errors import DataError
from options import PathOrHub, TypedPath, TypedText

if TYPE_CHECKING:
    from datamodules.forms import Reading
    from datamodules.source import Split

PICTURES = "images"  # the folder of the pictures, beside the files
_ADD = "Add the split, or train on another source (data.train=NAME)."


class HubData(DataOptions):
    """A folder of split files or of Parquet; configs/data/hub.yaml explains the keys."""

    root: PathOrHub
    revision: TypedText | None
    image_root: TypedPath | None

    def problems(self, command: str) -> list[str]:
        """The folder has to be there, or the name of a data set of the hub in its place."""
        del command
        if hub_name(self.root):
            return []
        problems = missing_root(self.root)
        if self.revision is not None:
            problems.append(
                f"data.revision={self.revision}: data.root={self.root} is no data set of the hub "
                "(OWNER/NAME), and nothing else has revisions; leave data.revision out"
            )
        return problems

    def read(self) -> RecordSource:
        """Reads the splits that are there."""
        name = hub_name(self.root)
        root = Path(self.root) if name is None else download(name, self.revision)
        from datamodules.packed.folder import is_packed
        from datamodules.split_files import split_files

        if split_files(root):
            source = self._read_files(root)
        elif is_packed(root):
            source = self._read_set(root)
        else:
            raise DataError(
                f"data.root={self.root} holds no data set: that is files named train.jsonl, "
                "validation.jsonl, test.jsonl (or the same as .json), or Parquet files as "
                "python -m datamodules export writes them. Name another folder."
            )
        source.check_disjoint()
        return source

    def _read_files(self, root: Path) -> RecordSource:
        from datamodules.packed.data_set import facts_of, read_page
        from datamodules.split_files import read_splits, split_files

        files = split_files(root)
        return self._source(
            read_splits(files, self.on_error),
            image_root=Path(self.image_root) if self.image_root else root / PICTURES,
            absent=f"{root} has {', '.join(path.name for path in files.values())}. {_ADD}",
            **facts_of(read_page(root)),
        )

    def _read_set(self, root: Path) -> RecordSource:
        from datamodules.packed.data_set import open_set
        from datamodules.packed.records import check_columns, read_rows

        files = Path(self.image_root) if self.image_root else root / PICTURES
        check_columns(root)
        data = open_set(root, files)
        parts = {
            split: read_rows(root, split, columns, self.on_error)
            for split, columns in data.columns.items()
        }
        has = ", ".join([*data.columns, *data.others]) or "none"
        return self._source(
            parts,
            image_root=root,
            absent=f"{root} has the splits {has}. {_ADD}",
            packed=data.pictures,
            **data.said,
        )

    def _source(self, parts: dict[Split, Reading], **facts: Any) -> RecordSource:
        if "train" in parts and "val" not in parts:
            parts["train"], parts["val"] = parts["train"].split(self.seed)
        return RecordSource(
            name=self.name,
            splits={split: part.records for split, part in parts.items()},
            filter_known=self.filter_known,
            on_error=self.on_error,
            places={split: part.places for split, part in parts.items()},
            left_out={split: part.left_out for split, part in parts.items()},
            allow_overlap=self.allow_overlap,
            **{"plain_locality": False, **facts},
        )


SOURCE = HubData
