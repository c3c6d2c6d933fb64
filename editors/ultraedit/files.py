"""UltraEdit's statistics in a file: made once of many training edits, for single edits later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editors.moments import Moments
from editors.ultraedit.config import COMMAND
from editors.ultraedit.statistics import SiteStatistics, Statistics
from errors import ModelError
from metrics.precision import device_with_float64
from models.deltas import Site
from models.editable import EditableModel
from results.files import replacing

_SIDES = ("keys", "gradients")
_PARTS = ("count", "mean", "scatter")


def save_statistics(
    path: Path, statistics: Statistics, model: EditableModel, facts: Mapping[str, str]
) -> None:
    """Writes statistics with the base model that they are of.

    Args:
        path: the file.
        statistics: of one group of tokens.
        model: the base model.
        facts: what else is worth knowing: of which edits they are.

    Raises:
        UnwritableError: naming the file, which is as it was.
    """
    tensors = {
        _key(site, side, part): getattr(getattr(of_site, side), part).contiguous().cpu()
        for site, of_site in statistics.items()
        for side in _SIDES
        for part in _PARTS
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={**facts, "model": model.fingerprint()})


def load_statistics(
    path: str, model: EditableModel, sites: Sequence[Site], *, pairs: bool
) -> Statistics:
    """Reads statistics and makes sure that they are of this model and these maps.

    Args:
        path: the file.
        model: the base model.
        sites: the maps that are edited.
        pairs: whether gradients are whitened, for which their scatter has to be that of pairs.

    Raises:
        ModelError: the file is missing, damaged, or of another model or other maps.
    """
    named = f"editor.statistics={path}"
    home = str(device_with_float64(model.device))
    try:
        with safe_open(path, framework="pt", device=home) as file:
            facts = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{named} cannot be read ({error}). Make it again: {COMMAND}") from error
    if facts.get("model") != (fingerprint := model.fingerprint()):
        raise ModelError(
            f"{named} was made for the model {facts.get('model')} instead of {fingerprint}. Make "
            f"one for this model: {COMMAND}"
        )
    missing = [site for site in sites if _key(site, "keys", "count") not in tensors]
    if missing:
        there = sorted({key.rsplit(".", 2)[0] for key in tensors})
        raise ModelError(
            f"{named} has no statistics of {', '.join(map(_name, missing))}; it has those of "
            f"{', '.join(there)} (layer.matrix). "
            "Set editor.layers and editor.matrices to some of them, or make it again with these "
            f"two as they are: {COMMAND}"
        )
    statistics = {site: _read(tensors, site) for site in sites}
    if pairs and not all(of_site.gradients.has_pairs for of_site in statistics.values()):
        raise ModelError(
            f"{named} has the deviations of gradients and not their correlations, which "
            f"editor.whitening=true needs. Make it again: {COMMAND} editor.whitening=true"
        )
    return statistics if pairs else {s: of.of_coordinates() for s, of in statistics.items()}


def _read(tensors: Mapping[str, Tensor], site: Site) -> SiteStatistics:
    return SiteStatistics(
        *(Moments(*(tensors[_key(site, side, part)] for part in _PARTS)) for side in _SIDES)
    )


def _key(site: Site, side: str, part: str) -> str:
    return f"{_name(site)}.{side}.{part}"


def _name(site: Site) -> str:
    return f"{site.layer}.{site.role}"
