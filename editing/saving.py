"""Writes an edit into a folder, whole or not at all; `editing.card` says what lies in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors.torch import save_file
from torch import Tensor

from configs.composing import CONFIG_DIR
from datamodules.picture_file import read_image
from editing.card import (
    CARD,
    CODEBOOK,
    DELTAS,
    FORMAT,
    KEYS,
    MEMORY,
    PICTURES,
    README,
    STATISTICS,
    UNKNOWN,
    VERSION,
    Base,
    Card,
    Kind,
    Method,
    Shown,
    Source,
    StoredFact,
    Trained,
    portable,
)
from editing.carried import write_carried
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.folder import BY_COLUMN, KeptFactEditor
from editing.readme import readme
from editors.base import DeltaEdit
from editors.hub import checkpoint_file
from errors import ConfigError, ModelError
from models.deltas import Deltas, LowRankDelta
from models.folder import is_local, sha256
from options import without_tilde
from results.files import check_writable, replacing_folder
from results.provenance import git_state, versions

if TYPE_CHECKING:
    from editors.grace.editor import GraceEdit
    from editors.ike.editor import IkeEdit
    from editors.serac.editor import SeracEdit

_FILES = {CARD, README, DELTAS, KEYS, STATISTICS, CODEBOOK, MEMORY, PICTURES}
_PACKAGES = ("python", "torch", "transformers", "safetensors")
_PROJECT = CONFIG_DIR.parent / "pyproject.toml"


def save_edit(edit: FactEdit, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Writes an edit into a folder, whole or not at all.

    Args:
        edit: of one fact, or of several added up.
        folder: new or empty; or one that holds an edit, with `overwrite`.
        overwrite: whether an earlier edit there gives way.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder is taken, or nothing can be written there.
        DataError: a picture of the edit is gone.
        UnwritableError: the disk is full; what was there is as it was.
    """
    folder = Path(without_tilde(str(folder)))
    _check_target(folder, overwrite=overwrite)
    pictures = _pictures(edit)
    with replacing_folder(folder, overwrite=overwrite) as temporary:
        for name, source in pictures.items():
            (temporary / PICTURES).mkdir(exist_ok=True)
            read_image(source).save(temporary / name)
        kind, shown = _write_value(edit, temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): sha256(path) for path in files}
        card = _card(edit, kind, shown, {path: name for name, path in pictures.items()}, hashes)
        (temporary / CARD).write_text(card.text(), encoding="utf-8")
        (temporary / README).write_text(readme(card, folder.name), encoding="utf-8")
    return folder


def _check_target(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder, new or empty.")
    check_writable(folder, "")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / CARD).is_file() or not {path.name for path in folder.iterdir()} <= _FILES:
        raise ConfigError(
            f"{folder} is not empty and holds no edit, or more than one: nothing in it is "
            "replaced. Give another folder, or empty this one."
        )
    if not overwrite:
        raise ConfigError(
            f"{folder} already holds an edit; give another folder, or replace it: overwrite=True."
        )


def _pictures(edit: FactEdit) -> dict[str, Path]:
    """File in the folder -> picture, each once: its pixels alone, without what a camera notes."""
    paths = dict.fromkeys(fact.image for fact in edit.facts if fact.image is not None)
    for path in paths:
        read_image(path)
    return {f"{PICTURES}/{number}.png": path for number, path in enumerate(paths)}


def _write_value(edit: FactEdit, folder: Path) -> tuple[Kind, Shown | None]:
    """Writes what answers; IKE's is text, which goes into the card."""
    if isinstance(edit.value, DeltaEdit):
        write_deltas(edit.value.deltas, folder / DELTAS)
        write_carried(edit.value, folder, edit.model.editable)
        return "deltas", None
    name = edit.editor.options.name
    if name == "grace":
        cast("GraceEdit", edit.value).entries.save(folder / CODEBOOK)
        return "codebook", None
    if name == "serac":
        cast("SeracEdit", edit.value).memory.save(folder / MEMORY)
        return "memory", None
    if name == "ike":
        value = cast("IkeEdit", edit.value)
        return "demonstrations", Shown(
            demonstrations=[list(texts) for texts in value.demonstrations],
            statements=list(value.statements),
            questions=list(value.questions),
            stored=value.stored,
        )
    raise ModelError(
        f"edits of editor={name} cannot be saved: what answers is a {type(edit.value).__name__}, "
        "and deltas of weights, a codebook of GRACE, a memory of SERAC or demonstrations of IKE "
        "are known here. editing/folder.py says how those are written."
    )


def write_deltas(deltas: Deltas, path: Path) -> None:
    """Writes the deltas of one edit, in their number types.

    A matrix that lies in memory column by column is named in the file's metadata, to be laid out
    so again: the last digits of a product depend on it.
    """
    tensors: dict[str, Tensor] = {}
    by_column = []
    for site, delta in sorted(deltas.items()):
        names = ("inputs", "outputs") if isinstance(delta, LowRankDelta) else ("weight",)
        for part in names:
            name, tensor = f"{site.key}.{part}", getattr(delta.detach(), part)[0].cpu()
            tensors[name] = tensor.contiguous()
            if tensor.mT.is_contiguous() and not tensor.is_contiguous():
                by_column.append(name)
    save_file(tensors, path, {BY_COLUMN: " ".join(by_column)})


def _card(
    edit: FactEdit,
    kind: Kind,
    shown: Shown | None,
    pictures: Mapping[Path, str],
    hashes: dict[str, str],
) -> Card:
    options = edit.model.options
    makers = list({id(maker): maker for maker in edit.editors}.values())
    methods = [_method(maker) for maker in makers]
    facts = [
        StoredFact(
            question=fact.question, answer=fact.answer, subject=fact.subject,
            image=None if fact.image is None else pictures[fact.image],
            method=next(n for n, one in enumerate(makers) if one is maker),
        )
        for fact, maker in zip(edit.facts, edit.editors, strict=True)
    ]  # fmt: skip
    return Card(
        format=FORMAT,
        version=VERSION,
        kind=kind,
        base=Base(
            family=options.family,
            fingerprint=edit.model.fingerprint(),
            name=portable(options.name),
            hub=None if is_local(options.path) else options.path,
            revision=options.revision,
            quantise=options.quantise,
        ),
        methods=methods,
        facts=facts,
        prompt=edit.model.encoder.form,
        data=_sources(makers),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=_versions(),
        shown=shown,
        sha256=hashes,
    )


def _method(maker: FactEditor) -> Method:
    if isinstance(maker, KeptFactEditor):
        return maker.method
    ckpt = None
    if maker.ckpt is not None:
        ckpt = Trained(name=portable(maker.ckpt), sha256=sha256(checkpoint_file(maker.ckpt)))
    options = portable(maker.options.model_dump())
    return Method(label=maker.options.label, options=options, ckpt=ckpt, data=maker.data)


def _sources(makers: Sequence[FactEditor]) -> list[Source]:
    """Where facts, demonstrations and the training of an editor come from, as far as is known."""
    sources = [Source(what="facts", source="given by whoever made the edit", licence=UNKNOWN)]
    sources += [maker.source for maker in makers if maker.source is not None]
    return list({str(source): source for source in sources}.values())


def _versions() -> dict[str, str]:
    """Of what made the edit, this project among it."""
    known = versions()
    project = UNKNOWN
    if _PROJECT.is_file():
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    commit = (git_state() or {}).get("commit")
    of_packages = {name: known[name] for name in _PACKAGES if name in known}
    return {**of_packages, "tmke": project if commit is None else f"{project}+{str(commit)[:12]}"}
