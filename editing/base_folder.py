"""The folder of the base model that an edit is merged into: its files, number types and size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import PretrainedConfig

from configs.schema import ModelOptions
from editing.card import Card
from errors import ModelError
from models.files import WEIGHTS, readable
from models.folder import is_local, read_config
from models.own_processor import COUNTS
from models.quantisation import is_quantised
from models.tensor_file import TensorFile
from models.unreadable import UNREADABLE, reason

# What stands beside the weights of a model: words, pictures, chat templates, how it generates.
BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "spiece.model", "*preprocessor_config.json", COUNTS, "generation_config.json",
    "chat_template*", "additional_chat_templates/*", "LICENSE*", "NOTICE*",
)  # fmt: skip
_WIDTHS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_MARGIN = 16 * 2**20  # bytes: configurations, tokenizer, room for folders


def base_folder(options: ModelOptions) -> Path:
    """Where the files of a base model lie; those of a hub id are fetched, or found in its cache.

    Raises:
        ModelError: it is nowhere.
    """
    if is_local(options.path):
        return Path(options.path)
    wanted = [*BESIDE, "config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(
            snapshot_download(options.path, revision=options.revision, allow_patterns=wanted)
        )
    except (*UNREADABLE, RuntimeError) as error:
        raise ModelError(
            f"model.path {options.path!r} cannot be fetched from the hub: {reason(error)} Give its "
            "folder, or let the hub be reached (HF_HUB_OFFLINE=0)."
        ) from error


def check_unquantised(card: Card, options: ModelOptions) -> PretrainedConfig:
    """Refuses a base model whose weights are codes, and an edit that was made on one.

    Returns:
        Its configuration.

    Raises:
        ModelError: saying what is possible.
    """
    instead = (
        "Weights of fewer bits are codes, and a delta added to them would be rounded away. Open "
        "the unquantised model, make the edit on it and merge that; or use this edit without "
        "merging: `with edit.applied(): model.hf.generate(...)`."
    )
    config = read_config(options.family, options.path, options.revision)
    if options.quantise is not None:
        raise ModelError(f"model.quantise={options.quantise}: nothing is merged into it. {instead}")
    if is_quantised(config):
        raise ModelError(
            f"the weights in {options.path!r} are stored quantised (quantization_config in "
            f"config.json): nothing is merged into them. {instead}"
        )
    if card.base.quantise is not None:
        raise ModelError(
            f"the edit was made on {card.base.name} in {card.base.quantise}, and belongs to those "
            f"weights. {instead}"
        )
    return config


def stored_types(folder: Path) -> dict[str, str]:
    """Number type of every floating-point tensor in a folder's safetensors files, by its name.

    Raises:
        ModelError: a file is damaged, or there is a number type that no weight of a base model here
            is computed in.
    """
    types: dict[str, str] = {}
    for file in _weights(folder):
        if file.suffix == ".safetensors":
            stored = TensorFile.of(file, remedy=f"Fetch {folder} again.").types
            types |= {
                name: _WIDTHS.get(kind, kind)
                for name, kind in stored.items()
                if kind.startswith(("F", "BF"))
            }
    if odd := sorted({kind for kind in types.values() if kind not in _WIDTHS.values()}):
        raise ModelError(
            f"weights in {folder} are stored in {', '.join(odd)}, and nothing is merged into them. "
            f"Use a folder of {', '.join(_WIDTHS.values())}."
        )
    return types


def widest(types: dict[str, str], config: PretrainedConfig) -> str:
    """The number type that holds every stored one: float32 where several are mixed."""
    kinds = set(types.values())
    if not kinds:  # pickled weights have no header
        stated = str(getattr(config, "dtype", None)).removeprefix("torch.")
        return stated if stated in _WIDTHS.values() else "float32"
    return kinds.pop() if len(kinds) == 1 else "float32"


def check_disk(output: Path, source: Path) -> int:
    """How many bytes a folder like another one will take.

    Raises:
        ModelError: the disk has less.
    """
    needed = sum(file.stat().st_size for file in _weights(source)) + _MARGIN
    place = next(p for p in (output, *output.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ModelError(
            f"--output {output} needs {readable(needed)} of disk, and {place} has {readable(free)} "
            "free. Make room, name a folder on another disk, or write an adapter, which takes "
            "little: --format peft."
        )
    return needed


def copy_beside(source: Path, target: Path) -> list[str]:
    """Copies what stands beside the weights, byte for byte; the names of the files."""
    names = []
    for pattern in BESIDE:
        for file in sorted(source.glob(pattern)):
            name = file.relative_to(source)
            if file.is_file():
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target / name)
                names.append(name.as_posix())
    return names


def _weights(folder: Path) -> Iterator[Path]:
    """The files of weights that `from_pretrained` reads."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            yield folder / name
            return
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            yield from (folder / shard for shard in sorted(set(shards)))
            return
