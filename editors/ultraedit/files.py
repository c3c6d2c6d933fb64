"""UltraEdit's statistics in a file: made once of many training edits, for single edits later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from editors.moments import Moments
from editors.ultraedit.config import COMMAND
from editors.ultraedit.statistics import SiteStatistics, Statistics
from errors import ModelError
from metrics.precision import device_with_float64
from models.deltas import Site, linear_shape
from models.editable import EditableModel
from models.tensor_file import TensorFile
from results.files import replacing

_SIDES = ("keys", "gradients")
_PARTS = ("count", "mean", "scatter")


def save_statistics(
    path: Path, statistics: Statistics, model: EditableModel, facts: Mapping[str, str]
) -> None:
    """Writes statistics with the base model that they are of.

    Args:
        path: the file.
        statistics: of one group of tokens, E = 1.
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
    file = TensorFile.of(
        path, name=f"editor.statistics={path}", remedy=f"Make them for this model: {COMMAND}"
    )
    file.check_facts(model=model.fingerprint())
    missing = [site for site in sites if _key(site, "keys", "count") not in file.shapes]
    if missing:
        there = sorted({key.rsplit(".", 2)[0] for key in file.shapes})
        raise ModelError(
            f"{file.name} has no statistics of {', '.join(site.key for site in missing)}; it has "
            f"those of {', '.join(there)} (layer.matrix). Choose among them by editor.layers and "
            "editor.matrices, or by editor.sites, or make it again with these as they are: "
            f"{COMMAND}"
        )
    statistics = _of_sites(file, model, sites)
    if pairs and not all(of_site.gradients.has_pairs for of_site in statistics.values()):
        raise ModelError(
            f"{file.name} has the deviations of gradients and not their correlations, which "
            f"editor.whitening=true needs. Make it again: {COMMAND} editor.whitening=true"
        )
    return statistics if pairs else {s: of.of_coordinates() for s, of in statistics.items()}


def load_seen(path: Path, model: EditableModel) -> Statistics:
    """Reads the statistics that lie beside an edit: of all maps that it has any of.

    Raises:
        ModelError: the file is missing or damaged, or of another model or of maps that it has not.
    """
    file = TensorFile.of(path, remedy="Copy the folder again, or save the edit again.")
    file.check_facts(model=model.fingerprint())
    keys = dict.fromkeys(name.rsplit(".", 2)[0] for name in file.shapes)
    return _of_sites(file, model, list(file.sites(keys).values()))


def _of_sites(
    file: TensorFile, model: EditableModel, sites: Sequence[Site]
) -> dict[Site, SiteStatistics]:
    """The statistics of some maps, in float64 where the model's device has that.

    Raises:
        ModelError: some are missing, or of other shapes.
    """
    expected = {key: shape for site in sites for key, shape in _shapes(file, model, site).items()}
    file.check_shapes(expected)
    tensors = file.read(expected, device_with_float64(model.device))
    return {site: _read(tensors, site) for site in sites}


def _shapes(file: TensorFile, model: EditableModel, site: Site) -> dict[str, tuple[int, ...]]:
    """What a map's statistics look like; the scatter of gradients may be that of pairs."""
    shapes: dict[str, tuple[int, ...]] = {}
    for side, width in zip(_SIDES, linear_shape(model.linear(site)), strict=True):
        scatter = _key(site, side, "scatter")
        pairs = side == "gradients" and len(file.shapes.get(scatter, ())) == 3
        shapes |= {
            _key(site, side, "count"): (1,),
            _key(site, side, "mean"): (1, width),
            scatter: (1, width, width) if pairs else (1, width),
        }
    return shapes


def _read(tensors: Mapping[str, Tensor], site: Site) -> SiteStatistics:
    return SiteStatistics(
        *(Moments(*(tensors[_key(site, side, part)] for part in _PARTS)) for side in _SIDES)
    )


def _key(site: Site, side: str, part: str) -> str:
    return f"{site.key}.{side}.{part}"
