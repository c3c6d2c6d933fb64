"""What a base model needs on disk, and whether it is there; no weight is read.

    config.json                       sizes, and which family it is
    model.safetensors                 weights in one file, or an index and every shard it names
    tokenizer.json or its sources     words
    preprocessor_config.json          pictures
    manifest.json                     hashes, of models that this project made

A safetensors file says in its first bytes how long it has to be, so a broken download is seen.
What is around SmolLM2 is built by `python -m models smollm`. MiniGPT-4 lies nowhere in this form;
where its folder is not there, the four originals are listed that `python -m models.minigpt4
convert` makes it from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from errors import ModelError
from models.families import family_of
from models.folder import MANIFEST, is_local, sha256

Find = Callable[[str], Path | None]
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which they are looked for
VOCABULARIES = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
PICTURES = ("preprocessor_config.json", "processor_config.json")
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
    """

    file: str
    purpose: str
    source: str
    path: Path | None = None
    problem: str = ""

    @property
    def good(self) -> bool:
        return self.path is not None and not self.problem

    @property
    def size(self) -> int | None:
        return None if self.path is None else self.path.stat().st_size


ORIGINALS = (
    Item("eva_vit_g.pth", "vision tower", "LAVIS' public storage"),
    Item("blip2_pretrained_flant5xxl.pth", "Q-Former", "LAVIS' public storage"),
    Item("prerained_minigpt4_7b.pth", "projection", "MiniGPT-4's repository, README"),
    Item("a folder with Vicuna 7B v0", "language model", "lmsys' delta weights on LLaMA 7B"),
)
_LAVIS = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2"
_FETCHING = (
    f"curl -LO {_LAVIS}/eva_vit_g.pth",
    f"curl -LO {_LAVIS}/blip2_pretrained_flant5xxl.pth",
    "prerained_minigpt4_7b.pth: https://github.com/Vision-CAIR/MiniGPT-4, README, the checkpoint "
    "for Vicuna 7B",
    "Vicuna 7B v0: https://huggingface.co/lmsys/vicuna-7b-delta-v0, applied to LLaMA 7B by FastChat"
    " 0.1.10 (python -m fastchat.model.apply_delta --base LLAMA_7B --target VICUNA_7B_V0 --delta "
    "DELTA)",
)


@dataclass(frozen=True)
class Report:
    """All files of a model.

    Attributes:
        advice: what to do where something is missing, line by line.
    """

    name: str
    path: str
    items: tuple[Item, ...]
    advice: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return all(item.good for item in self.items)


def check_model(name: str, family: str, path: str, revision: str | None = None) -> Report:
    """Looks for every file of a base model; `name` is what results call it.

    Other arguments as in `models.loading.load_model`.

    Raises:
        ModelError: there is no such family.
    """
    kind = family_of(family).model_type
    if not is_local(path):
        source = f"{path} at {revision[:8] if revision else 'main'}"
        items = _files(_in_cache(path, revision), source, kind)
        return Report(name, path, tuple(items), (_download(path, revision),))
    folder = Path(path)
    if name.endswith("_tiny"):
        source = f"python pretrain.py model={name}"
        advice = f"git checkout -- {path} where it shipped, or {source}"
    elif name.startswith("smollm_llava"):
        source, advice = "python -m models smollm", _build(name, path)
    elif family == "minigpt4":
        source, advice = "python -m models.minigpt4 convert", _convert(path)
        if not folder.is_dir():
            return Report(name, path, ORIGINALS, (*_FETCHING, advice))
    else:
        source = "where the folder is from"
        advice = f"complete the folder {path}, or set model.path=FOLDER"
    items = _against_manifest(folder, _files(_in_folder(folder), source, kind))
    return Report(name, path, tuple(items), (advice,))


def check_files(path: str) -> None:
    """Refuses a local folder in which a file is damaged, or a shard is missing that an index names.

    Whatever else is missing is told by those who need it.

    Raises:
        ModelError: naming all such files.
    """
    folder = Path(path)
    if not is_local(path) or not folder.is_dir():
        return
    find = _in_folder(folder)
    wrong = [
        f"{name} is no JSON object"
        for name in SETTINGS
        if (file := find(name)) is not None and _json(file) is None
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


def _files(find: Find, source: str, kind: str | None) -> Iterator[Item]:
    """The files of a model in transformers' form."""
    config = Item("config.json", "sizes and family", source, find("config.json"))
    yield replace(config, problem=_config_problem(config.path, kind))
    yield from _weights(find, source)
    yield _one_of(find, VOCABULARIES, "words", source)
    settings = "tokenizer_config.json"
    yield Item(settings, "special tokens", source, find(settings))
    yield _one_of(find, [(name,) for name in PICTURES], "pictures", source)


def _config_problem(path: Path | None, kind: str | None) -> str:
    if path is None:
        return ""
    content = _json(path)
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
    content = _json(index.path) or {}
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


def _against_manifest(folder: Path, items: Iterator[Item]) -> Iterator[Item]:
    """Compares hashes, where there is a manifest; files that only it names come last."""
    path = folder / MANIFEST
    hashes = (_json(path) or {}).get("sha256", {}) if path.is_file() else {}
    for item in items:
        expected = hashes.pop(item.file, None)
        if expected is None or not item.good:
            yield item
        else:
            yield replace(item, problem=_changed(folder / item.file, expected))
    for name, expected in hashes.items():
        file = folder / name
        item = Item(name, "named in manifest.json", "its manifest")
        if file.is_file():
            item = replace(item, path=file, problem=_changed(file, expected))
        yield item


def _changed(path: Path, expected: str) -> str:
    digest = sha256(path)
    return "" if digest == expected else f"is not the manifest's: sha256 {digest[:12]}"


def _in_folder(folder: Path) -> Find:
    def find(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return find


def _in_cache(repository: str, revision: str | None) -> Find:
    def find(name: str) -> Path | None:
        path = try_to_load_from_cache(repository, name, revision=revision)
        return Path(path) if isinstance(path, str) else None

    return find


def _download(repository: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"hf download {repository}{at}, or set model.path=FOLDER to where it is"


def _convert(path: str) -> str:
    return (
        "python -m models.minigpt4 convert --vit eva_vit_g.pth "
        "--qformer blip2_pretrained_flant5xxl.pth --projection prerained_minigpt4_7b.pth "
        f"--vicuna VICUNA_7B_V0 --output {path}"
    )


def _build(name: str, path: str) -> str:
    alignment = name.removeprefix("smollm_llava").removeprefix("_")
    chosen = f" --alignment {alignment}" if alignment else ""
    return f"python -m models smollm{chosen} --output {path}"


def _json(path: Path) -> dict[str, Any] | None:
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
