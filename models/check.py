"""What a base model needs on disk, and whether it is there; no weight is read.

    config.json                       sizes, and which family it is
    model.safetensors                 weights in one file, or an index and every shard it names
    tokenizer.json or its sources     words
    tokenizer_config.json             special tokens
    preprocessor_config.json          pictures
    processor_config.json             a picture's tokens, where the family's processor asks for it
    chat_template.json                the native prompt of model=auto
    manifest.json                     hashes, of models that this project made

Where model=auto has all of it, tokenizer and processor are opened on trial. What is around SmolLM2
is built by `python -m models smollm`. MiniGPT-4 lies nowhere in this form; where its folder is not
there, the four originals are listed that `python -m models.minigpt4 convert` makes it from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from errors import ModelError
from models.families import family_of
from models.files import Find, Item, in_folder, model_files, read_json
from models.folder import MANIFEST, is_local, sha256
from models.processor import load_processor

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
        refused: why tokenizer and processor cannot be opened although all files are there.
    """

    name: str
    path: str
    items: tuple[Item, ...]
    advice: tuple[str, ...]
    refused: str = ""

    @property
    def complete(self) -> bool:
        return all(item.good for item in self.items) and not self.refused


def check_model(name: str, family: str, path: str, revision: str | None = None) -> Report:
    """Looks for every file of a base model; `name` is what results call it.

    Other arguments as in `models.loading.load_model`.

    Raises:
        ModelError: there is no such family.
    """
    kind = family_of(family).model_type
    if not is_local(path):
        source = f"{path} at {revision[:8] if revision else 'main'}"
        items = model_files(_in_cache(path, revision), source, family, kind)
        return _tried(Report(name, path, tuple(items), (_download(path, revision),)), family)
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
    items = _against_manifest(folder, model_files(in_folder(folder), source, family, kind))
    return _tried(Report(name, path, tuple(items), (advice,)), family)


def _tried(report: Report, family: str) -> Report:
    """The same after tokenizer and processor of model=auto were opened, where all is there.

    What a family's processor makes of its files no list of names can tell.
    """
    config = report.items[0].path
    if family != "auto" or not report.complete or config is None:
        return report
    try:
        load_processor(family, str(config.parent))
    except ModelError as error:
        return replace(report, refused=str(error))
    return report


def _against_manifest(folder: Path, items: Iterator[Item]) -> Iterator[Item]:
    """Compares hashes, where there is a manifest; files that only it names come last."""
    path = folder / MANIFEST
    hashes = (read_json(path) or {}).get("sha256", {}) if path.is_file() else {}
    for item in items:
        expected = hashes.pop(item.file, None)
        if expected is None or item.path is None or item.problem:
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
