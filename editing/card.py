"""What stands in the `edit.json` of an edit folder, readable without torch.

    edit.json             this card: base model, methods, facts, versions, sha256 of the other files
    deltas.safetensors    edits of weights: `LAYER.ROLE.inputs|outputs` or `LAYER.ROLE.weight`
    keys.safetensors      AlphaEdit's keys, which later turns leave alone
    statistics.safetensors    UltraEdit's of all tokens so far, which later turns go on from
    codebook.safetensors  GRACE's entries, in the order in which they were taught
    memory/               SERAC's memory
    pictures/             pictures that edits show
    README.md             for people

Nothing in it names a place on the machine where it was written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from errors import ModelError

CARD, README = "edit.json", "README.md"
DELTAS, CODEBOOK = "deltas.safetensors", "codebook.safetensors"
KEYS, STATISTICS = "keys.safetensors", "statistics.safetensors"
MEMORY, PICTURES = "memory", "pictures"
FORMAT: Literal["tmke-edit"] = "tmke-edit"
VERSION = 1
UNKNOWN = "unknown"
Kind = Literal["deltas", "codebook", "memory", "demonstrations"]
WITHOUT_WEIGHTS = {
    "codebook": "GRACE looks its edits up in a codebook beside a layer",
    "memory": "SERAC keeps its edits in a memory beside the model",
    "demonstrations": "IKE puts demonstrations in front of every question",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Base(_Part):
    """The base model that an edit belongs to.

    Attributes:
        fingerprint: of its weights (`models.fingerprint`).
        name: as it was opened; for people.
        hub: its id on the hub, None of a local folder.
        quantise: bits that its decoder layers were opened in; None as they are stored.
    """

    family: str
    fingerprint: str
    name: str
    hub: str | None
    revision: str | None
    quantise: str | None


class Trained(_Part):
    """The checkpoint of a trained editor.

    Attributes:
        name: as it was given; the file's name alone where that was a place on a machine.
        sha256: of the file.
    """

    name: str
    sha256: str


class Method(_Part):
    """What made an edit.

    Attributes:
        label: as results call it.
        options: all keys of the editor.
        ckpt: None of an editor that is not trained.
        data: `data.name` of what it was trained on, or shows; None of neither.
    """

    label: str
    options: dict[str, Any]
    ckpt: Trained | None
    data: str | None


class StoredFact(_Part):
    """A fact that is taught.

    Attributes:
        image: the picture's file in the folder.
        method: number of the method that teaches it.
    """

    question: str
    answer: str
    subject: str | None
    image: str | None
    method: int = Field(ge=0)


class Source(_Part):
    """Where something in the folder comes from."""

    what: str
    source: str
    licence: str

    @property
    def data(self) -> str | None:
        """`data.name` of records; None of anything else."""
        name = self.source.partition(" ")[0]
        return name.removeprefix("data=") if name.startswith("data=") else None


class Shown(_Part):
    """What IKE puts before questions, per edit; names as in `editors.ike.editor.IkeEdit`."""

    demonstrations: list[list[str]]
    statements: list[str]
    questions: list[str]
    stored: bool


class Card(_Part):
    """All of `edit.json`.

    Attributes:
        prompt: the form in which questions were worded (`data.prompt`).
        made: when it was saved, in UTC.
        versions: of torch, transformers and this project.
        shown: of IKE alone.
        sha256: file in the folder -> hash of its content.
    """

    format: Literal["tmke-edit"]
    version: int
    kind: Kind
    base: Base
    methods: list[Method] = Field(min_length=1)
    facts: list[StoredFact] = Field(min_length=1)
    prompt: str
    data: list[Source]
    made: str
    versions: dict[str, str]
    shown: Shown | None
    sha256: dict[str, str]

    @model_validator(mode="after")
    def _refers_to_itself(self) -> Card:
        """Files lie inside the folder, and facts name pictures and methods that are there."""
        if outside := [n for n in self.sha256 if PurePosixPath(n).is_absolute() or ".." in n]:
            raise ValueError(f"sha256 names files outside the folder: {outside}")
        for fact in self.facts:
            if fact.image is not None and fact.image not in self.sha256:
                raise ValueError(f"the picture {fact.image!r} is none of the files of sha256")
            if fact.method >= len(self.methods):
                raise ValueError(f"there is no method {fact.method}")
        if (self.kind == "demonstrations") != (self.shown is not None):
            raise ValueError("shown is there for kind=demonstrations, and for it alone")
        if self.shown is not None:
            lists = (self.shown.demonstrations, self.shown.statements, self.shown.questions)
            if {len(texts) for texts in lists} != {len(self.facts)}:
                raise ValueError("shown has not one entry for each fact")
        return self

    @property
    def label(self) -> str:
        """The methods, each once, in the order of the facts."""
        return " + ".join(dict.fromkeys(method.label for method in self.methods))

    def text(self) -> str:
        """As it is written."""
        return json.dumps(self.model_dump(), indent=1, ensure_ascii=False) + "\n"

    def check_weights(self, purpose: str, folder: Path) -> None:
        """Refuses an edit that changes no weight.

        Raises:
            ModelError: naming the method, and what to do instead.
        """
        if self.kind != "deltas":
            raise ModelError(
                f"{folder} holds an edit of editor={self.label}, which cannot be {purpose}: "
                f"{WITHOUT_WEIGHTS[self.kind]}, and no weight changes. Ask it by "
                f"load_edit({str(folder)!r}, model).ask(...), or make the edit with an editor that "
                "changes weights: ft, lora, mend, malmen, rledit, ultraedit, rome or memit."
            )


def read_card(folder: Path) -> Card:
    """The card of an edit folder.

    Raises:
        ModelError: there is none, it cannot be read, or another version wrote it.
    """
    path = folder / CARD
    if not folder.is_dir():
        raise ModelError(
            f"edit={folder}: there is no such folder. Give one that edit.save(...) wrote."
        )
    if not path.is_file():
        raise ModelError(
            f"edit={folder} holds no {CARD}: it is no edit, or was copied only in part. Give a "
            "folder that edit.save(...) wrote, all of it."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({error}): it is damaged or cut short. Copy the "
            "folder again, or save the edit again."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} is not the card of an edit: it has no format {FORMAT!r}.")
    if content.get("version") != VERSION:
        raise ModelError(
            f"{path} has version {content.get('version')!r}, and version {VERSION} is read here. "
            "Load it with the version of this project that wrote it (`versions` in the file), or "
            "make the edit again."
        )
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors()
        )
        raise ModelError(
            f"{path} is no card of version {VERSION} ({wrong}): it was changed or damaged. Copy "
            "the folder again, or save the edit again."
        ) from error


def portable(value: Any) -> Any:
    """A value without places on this machine: of an absolute path its last part is left.

    >>> portable({"path": "/data/me/encoder", "layers": [1], "name": "org/model"})
    {'path': 'encoder', 'layers': [1], 'name': 'org/model'}
    """
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if isinstance(value, str) and os.path.isabs(value):
        return Path(value).name
    return value
