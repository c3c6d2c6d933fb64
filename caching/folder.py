"""Where the cache is, unless a run names another folder; known before torch loads."""

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "TMKE_CACHE"


def cache_folder(given: str | None) -> Path:
    """The folder of the cache: what was given, else `$TMKE_CACHE`, else the user's for caches."""
    named = given or os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("tmke")


def cache_problem(given: str | None) -> str:
    """Why a folder that was named cannot be a cache's, as a sentence; empty where it can."""
    folder, key = cache_folder(given), "cache.folder" if given else VARIABLE
    taken = next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None)
    if taken is None:
        return ""
    return (
        f"{key}={folder}: {taken} is a file; name a folder on a disk of this machine, which need "
        "not be there yet, or turn the cache off with cache=off"
    )
