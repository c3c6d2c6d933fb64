"""Trained editors and edits on a hub of models: how they are named, and where a download lies.

    hub:OWNER/NAME[/FILE][@REVISION]

`REVISION` is a branch, a tag or a commit, and `main` where it is left out. `FILE` is the checkpoint
of a trained editor, or the folder of an edit; left out it is `checkpoints/best.ckpt`, or the
repository itself. Downloads lie in the cache of huggingface_hub, one folder for each commit, so a
reference that names a commit (`pinned`) means the same content for ever. Nothing here loads torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path, PurePosixPath

from errors import ConfigError, ModelError, some_of
from options import HUB, is_on_hub
from results.files import BEST, CHECKPOINTS, CONFIG

EDIT_CARD = "edit.json"  # what makes a folder an edit
# What else an edit's folder may hold; anything more in a repository is not downloaded.
EDIT_FILES = (
    "deltas.safetensors", "keys.safetensors", "statistics.safetensors", "codebook.safetensors",
    "memory/*", "pictures/*",
)  # fmt: skip
_FORM = "hub:OWNER/NAME[/FILE][@REVISION]"
_REFERENCE = re.compile(
    rf"{HUB}(?P<repository>[\w.-]+/[\w.-]+)(/(?P<file>[^@]*))?(@(?P<revision>.+))?", re.ASCII
)
# What this process has asked for already: a branch that moves meanwhile moves nothing here.
_downloaded: dict[tuple[str, str, tuple[str, ...]], Path] = {}


@dataclass(frozen=True)
class HubReference:
    """What a text that begins with `hub:` names.

    Attributes:
        repository: `owner/name`.
        file: a path inside it; empty where none is named.
        revision: branch, tag or commit; empty for the newest state of `main`.
    """

    repository: str
    file: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, text: str, key: str = "ckpt") -> HubReference:
        """Reads a reference.

        Args:
            text: the reference.
            key: what it was typed for, for messages.

        Raises:
            ConfigError: it has another form.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or {".", ".."} & set(re.split("[/@]", text.removeprefix(HUB))):
            raise ConfigError(
                f"{key}={text}: a repository of the hub is named as {_FORM}, such as "
                f"hub:alice/mend-llava or hub:alice/mend-llava@v1; a file whose name begins with "
                f"{HUB} is named as ./{HUB}..."
            )
        file = str(PurePosixPath(match["file"])) if match["file"] else ""
        return cls(match["repository"], file, match["revision"] or "")

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repository}{file}{revision}"


def pinned(text: str, key: str = "ckpt") -> str:
    """A checkpoint as results name it: a reference to a hub with its commit, a path as it is.

    Raises:
        TmkeError: as `checkpoint_file`.
    """
    if not is_on_hub(text):
        return text
    reference = HubReference.parse(text, key)
    return str(replace(reference, revision=_checkpoint(reference, key)[0].name))


def checkpoint_file(text: str | Path, key: str = "ckpt") -> Path:
    """Where a checkpoint lies; config.yaml of its training is beside its folder `checkpoints`.

    Args:
        text: a path, or a reference to a hub, which is downloaded where it is not there yet.
        key: what it was typed for, for messages.

    Returns:
        The path as it was given, or one in the cache of huggingface_hub.

    Raises:
        ConfigError: the reference has another form.
        ModelError: it names nothing, or what it names cannot be had.
    """
    if isinstance(text, Path) or not is_on_hub(text):
        return Path(text)
    return _checkpoint(HubReference.parse(text, key), key)[1]


def edit_folder(text: str | Path, key: str = "edit") -> Path:
    """Where a kept edit lies: the folder that was given, or the download of a reference to a hub.

    Raises:
        ConfigError: the reference has another form.
        ModelError: it names nothing, or what it names cannot be had.
    """
    if isinstance(text, Path) or not is_on_hub(text):
        return Path(text)
    reference = HubReference.parse(text, key)
    below = f"{reference.file}/" if reference.file else ""
    with _explained(reference, key):
        folder = _download(reference, (f"{below}{EDIT_CARD}",)) / below
    if not (folder / EDIT_CARD).is_file():
        raise ModelError(_nothing_there(reference, key, f"no edit ({below}{EDIT_CARD})"))
    with _explained(reference, key):
        _download(reference, tuple(f"{below}{name}" for name in (EDIT_CARD, *EDIT_FILES)))
    return folder


def _checkpoint(reference: HubReference, key: str) -> tuple[Path, Path]:
    """The folder of a commit in the cache, and the checkpoint in it."""
    file = PurePosixPath(reference.file or f"{CHECKPOINTS}/{BEST}")
    beside = file.parent.parent / CONFIG
    with _explained(reference, key):
        folder = _download(reference, (str(file), str(beside)))
    if not (folder / file).is_file():
        raise ModelError(_nothing_there(reference, key, f"no trained editor ({file})"))
    return folder, folder / file


def _download(reference: HubReference, files: tuple[str, ...]) -> Path:
    """The folder of one commit, with those files that the repository has."""
    key = (reference.repository, reference.revision, files)
    if key not in _downloaded:
        from huggingface_hub import HfApi

        folder = Path(
            HfApi().snapshot_download(
                reference.repository,
                revision=reference.revision or None,
                allow_patterns=[name if "*" in name else escape(name) for name in files],
            )
        )
        _downloaded[key] = _downloaded[reference.repository, folder.name, files] = folder
    return _downloaded[key]


def _nothing_there(reference: HubReference, key: str, absent: str) -> str:
    """A message about a repository that holds something else, and what that is, if it is known."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        files = HfApi().list_repo_files(reference.repository, revision=reference.revision or None)
    except (HTTPError, OSError, ValueError):
        files = []
    shown = [name for name in files if name != ".gitattributes"]
    has = f"; it has {some_of(shown)}" if shown else ""
    way = (
        f"name one of its files, as {_FORM}, or a repository that `python -m editing push` has made"
    )
    if key == "ckpt" and EDIT_CARD in files:
        way = "it is an edit: open it with load_edit, or export it with python -m models export"
    elif key != "ckpt" and f"{CHECKPOINTS}/{BEST}" in files:
        way = "it is a trained editor: give it as ckpt="
    return f"{key}={reference}: that repository holds {absent}{has}; {way}."


@contextmanager
def _explained(reference: HubReference, key: str) -> Iterator[None]:
    """Turns what huggingface_hub says into an error that names the key and says what to do."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{key}={reference}: {why(error, reference)}") from error


def why(error: Exception, reference: HubReference) -> str:
    """Why a repository cannot be had, and what to do, in a sentence or two."""
    from huggingface_hub import constants, errors, get_token

    name, login = reference.repository, "log in with `hf auth login`, or set HF_TOKEN"
    if constants.HF_HUB_OFFLINE:
        return (
            "it was not downloaded before, and HF_HUB_OFFLINE=1 allows nothing else. Unset it, or "
            "give the path of a file that is here."
        )
    if isinstance(error, errors.GatedRepoError):
        return f"access to {name} has to be granted: ask for it on its page, then {login}."
    if isinstance(error, errors.RepositoryNotFoundError):
        token = "the token here may not read it" if get_token() else "no token is set"
        return (
            f"{constants.ENDPOINT} has no such repository, or it is private and {token}. Check "
            f"the name; for a private one {login}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{name} has no revision {reference.revision or 'main'}: give a branch, a tag or a "
            "commit that is there, or leave @... out."
        )
    if isinstance(error, errors.HfHubHTTPError):
        if error.response.status_code in (401, 403):
            return f"{constants.ENDPOINT} refused it ({error.response.status_code}): {login}."
        return f"{constants.ENDPOINT} answered with {_line(error)}; try again later."
    if isinstance(error, errors.LocalEntryNotFoundError | errors.HTTPError):
        return (
            f"it was not downloaded before, and {constants.ENDPOINT} cannot be reached. Connect "
            "this machine, or give the path of a file that is here."
        )
    if isinstance(error, errors.HFValidationError):
        return f"no repository can have this name ({_line(error)})."
    return f"the download has failed ({_line(error)}); start again, and it goes on."


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
