"""Sends trained editors and edits to a hub: what is sent, and where to, before anything is.

    push_editor("RUN/checkpoints/best.ckpt", "alice/mend-llava", results=["RESULT"])
    push_edit("EDIT", "alice/lyon")

Nothing else in this project sends anything to a hub. A repository gets all files in one commit, so
it is never half of an editor.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import yaml

from configs.stored import stored_config, training_settings
from editing.card import read_card
from editing.folder import check_files
from editing.model_card import Trained, edit_card, editor_card
from editing.scrub import shared_checkpoint, shared_config, without_places
from editors.checkpoint import IDENTITY, editor_options, read_checkpoint
from editors.hub import (
    EDIT_CARD,
    EDIT_FILES,
    HubReference,
    checkpoint_file,
    edit_folder,
    why,
)
from errors import ConfigError, DataError, ModelError
from lightning_modules.checkpoints import best_loss
from options import HUB
from reporting.labels import UNEDITED
from results.files import BEST, CHECKPOINTS, CONFIG
from results.folder import RunResult, read_run
from results.provenance import file_digest
from runner.learnt import terms_of_training

PAGE = "README.md"
_KEY = "--to"
_EDITOR_FILES = (CONFIG, f"{CHECKPOINTS}/{BEST}")


@dataclass(frozen=True)
class Destination:
    """A repository as it is before something is sent.

    Attributes:
        repository: `owner/name`.
        branch: the branch that the files go to.
        address: of its page.
        exists: whether it is there already.
        private: whether it is, or will be, one that only its owners see.
        files: what the branch holds.
    """

    repository: str
    branch: str
    address: str
    exists: bool
    private: bool
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parcel:
    """What would be sent.

    Attributes:
        kind: `a trained editor` or `an edit`.
        folder: holds the files, as they will stand in the repository.
        left_out: `key=value` of settings that stay here.
        earlier: patterns of files of an earlier one that are taken out of the repository.
    """

    kind: str
    folder: Path
    left_out: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in paths}

    def removed(self, destination: Destination) -> list[str]:
        """Files of an earlier one in the repository that this one has not."""
        return [
            name
            for name in destination.files
            if name not in self.sizes and any(fnmatch(name, pattern) for pattern in self.earlier)
        ]


Confirm = Callable[[Parcel, Destination], bool]


def push_editor(
    ckpt: str | Path,
    to: str,
    *,
    results: Sequence[str | Path] = (),
    private: bool = False,
    branch: str = "main",
    licence: str | None = None,
    weights_only: bool = False,
    confirm: Confirm | None = None,
) -> str | None:
    """Sends a trained editor.

    Args:
        ckpt: a checkpoint that train.py wrote.
        to: `owner/name` of the repository; made where it is not there.
        results: folders of evaluations of it, for the table of its card.
        private: makes a repository that only its owners see.
        branch: of the repository; made where it is not there.
        licence: of what is sent, as the hub names it, such as `mit`.
        weights_only: without what a training needs to go on.
        confirm: asked last, before anything is sent; None: it is sent.

    Returns:
        The reference of what was sent, with its commit; None where it was not confirmed.

    Raises:
        ConfigError: there is no token, or the repository is another kind of thing.
        DataError: a result is of another checkpoint.
        ModelError: the checkpoint cannot be read, or the hub cannot be reached or refuses.
    """
    runs = [read_run(Path(folder)) for folder in results]
    repository = _repository(to)
    with tempfile.TemporaryDirectory(prefix="push-") as folder:
        parcel = _editor_parcel(
            str(ckpt), Path(folder), repository, runs, licence, weights_only=weights_only
        )
        return _push(parcel, repository, branch, private, confirm)


def push_edit(
    folder: str | Path,
    to: str,
    *,
    private: bool = False,
    branch: str = "main",
    licence: str | None = None,
    confirm: Confirm | None = None,
) -> str | None:
    """Sends an edit that was kept.

    Args:
        folder: of `FactEdit.save`.
        to: `owner/name` of the repository; made where it is not there.
        private: makes a repository that only its owners see.
        branch: of the repository; made where it is not there.
        licence: of what is sent, as the hub names it, such as `mit`.
        confirm: asked last, before anything is sent; None: it is sent.

    Returns:
        The reference of what was sent, with its commit; None where it was not confirmed.

    Raises:
        ConfigError: there is no token, or the repository is another kind of thing.
        ModelError: the folder holds no edit or a damaged one, or the hub cannot be reached or
            refuses.
    """
    repository = _repository(to)
    with tempfile.TemporaryDirectory(prefix="push-") as staged:
        parcel = _edit_parcel(edit_folder(folder), Path(staged), repository, licence)
        return _push(parcel, repository, branch, private, confirm)


def _edit_parcel(source: Path, folder: Path, repository: str, licence: str | None) -> Parcel:
    """An edit's files: those that its card names, and it names no place on this machine."""
    card = read_card(source)
    check_files(source, card)
    for name in (EDIT_CARD, *card.sha256):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    (folder / PAGE).write_text(edit_card(repository, licence, card), encoding="utf-8")
    return Parcel("an edit", folder, earlier=EDIT_FILES)


def _editor_parcel(
    ckpt: str,
    folder: Path,
    repository: str,
    runs: Sequence[RunResult],
    licence: str | None,
    *,
    weights_only: bool,
) -> Parcel:
    """A trained editor's files."""
    file = checkpoint_file(ckpt)
    content = read_checkpoint(ckpt)
    options, base = editor_options(content), content[IDENTITY]["base"]
    check_results(ckpt, file, base["fingerprint"], runs)
    settings, left_out = shared_config(stored_config(ckpt))
    (folder / CHECKPOINTS).mkdir()
    torch.save(shared_checkpoint(content, weights_only=weights_only), folder / CHECKPOINTS / BEST)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(f"# Resolved settings of train.py\n{text}", encoding="utf-8")
    training = {
        "optimiser steps": content["global_step"],
        "smallest validation loss": best_loss(content),
        **training_settings(settings),
    }
    editor = without_places(options)[0]
    terms = terms_of_training(ckpt)
    trained = Trained(editor, settings["model"], base["fingerprint"], terms, training, runs)
    (folder / PAGE).write_text(editor_card(repository, licence, trained), encoding="utf-8")
    return Parcel("a trained editor", folder, tuple(left_out))


def check_results(ckpt: str, file: Path, fingerprint: str, runs: Sequence[RunResult]) -> None:
    """Refuses results that are not of this checkpoint; those of the unedited model may be beside.

    Raises:
        DataError: names the folder, and what it is a result of.
    """
    digest = file_digest(file)
    for run in runs:
        of_base = run.editor == UNEDITED and run.settings.get("model_digest") == fingerprint
        if not of_base and run.settings.get("ckpt_digest") != digest:
            raise DataError(
                f"--results {run.folder} is a result of {run.editor} with "
                f"ckpt={run.settings.get('ckpt')}, and not of the content of {ckpt}. Give folders "
                f"that evaluate.py ckpt={ckpt} wrote, or leave it out."
            )


def _repository(to: str) -> str:
    """The repository that is sent to, which may be named with or without `hub:`.

    Raises:
        ConfigError: it is something else.
    """
    reference = HubReference.parse(f"{HUB}{to.removeprefix(HUB)}", _KEY)
    if reference.file or reference.revision:
        raise ConfigError(
            f"{_KEY} {to}: a repository is needed, OWNER/NAME; --branch names a branch of it."
        )
    return reference.repository


def _push(
    parcel: Parcel, repository: str, branch: str, private: bool, confirm: Confirm | None
) -> str | None:
    """Sends it, unless that is refused; returns the reference with its commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with _explained(repository):
        destination = _look(api, repository, branch, private)
    _check_kind(parcel, destination)
    if confirm is not None and not confirm(parcel, destination):
        return None
    with _explained(repository):
        if not destination.exists:
            api.create_repo(repository, private=private)
        if branch != "main":
            api.create_branch(repository, branch=branch, exist_ok=True)
        added = [CommitOperationAdd(name, parcel.folder / name) for name in parcel.sizes]
        removed = [CommitOperationDelete(name) for name in parcel.removed(destination)]
        commit = api.create_commit(
            repository, [*added, *removed], revision=branch,
            commit_message=f"Sends {parcel.kind}",
        )  # fmt: skip
    return str(HubReference(repository, revision=commit.oid))


def _look(api: Any, repository: str, branch: str, private: bool) -> Destination:
    """The repository as it is.

    Raises:
        ConfigError: there is no token, or the repository is public and a private one was asked for.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    address = f"{constants.ENDPOINT}/{repository}"
    if not constants.HF_HUB_OFFLINE and not get_token():
        raise ConfigError(
            f"{_KEY} {repository}: no token says who sends it. Log in with `hf auth login`, or set "
            "HF_TOKEN to a token that may write."
        )
    api.whoami()
    try:
        info = api.repo_info(repository)
    except RepositoryNotFoundError:
        return Destination(repository, branch, address, exists=False, private=private)
    if private and not info.private:
        raise ConfigError(
            f"{_KEY} {repository} --private: that repository is there already, and public. Make "
            "it private on its page first, or name another one."
        )
    with suppress(RevisionNotFoundError):  # a new branch begins where main is
        info = api.repo_info(repository, revision=branch)
    files = tuple(sibling.rfilename for sibling in info.siblings or ())
    return Destination(repository, branch, address, True, bool(info.private), files)


def _check_kind(parcel: Parcel, destination: Destination) -> None:
    """Refuses a repository that is something else already.

    Raises:
        ConfigError: says what it is.
    """
    kinds = {EDIT_CARD: "an edit", _EDITOR_FILES[1]: "a trained editor", "config.json": "a model"}
    for file, kind in kinds.items():
        if file in destination.files and kind != parcel.kind:
            raise ConfigError(
                f"{_KEY} {destination.repository}: that repository holds {kind} ({file}), and "
                f"{parcel.kind} is to be sent. Name another repository."
            )


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns what huggingface_hub says into an error that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        said = f"{_KEY} {repository}: nothing was sent"
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"{said}, since HF_HUB_OFFLINE=1 allows no call. Unset it, and send it again."
            ) from error
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ModelError(
                f"{said}: {constants.ENDPOINT} refused it ({error.response.status_code}). The "
                "token must be allowed to write there: log in with `hf auth login`, or set "
                "HF_TOKEN."
            ) from error
        raise ModelError(f"{said}: {why(error, HubReference(repository))}") from error
