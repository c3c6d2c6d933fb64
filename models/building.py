"""From a parts folder and a local language model to the folder of a model: `models smollm`.

    parts (adapter, tower, projector)  +  language model  ->  folder that model=llava reads

Everything that can be wrong is looked at before a weight is read, the room on the disk included.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from errors import ModelError
from models.language_model import LanguageSource, find_language_model, reading_of
from models.llava_assembly import assemble, check_target, save_assembled
from models.parts_folder import Parts, check_adapter, check_projector, merge, read_parts

log = logging.getLogger(__name__)
_BESIDE_WEIGHTS = 16 * 2**20  # bytes: tokenizer, configurations, projector, room for folders
_HALF = 2  # bytes of a number


def build(
    output: Path,
    *,
    parts: Path,
    alignment: str,
    language_model: str | Path | None = None,
    begin: str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Makes a model of a parts folder and a local language model, and writes it.

    Args:
        output: the folder, as in `save_assembled`.
        parts: adapter, tower and projectors.
        alignment: which projector.
        language_model: as in `open_language_model`.
        begin: the same.
        overwrite: whether an earlier model in `output` gives way.
        say: is told what is being done.

    Returns:
        The manifest.

    Raises:
        ConfigError: the output is taken.
        ModelError: anything of the parts or of the language model is missing, damaged or does not
            fit the rest, or the disk is too small; told before a weight is read.
    """
    check_target(output, overwrite=overwrite)
    found = read_parts(parts)
    tower, projector = found.tower_of(alignment), found.projector_of(alignment)
    with reading_of(language_model):
        source = find_language_model(language_model, begin=begin)
        needed = check_disk(output, source, found)
        check_projector(projector, source.config.hidden_size)
        if found.adapter is not None:
            check_adapter(source.without_weights(), found.adapter)
        say(f"reading {source.path}; {output} takes {needed:,} bytes of disk")
        language = source.open()
    _compare(found.manifest.get("language_model") or {}, language.source, parts)
    if found.adapter is not None:
        merge(language.model, found.adapter)
    say(f"writing {output}")
    manifest = {
        **{key: value for key, value in found.manifest.items() if key != "sha256"},
        "alignment": alignment,
        "language_model": dict(language.source),
        "made_by": "python -m models smollm",
    }
    built = assemble(language, tower, projector)
    return save_assembled(output, built, manifest, overwrite=overwrite)


def _compare(trained: Mapping[str, Any], given: Mapping[str, Any], parts: Path) -> None:
    """Says where an adapter is merged into another form of the model that it was trained with."""
    if "sha256" in trained and trained["sha256"] != given.get("sha256"):
        log.warning(
            "the parts in %s were trained with %s (sha256 %s), and %s (%s) is given: what the "
            "manifest says they reach was measured with the former",
            parts, trained.get("file"), trained["sha256"][:12],
            given.get("file"), str(given.get("sha256"))[:12],
        )  # fmt: skip


def check_disk(folder: Path, source: LanguageSource, parts: Parts) -> int:
    """How many bytes the folder will take, at least.

    Raises:
        ModelError: the disk has less.
    """
    numbers = source.parameters() + sum(value.numel() for value in parts.tower.state.values())
    numbers += source.config.hidden_size  # the row of <image>
    needed = _HALF * numbers + _BESIDE_WEIGHTS
    place = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ModelError(
            f"{folder} needs {needed:,} bytes of disk ({_HALF * numbers:,} of them weights in half "
            f"precision), and {place} has {free:,} free. Make room, or name another folder."
        )
    return needed
