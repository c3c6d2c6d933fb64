"""An edit kept in a folder, read for the base model that it belongs to; `editing.saving` writes it.

`editing.card` says what lies in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from configs.check import load_edit_config
from configs.words import quoted
from editing.card import CARD, CODEBOOK, DELTAS, MEMORY, Card, Method, portable, read_card
from editing.carried import with_carried
from editing.edit import Fact, FactEdit
from editing.editor import FactEditor, build, editor_options
from editing.model import OpenedModel, model_words
from editors.base import DeltaEdit, Edit
from editors.hub import checkpoint_file, edit_folder
from editors.options import EditorOptions
from editors.registry import registration, with_current_names
from errors import ConfigError, ModelError
from models.deltas import Delta, Deltas, DenseDelta, LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.folder import sha256
from models.rows import EditBatch
from models.sites import ROLES
from models.tensor_file import TensorFile
from options import is_on_hub, without_tilde

BY_COLUMN = "by_column"  # in the metadata of the deltas: matrices that lay in memory that way
log = logging.getLogger(__name__)
_AGAIN = "Copy the folder again, or save the edit again."


class KeptEditor:
    """Stands for the editor of an edit of weights that was read: the deltas are all of it."""

    def __init__(self, name: str, deltas: Deltas) -> None:
        self.name, self._deltas = name, deltas

    def first_layer(self, model: EditableModel) -> int:
        """The lowest layer that the edit changes."""
        return min((site.layer for site in self._deltas), default=model.n_layers - 1)

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> Edit:
        """Makes none.

        Raises:
            ModelError: always.
        """
        del model, batch, state
        raise _no_more(self.name)


@dataclass(frozen=True)
class KeptFactEditor(FactEditor):
    """The editor of an edit that was read: its options, and nothing to make others with.

    Attributes:
        method: what the card says of it.
    """

    method: Method = field(kw_only=True)

    def edit(self, *_: Any, **__: Any) -> FactEdit:
        """Makes none.

        Raises:
            ModelError: always.
        """
        raise _no_more(self.options.name)


def load_edit(
    folder: str | Path, model: OpenedModel, *, ckpt: str | Path | None = None
) -> FactEdit:
    """Reads an edit that `FactEdit.save` wrote.

    Args:
        folder: where it lies; or `hub:OWNER/NAME`, a repository of a hub that holds it.
        model: the base model that it was made on.
        ckpt: the checkpoint of the trained editor. SERAC answers by its networks, so it is needed
            where the card does not name a file that is there; MEND's edits need none.

    Returns:
        The edit, which answers bit for bit as the one that was saved.

    Raises:
        ModelError: the folder is damaged or only there in part, the edit belongs to another base
            model, or the checkpoint is missing or another one.
    """
    folder = Path(without_tilde(str(edit_folder(folder))))
    card = read_card(folder)
    check_files(folder, card)
    check_base(folder, card, model.editable)
    if card.prompt != model.encoder.form:
        log.warning(
            "the edit in %s was made with the %s form of prompts, and the model asks in the %s "
            "one; open_model(..., prompt=%r) asks as it was taught",
            folder, card.prompt, model.encoder.form, card.prompt,
        )  # fmt: skip
    facts = tuple(
        Fact(f.question, f.answer, None if f.image is None else (folder / f.image).absolute(),
             f.subject)
        for f in card.facts
    )  # fmt: skip
    kept = _Kept(folder, card, model, _checkpoint(folder, card, ckpt))
    value, editors = _READ[card.kind](kept)
    makers = [editors[fact.method] for fact in card.facts]
    return FactEdit(facts, makers[-1], value, tuple(makers[:-1]))


def read_deltas(folder: Path) -> dict[Site, Delta]:
    """The deltas of an edit of weights, E = 1, on the CPU.

    Raises:
        ModelError: the file cannot be read, or holds something else.
    """
    path = folder / DELTAS
    file = TensorFile.of(path, remedy=_AGAIN)
    by_column = file.facts.get(BY_COLUMN, "").split()
    parts: dict[Site, dict[str, Tensor]] = {}
    for name, tensor in file.read().items():
        key, _, part = name.rpartition(".")
        site = Site.of_key(key)
        if site is None or tensor.ndim != 2:
            raise ModelError(
                f"{path} holds {name!r} of shape {tuple(tensor.shape)}; a matrix named "
                f"<layer>.<{'|'.join(ROLES)}>.<inputs|outputs|weight> is expected. {_AGAIN}"
            )
        # Copies: last digits depend on where a matrix begins in memory, and in a file that varies.
        copy = tensor.mT.contiguous().mT if name in by_column else tensor.clone()
        parts.setdefault(site, {})[part] = copy[None]
    return {site: _delta(path, site, named) for site, named in parts.items()}


def check_files(folder: Path, card: Card) -> None:
    """Compares what lies in an edit folder with the hashes of its card.

    Raises:
        ModelError: naming the files that are missing or changed.
    """
    wrong = []
    for name, expected in card.sha256.items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name} is not there")
        elif sha256(file) != expected:
            wrong.append(f"{name} is not what was written (its sha256 is another one)")
    if wrong:
        raise ModelError(
            f"edit={folder} is damaged, or was copied only in part: {'; '.join(wrong)}. {_AGAIN}"
        )


def check_base(folder: Path, card: Card, model: EditableModel) -> None:
    """Refuses a base model that an edit was not made on.

    Raises:
        ModelError: naming both.
    """
    base, fingerprint = card.base, model.fingerprint()
    if base.fingerprint == fingerprint:
        return
    bits = f" in {base.quantise}" if base.quantise else ""
    where = f" ({base.hub})" if base.hub else ""
    raise ModelError(
        f"the edit in {folder} was made on {base.name} ({base.family}{bits}, fingerprint "
        f"{base.fingerprint}), and the model given is of family {model.family} with fingerprint "
        f"{fingerprint}. Open the base that it was made on{where}, or make the edit again on this "
        "one: an edit means nothing to other weights."
    )


def check_shapes(folder: Path, deltas: Deltas, model: EditableModel) -> None:
    """Refuses deltas that do not fit a model's matrices.

    Raises:
        ModelError: naming the matrix.
    """
    for site, delta in deltas.items():
        expected = linear_shape(model.linear(site))
        if isinstance(delta, LowRankDelta):
            shape = (delta.inputs.shape[-1], delta.outputs.shape[-1])
            pairs = delta.inputs.shape[1] != delta.outputs.shape[1]
        else:
            shape, pairs = (delta.weight.shape[-1], delta.weight.shape[-2]), False
        if shape != expected or pairs:
            raise ModelError(
                f"the edit in {folder} changes {site.role} of layer {site.layer} by a matrix of "
                f"{shape[0]} inputs and {shape[1]} outputs, and the model has {expected[0]} and "
                f"{expected[1]} there: it belongs to another model."
            )


def _no_more(name: str) -> ModelError:
    return ModelError(
        f"this edit of editor={name} was read from a folder, without what makes others. "
        f"open_editor({name!r}, model) makes edits, and they can be added to it."
    )


def _delta(path: Path, site: Site, parts: Mapping[str, Tensor]) -> Delta:
    if set(parts) == {"weight"}:
        return DenseDelta(parts["weight"])
    if set(parts) == {"inputs", "outputs"}:
        return LowRankDelta(parts["inputs"], parts["outputs"])
    raise ModelError(
        f"{path} has {', '.join(sorted(parts))} of {site.role} in layer {site.layer}; inputs and "
        f"outputs are expected, or weight alone. {_AGAIN}"
    )


@dataclass(frozen=True)
class _Kept:
    """An edit folder that is being read.

    Attributes:
        ckpt: the checkpoint of the editor that answers, None where none was given and none is
            needed.
    """

    folder: Path
    card: Card
    model: OpenedModel
    ckpt: str | None

    def deltas(self) -> tuple[Edit, list[FactEditor]]:
        """FT, LoRA, MEND, MALMEN, RLEdit, UltraEdit, ROME, MEMIT."""
        device = self.model.editable.device
        deltas = {site: _moved(d, device) for site, d in read_deltas(self.folder).items()}
        check_shapes(self.folder, deltas, self.model.editable)
        editors = [
            self._kept(method, KeptEditor(self._options(method).name, deltas))
            for method in self.card.methods
        ]
        edit = with_carried(DeltaEdit(deltas), self.folder, self.card, self.model.editable)
        return edit, editors

    def codebook(self) -> tuple[Edit, list[FactEditor]]:
        """GRACE: the entries, by which its codebook is built again."""
        from editors.grace.codebook import Entries
        from editors.grace.config import GraceOptions
        from editors.grace.editor import Grace

        options = self._options(self.card.methods[self.card.facts[-1].method])
        editor = Grace(cast("GraceOptions", options))
        entries = Entries.load(self.folder / CODEBOOK, self.model.editable.device)
        return editor.recall(entries), [self._kept(one, editor) for one in self.card.methods]

    def memory(self) -> tuple[Edit, list[FactEditor]]:
        """SERAC: its networks, and what they look up."""
        from editors.serac.editor import Serac, SeracEdit
        from editors.serac.memory import Memory

        editor = self._trained()
        memory = Memory.load(self.folder / MEMORY)
        alone = torch.zeros(1, dtype=torch.int64, device=self.model.editable.device)
        value = SeracEdit(cast("Serac", editor.editor), memory, alone if len(memory) == 1 else None)
        return value, [editor] * len(self.card.methods)

    def demonstrations(self) -> tuple[Edit, list[FactEditor]]:
        """IKE: texts."""
        from editors.ike.config import IkeOptions
        from editors.ike.editor import Ike, IkeEdit
        from editors.ike.retrieval import Sentences

        shown = self.card.shown
        assert shown is not None  # the card was checked
        method = self.card.methods[self.card.facts[-1].method]
        options = cast("IkeOptions", self._options(method))
        sentences = Sentences(options.encoder, self.model.editable.device)
        editor = Ike(options, self.model.encoder, None, sentences)
        value = IkeEdit(
            editor,
            tuple(tuple(texts) for texts in shown.demonstrations),
            tuple(shown.statements),
            tuple(shown.questions),
            tuple(range(len(shown.questions))),
            stored=shown.stored,
        )
        return value, [self._kept(one, editor) for one in self.card.methods]

    def _kept(self, method: Method, editor: Any) -> FactEditor:
        options = self._options(method)
        source = next((one for one in self.card.data if one.data == method.data), None)
        return KeptFactEditor(options, self.model, editor, None, method.data, source, method=method)

    def _options(self, method: Method) -> EditorOptions:
        """The options of a method.

        Raises:
            ModelError: no editor here has such options.
        """
        try:
            options = with_current_names(method.options)
            return registration(str(options.get("name"))).options.model_validate(options)
        except (ConfigError, ValidationError) as error:
            raise ModelError(
                f"{self.folder / CARD}: the options of editor={method.label} are not those of an "
                f"editor here ({' '.join(str(error).split())}). Load the edit with the version of "
                f"this project that made it ({self.card.versions})."
            ) from error

    def _trained(self) -> FactEditor:
        """The trained editor, with the options that the edit was made with.

        Raises:
            ModelError: its checkpoint is not known here.
        """
        method = self.card.methods[self.card.facts[-1].method]
        if self.ckpt is None:
            name = method.ckpt.name if method.ckpt else "its checkpoint"
            raise ModelError(
                f"the edit in {self.folder} answers by the networks of editor={method.label}, and "
                f"its checkpoint ({name}) is not here: load_edit(..., ckpt=FILE) says where it is."
            )
        words = [f"ckpt={quoted(self.ckpt)}", *model_words(self.model.options)]
        config = load_edit_config(words)
        options = _with_places(method.options, editor_options(config).model_dump())
        editor = self._options(method.model_copy(update={"options": options}))
        return build(config.model_copy(update={"editor": editor}), self.model)


_READ: Mapping[str, Callable[[_Kept], tuple[Edit, list[FactEditor]]]] = {
    "deltas": _Kept.deltas,
    "codebook": _Kept.codebook,
    "memory": _Kept.memory,
    "demonstrations": _Kept.demonstrations,
}


def _with_places(kept: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a card, with the places on this machine that the checkpoint knows of."""
    return {
        key: _with_places(value, stored[key])
        if isinstance(value, dict) and isinstance(stored.get(key), dict)
        else stored[key] if key in stored and portable(stored[key]) == value
        else value
        for key, value in kept.items()
    }  # fmt: skip


def _checkpoint(folder: Path, card: Card, given: str | Path | None) -> str | None:
    """The checkpoint that an edit was made with.

    Args:
        folder: of the edit.
        card: says its sha256.
        given: where it is; None: where the card says, if something is there.

    Returns:
        A path, or a reference to a hub.

    Raises:
        ModelError: there is no such file, or it is another one.
    """
    known = [method.ckpt for method in card.methods if method.ckpt is not None]
    if given is None:
        last = card.methods[card.facts[-1].method].ckpt
        if last is None or card.kind != "memory":
            return None
        if not checkpoint_file(last.name).is_file():
            return None
        given = last.name
    path = Path(without_tilde(str(checkpoint_file(given))))
    if not path.is_file():
        raise ModelError(f"ckpt={path}: there is no such file.")
    digest = sha256(path)
    if digest not in {one.sha256 for one in known}:
        listed = ", ".join(f"{one.name} with sha256 {one.sha256[:12]}" for one in known)
        raise ModelError(
            f"ckpt={path} has sha256 {digest[:12]}, and the edit in {folder} was made with "
            f"{listed or f'editor={card.label}, which has none'}. Give that file."
        )
    return str(given) if is_on_hub(str(given)) else str(path)


def _moved(delta: Delta, device: torch.device) -> Delta:
    if isinstance(delta, LowRankDelta):
        return LowRankDelta(delta.inputs.to(device), delta.outputs.to(device))
    return DenseDelta(delta.weight.to(device))
