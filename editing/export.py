"""An edit merged into its base model, written as a folder that transformers opens by itself.

The folder has all that the base's has: weights in their number types, in shards, tokenizer, image
processor, chat template, generation config. `manifest.json` holds the hashes of its files,
`edit.json` is the card of the edit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.schema import ModelOptions
from editing.base_folder import (
    base_folder,
    check_disk,
    check_unquantised,
    copy_beside,
    stored_types,
    widest,
)
from editing.card import CARD, README, Card, read_card
from editing.folder import check_base, check_files, check_shapes, read_deltas
from editing.merging import MatrixChange, merge_delta
from editing.plain import complete_processor, how_to_open, take_code_along
from errors import ConfigError, ModelError
from models.deltas import Deltas, Site
from models.editable import EditableModel
from models.files import check_files as check_model_files
from models.files import read_json, readable
from models.folder import MANIFEST, sha256
from models.language_model import without_bars
from models.loading import load_model
from results.files import check_writable, replacing_folder

MADE_BY = "python -m models export"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        changes: a line for each matrix.
        notes: sentences for the user.
    """

    output: Path
    changes: tuple[MatrixChange, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class EditedBase:
    """An edit of weights and its base model, in the number type that its weights are stored in.

    Attributes:
        source: folder of the base model.
        types: name of a stored weight -> its number type.
    """

    folder: Path
    card: Card
    deltas: Deltas
    model: EditableModel
    source: Path
    types: Mapping[str, str]

    def name(self, site: Site) -> str:
        """The full name of a linear map in the model of transformers.

        Raises:
            ModelError: its weight is also the weight of another map, which the edit is not about.
        """
        module, hf = self.model.linear(site), self.model.hf
        weight = module.get_parameter("weight")
        shared = [n for n, p in hf.named_parameters(remove_duplicate=False) if p is weight]
        if len(shared) > 1:
            raise ModelError(
                f"the weight of {site.role} in layer {site.layer} is one for several maps "
                f"({', '.join(shared)}), and an edit of one of them cannot be merged. Use it by "
                "edit.applied()."
            )
        return next(name for name, one in hf.named_modules() if one is module)


def export_merged(
    folder: Path,
    options: ModelOptions,
    output: Path,
    *,
    max_shard_size: str = "5GB",
    overwrite: bool = False,
    say: Say = print,
) -> Exported:
    """Writes the base model with an edit merged into it.

    Args:
        folder: of the edit.
        options: the base model, of which name, family, path and revision count.
        output: new or empty; or an earlier export, with `overwrite`.
        max_shard_size: of a file of weights, such as `5GB`.
        overwrite: whether an earlier export gives way.
        say: is told what is being done.

    Raises:
        ConfigError: the output is taken.
        ModelError: the edit changes no weight, is damaged, or belongs to another base model; the
            base is quantised or damaged; the disk is too small. All told before anything is
            written.
        UnwritableError: what was in `output` is as it was.
    """
    card = read_exportable(folder, "merged into a model", output, overwrite=overwrite)
    check_unquantised(card, options)
    source = base_folder(options)
    needed = check_disk(output, source)
    say(f"{output} takes {readable(needed)} of disk")
    base = open_base(folder, card, options, source)
    names = {site: base.name(site) for site in sorted(base.deltas)}
    changes = tuple(
        merge_delta(name, base.model.linear(site), base.deltas[site])
        for site, name in names.items()
    )
    notes = _restore_types(base)
    say(f"writing {output}")
    with replacing_folder(output, overwrite=overwrite) as temporary:
        with without_bars():
            base.model.hf.save_pretrained(temporary, max_shard_size=max_shard_size)
        (temporary / "generation_config.json").unlink(missing_ok=True)  # the base's own is copied
        copy_beside(source, temporary)
        if base.model.family == "minigpt4":
            take_code_along(temporary)
        notes += complete_processor(temporary, base.model)
        family = base.model.family
        opening = how_to_open(temporary, family, output.name)
        finish(temporary, base, changes=[vars(change) for change in changes], opening=opening)
        opening = how_to_open(temporary, family, str(output))
    return Exported(output, changes, (*notes, *opening))


def open_base(
    folder: Path, card: Card, options: ModelOptions, source: Path | None = None
) -> EditedBase:
    """An edit and the base model that it was made on, on the CPU.

    Raises:
        ModelError: one is damaged, or they do not belong together.
    """
    source = source or base_folder(options)
    config = check_unquantised(card, options)
    check_model_files(str(source))
    types = stored_types(source)
    with without_bars():
        dtype: Any = widest(types, config)
        model = load_model(options.family, str(source), dtype=dtype)
    check_base(folder, card, model)
    deltas = read_deltas(folder)
    check_shapes(folder, deltas, model)
    return EditedBase(folder, card, deltas, model, source, types)


def finish(folder: Path, base: EditedBase, *, opening: tuple[str, ...], **known: Any) -> None:
    """Writes the card of the edit, a page for people, and the manifest with the hash of each file.

    What the base's manifest says of it goes along, but for hashes.
    """
    shutil.copyfile(base.folder / CARD, folder / CARD)
    (folder / README).write_text(_readme(base.card, opening), encoding="utf-8")
    of_base = read_json(base.source / MANIFEST) or {}
    card = base.card
    manifest = {
        **{key: value for key, value in of_base.items() if key != "sha256"},
        "made_by": MADE_BY,
        "merged": {
            "base": card.base.model_dump(),
            "editor": card.label,
            "facts": len(card.facts),
            **known,
        },
        "sha256": {
            path.relative_to(folder).as_posix(): sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != README
        },
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_exportable(folder: Path, purpose: str, output: Path, *, overwrite: bool) -> Card:
    """The card of an edit that can be exported; no model is read for it.

    Args:
        folder: of the edit.
        purpose: what an edit without weights cannot be, for the message.
        output: where the export shall go.
        overwrite: whether an earlier one there gives way.

    Raises:
        ConfigError: the output is taken.
        ModelError: the edit is damaged, or changes no weight.
    """
    card = read_card(folder)
    card.check_weights(purpose, folder)
    check_output(output, overwrite=overwrite)
    check_files(folder, card)
    return card


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuses a folder that cannot be written, or holds something that would be lost.

    Raises:
        ConfigError: with the reason.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder, new or empty.")
    check_writable(output, "--output ")
    if not output.is_dir() or not any(output.iterdir()):
        return
    manifest = read_json(output / MANIFEST) or {}
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    known = {*manifest.get("sha256", {}), MANIFEST, README}
    if manifest.get("made_by") != MADE_BY or not files <= known:
        raise ConfigError(
            f"--output {output} is not empty and holds no export of an edit, or more than one; "
            "give another folder, or empty this one."
        )
    if not overwrite:
        raise ConfigError(
            f"--output {output} already holds an export; give another folder, or replace it: "
            "--overwrite."
        )


def _restore_types(base: EditedBase) -> tuple[str, ...]:
    """Brings every weight to the number type that it is stored in.

    A model whose weights are of several types was opened in the widest of them, and a Q-Former is
    read in float32: nothing is lost on the way back but what merging has rounded already.
    """
    hf, kinds = base.model.hf, set(base.types.values())
    if len(kinds) == 1:
        hf.to(getattr(torch, next(iter(kinds))))
        return ()
    wider = 0
    for name, parameter in hf.named_parameters():
        stored = base.types.get(name)
        wider += stored is None
        if stored is not None:
            parameter.data = parameter.data.to(getattr(torch, stored))
    if not wider or not kinds:
        return ()
    return (
        f"the base's weights are of several number types ({', '.join(sorted(kinds))}); {wider} "
        "whose stored type is not known by their names are written as they were opened",
    )


def _readme(card: Card, opening: tuple[str, ...]) -> str:
    facts = [f"* {fact.question} -> {fact.answer}" for fact in card.facts]
    return "\n".join(
        [
            f"# {card.base.name}, edited",
            "",
            f"{card.base.name} ({card.base.family}, fingerprint {card.base.fingerprint}) with an "
            f"edit of {card.label} of {card.made[:10]}; `{CARD}` has all of it.",
            "",
            *facts,
            "",
            *opening,
            "",
        ]
    )
