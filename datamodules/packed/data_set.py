"""Opens a data set in Parquet: mapped tables of its splits, its pictures, what its page says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.packed.columns import Columns
from datamodules.packed.folder import NAMES
from datamodules.packed.pictures import PackedPictures
from datamodules.source import Split
from errors import DataError

PAGE = "README.md"
OURS = "tmke"  # key of the page's metadata that holds what no other key says
# Fields of `RecordSource` that stand there, as `python -m datamodules export` writes them.
FACTS = {
    "plain_locality": bool, "cloze": bool, "entity_folders": bool, "content": str, "licence": str,
    "origin": str,
}  # fmt: skip
UNKNOWN_LICENCE = "unknown"  # the hub's word for none that is stated
_AGAIN = "Fetch the data set again, or correct the page."
PICTURES = "images"  # folder of pictures that a set names and does not hold


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        root: its folder.
        files: where pictures lie that it names and does not hold.
        columns: of each split.
        others: names of splits that are none of ours.
        page: metadata of its README.md.
    """

    root: Path
    files: Path
    columns: Mapping[Split, Columns]
    others: tuple[str, ...] = ()
    page: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def pictures(self) -> PackedPictures:
        """Its pictures.

        Raises:
            DataError: two have one name.
        """
        return PackedPictures(self.root, self.columns.values(), self.files)

    @property
    def said(self) -> dict[str, Any]:
        """What its page says of the records: fields of `RecordSource`."""
        return facts_of(self.page)


def open_set(root: Path, files: Path | None = None) -> DataSet:
    """Opens the data set of a folder; `datasets` keeps a copy of it in its cache, which is mapped.

    Args:
        root: the folder.
        files: of pictures that the set names and does not hold; None: images/ inside root.

    Raises:
        DataError: it cannot be read, or the cache has no room for it.
    """
    page = read_page(root)
    _check_files(root, page)
    tables = _load(root)
    _check_counts(root, page, tables)
    columns: dict[Split, Columns] = {}
    for split, names in NAMES.items():
        if len(there := [name for name in names if name in tables]) > 1:
            raise DataError(
                f"the data set {root} has the splits {' and '.join(there)}, and either may be the "
                f"{split} split. Leave one of them in it."
            )
        if there:
            columns[split] = Columns.of(tables[there[0]], there[0])
    known = {name for names in NAMES.values() for name in names}
    others = tuple(sorted(tables.keys() - known))
    return DataSet(root, files or root / PICTURES, columns, others, page)


def _check_files(root: Path, page: Mapping[str, Any]) -> None:
    """Makes sure that a file is there for each split that the page names.

    Raises:
        DataError: none is; which the library does not say.
    """
    for config in _dicts(page.get("configs")):
        for split in _dicts(config.get("data_files")):
            pattern = split.get("path")
            if isinstance(pattern, str) and not any(root.glob(pattern)):
                raise DataError(
                    f"{root / PAGE} names {pattern} for the {split.get('split')} split, and no "
                    f"such file is there. {_AGAIN}"
                )


def _check_counts(root: Path, page: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> None:
    """Makes sure that no file of a split is missing, as far as the page counts its records.

    Raises:
        DataError: a split has another number of records.
    """
    info = page.get("dataset_info")
    for split in _dicts(info.get("splits") if isinstance(info, Mapping) else None):
        name, n = str(split.get("name")), split.get("num_examples")
        if name in tables and isinstance(n, int) and n != len(tables[name]):
            raise DataError(
                f"the {name} split of the data set {root} has {len(tables[name])} records, and "
                f"{PAGE} says {n}: a file is missing, or one too many is there. {_AGAIN}"
            )


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _load(root: Path) -> dict[str, pa.Table]:
    """Split -> table of Arrow."""
    import datasets

    try:
        with _silent(datasets):
            # Of a folder whose page names its files, `load_dataset` does not see that they have
            # changed, and hands out what they were.
            named = datasets.load_dataset_builder(str(root)).config.data_files
            files = {str(split): list(paths) for split, paths in named.items()}
            splits = datasets.load_dataset("parquet", data_files=files)
    except Exception as error:  # what it raises is of many libraries, and may hide the system's
        cause = error.__cause__ or error
        where = datasets.config.HF_DATASETS_CACHE
        way = (
            f"It is copied to {where}, which needs as much room as its files; the variable "
            "HF_DATASETS_CACHE names another folder."
            if isinstance(cause, OSError) and cause.errno is not None
            else "Fetch it again, or write it again with python -m datamodules export."
        )
        raise DataError(f"the data set {root} cannot be read: {_line(cause)}. {way}") from error
    return {str(name): split.data.table for name, split in splits.items()}


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """Without its bars and its log, which prints whole schemas: what is wrong is raised as well."""
    verbosity, shows = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not shows:
            datasets.enable_progress_bars()


def read_page(root: Path) -> dict[str, Any]:
    """The metadata of a data set's page; none where there is no page.

    Raises:
        DataError: they are no YAML.
    """
    import yaml
    from huggingface_hub import DatasetCard

    path = root / PAGE
    if not path.is_file():
        return {}
    try:
        said: dict[str, Any] = DatasetCard.load(path).data.to_dict()
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise DataError(
            f"the first lines of {path} cannot be read ({_line(error)}): they are YAML between two "
            "lines of ---. Correct them."
        ) from error
    return said


def facts_of(page: Mapping[str, Any]) -> dict[str, Any]:
    """What a page's metadata say of the records: fields of `RecordSource`."""
    ours = page.get(OURS)
    ours = ours if isinstance(ours, Mapping) else {}
    said = {name: ours[name] for name in FACTS if isinstance(ours.get(name), FACTS[name])}
    licence = page.get("license")
    if "licence" not in said and isinstance(licence, str) and licence != UNKNOWN_LICENCE:
        said["licence"] = licence
    return said


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(".")
