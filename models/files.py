"""The files of a base model in transformers' form, one by one: which there are, and what of them.

A safetensors file says in its first bytes how long it has to be, so a broken download is seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from errors import ModelError
from models.folder import MANIFEST, is_local
from models.own_processor import COUNTS, settings_of

Find = Callable[[str], Path | None]
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which they are looked for
VOCABULARIES = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
SPECIAL = (("tokenizer_config.json",), ("special_tokens_map.json",))
PICTURES = "preprocessor_config.json"
CHAT = ("chat_template.jinja", "chat_template.json")
# Read by transformers, which is not clear about what it cannot read.
SETTINGS = (
    "config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "preprocessor_config.json", "processor_config.json", MANIFEST,
)  # fmt: skip
INDEX = "list of shards"
_SLACK = 0.02  # by which shards may differ from what their index says, which some tools round


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        file: its name, or names where one of several will do.
        path: where it is; None where it is not.
        optional: whether all but what it is for works without it.
    """

    file: str
    purpose: str
    source: str
    path: Path | None = None
    problem: str = ""
    optional: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing of it keeps a model from being opened."""
        return (self.optional or self.path is not None) and not self.problem

    @property
    def size(self) -> int | None:
        """Bytes; None where it is not there."""
        return None if self.path is None else self.path.stat().st_size


def check_files(path: str) -> None:
    """Refuses a local folder in which a file is damaged, or a shard is missing that an index names.

    Whatever else is missing is told by those who need it.

    Raises:
        ModelError: naming all such files.
    """
    folder = Path(path)
    if not is_local(path) or not folder.is_dir():
        return
    find = in_folder(folder)
    wrong = [
        f"{name} is no JSON object"
        for name in SETTINGS
        if (file := find(name)) is not None and read_json(file) is None
    ]
    weights = list(_weights(find, ""))
    for item in weights:
        is_index = item.purpose == INDEX and len(weights) > 1  # sizes there are no reason
        if item.problem and not is_index:
            wrong.append(f"{item.file} {item.problem}")
        elif item.path is None and (folder / item.file).suffix in (".safetensors", ".bin"):
            wrong.append(f"{item.file} is not there, and the index of the weights names it")
    if wrong:
        raise ModelError(
            f"model.path {path!r} holds files that cannot be used: {'; '.join(wrong)}. Fetch them "
            "again from where the folder is from."
        )


def check_needs(family: str, path: str) -> None:
    """Refuses a local folder without the files of words and pictures that its model is opened by.

    Raises:
        ModelError: naming all of them, and what they are for.
    """
    folder = Path(path)
    if not is_local(path) or not folder.is_dir():
        return
    absent = [item for item in _words_and_pictures(in_folder(folder), "", family) if not item.good]
    if absent:
        listed = "; ".join(f"{item.file} ({item.purpose})" for item in absent)
        raise ModelError(
            f"model.path {path!r} cannot be opened. Not in that folder: {listed}. Put those of "
            "this very model beside its weights; `python -m models check model=MODEL "
            f"model.path={path}` lists all that it needs."
        )


def model_files(find: Find, source: str, family: str, kind: str | None) -> Iterator[Item]:
    """The files of a model in transformers' form.

    Args:
        find: where a file of some name is.
        source: where they come from.
        family: `model.family`.
        kind: the model type that its config.json has to name; None for any.
    """
    config = Item("config.json", "sizes and family", source, find("config.json"))
    yield replace(config, problem=_config_problem(config.path, kind))
    yield from _weights(find, source)
    yield from _words_and_pictures(find, source, family)
    if family == "auto":
        yield _chat_template(find, source)


def _words_and_pictures(find: Find, source: str, family: str) -> Iterator[Item]:
    yield _one_of(find, VOCABULARIES, "words", source)
    yield _one_of(find, SPECIAL, "special tokens", source)
    counts = find(COUNTS)
    images = find(PICTURES)
    if images is None and "image_processor" in (read_json(counts) or {}):
        images = counts  # transformers 5 writes all of a processor into one file
    yield Item(PICTURES, "pictures: size, colours", source, images)
    if family == "auto" and (asked := _asked(find)):
        yield Item(COUNTS, f"a picture's tokens: {', '.join(asked)}", source, counts)


def _asked(find: Find) -> tuple[str, ...]:
    kind = (read_json(find("config.json")) or {}).get("model_type")
    return settings_of(kind) if isinstance(kind, str) else ()


def _chat_template(find: Find, source: str) -> Item:
    """The template of the native prompt, a file of its own or inside another."""
    for name in (*CHAT, "tokenizer_config.json", COUNTS):
        path = find(name)
        if path is not None and (name in CHAT or (read_json(path) or {}).get("chat_template")):
            break
    else:
        name, path = " or ".join(CHAT), None
    return Item(name, "data.prompt=native, and nothing else", source, path, optional=True)


def _config_problem(path: Path | None, kind: str | None) -> str:
    if path is None:
        return ""
    content = read_json(path)
    if content is None:
        return "is no JSON"
    written = content.get("model_type")
    return "" if kind in (None, written) else f"is of a {written!r} model, not {kind!r}"


def _weights(find: Find, source: str) -> Iterator[Item]:
    for name in WEIGHTS:
        whole, index = find(name), find(f"{name}.index.json")
        if whole is not None:
            yield Item(name, "weights", source, whole, _broken(whole))
            return
        if index is not None:
            yield from _shards(find, Item(index.name, INDEX, source, index))
            return
    yield Item("model.safetensors or its shards", "weights", source)


def _shards(find: Find, index: Item) -> Iterator[Item]:
    """An index, and every shard that it names."""
    assert index.path is not None
    content = read_json(index.path) or {}
    shard_of = content.get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        yield replace(index, problem="names no shard")
        return
    shards = []
    for name in sorted(set(shard_of.values())):
        path = find(name)
        tensors = frozenset(tensor for tensor, shard in shard_of.items() if shard == name)
        problem = "" if path is None else _broken(path, tensors)
        shards.append(Item(name, "weights", index.source, path, problem))
    yield replace(index, problem=_wrong_total(shards, content.get("metadata") or {}))
    yield from shards


def _wrong_total(shards: list[Item], metadata: Mapping[str, Any]) -> str:
    """What is wrong with the shards together, where each of them looks sound."""
    expected = metadata.get("total_size")
    if not expected or not all(shard.good for shard in shards):
        return ""
    size = sum(shard.size or 0 for shard in shards)
    if abs(size / expected - 1) <= _SLACK or abs(size - expected) < 2**20:
        return ""
    return f"says {readable(expected)}, and its shards have {readable(size)}"


def _broken(path: Path, tensors: frozenset[str] = frozenset()) -> str:
    """What is wrong with a file of weights, by its size and first bytes; nothing if it is sound."""
    with path.open("rb") as file:
        if file.read(8) == b"version ":
            return "is a git-lfs pointer and not the file: run `git lfs pull`"
    if path.suffix != ".safetensors":
        return "" if path.stat().st_size else "is empty"
    try:
        with safe_open(path, "np") as stored:
            absent = sorted(tensors - set(stored.keys()))
    except (SafetensorError, OSError) as error:
        return f"is cut off or damaged ({error})"
    return f"lacks {len(absent)} weights, {absent[0]} among them" if absent else ""


def _one_of(find: Find, choices: Sequence[Sequence[str]], purpose: str, source: str) -> Item:
    """The first of several sets of files that is there."""
    for names in choices:
        paths = [find(name) for name in names]
        if all(paths):
            return Item(names[0], purpose, source, paths[0])
    listed = " or ".join(" + ".join(names) for names in choices)
    return Item(listed, purpose, source)


def in_folder(folder: Path) -> Find:
    """Finds files in a folder."""

    def find(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return find


def read_json(path: Path | None) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none."""
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def readable(count: float) -> str:
    """Bytes as text, in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"
