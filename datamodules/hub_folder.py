"""Data sets of a hub: how they are named, and the folder that a download lies in.

Downloads lie in the cache of huggingface_hub, one folder for each commit, so that a set is read
from there without a network, and a commit means the same records for ever.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from errors import DataError
from options import HUB

_NAME = re.compile(rf"({HUB})?(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)", re.ASCII)


def hub_name(root: str) -> str | None:
    """The repository that `data.root` names; None where it is a folder, or no such name."""
    match = _NAME.fullmatch(root)
    return None if match is None or os.path.isdir(root) else match["name"]


def download(name: str, revision: str | None) -> Path:
    """The folder of a data set of the hub.

    Args:
        name: `owner/name`.
        revision: branch, tag or commit; None: the newest state of `main`.

    Raises:
        DataError: it is not there, or cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision))
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        at = "" if revision is None else f", data.revision={revision}"
        raise DataError(
            f"data.root={name}{at}: no such folder is here, and {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    """Why a repository cannot be had, and what to do."""
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return (
            "as a data set of the hub it was not downloaded before, where HF_HUB_OFFLINE=1 allows "
            "nothing else. Unset that, or give the path of a folder."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "the data set of the hub has no such revision: give a branch, a tag or a commit."
    if isinstance(error, errors.RepositoryNotFoundError | errors.GatedRepoError):
        return (
            f"{constants.ENDPOINT} has no such data set, or lets nobody read it without a token: "
            "check the name; for a private or gated one log in with `hf auth login`, or set "
            "HF_TOKEN."
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"as a data set of the hub it was not downloaded before, and {constants.ENDPOINT} "
            "cannot be reached. Connect this machine, or give the path of a folder."
        )
    said = " ".join(str(error).split()).rstrip(".")
    return f"the download of the data set has failed ({said}); start again, and it goes on."
