"""AlphaEdit's keys in a file beside the deltas of an edit: turns after it leave them alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from models.deltas import Site, linear_shape
from models.editable import EditableModel
from models.tensor_file import TensorFile
from results.files import replacing

_AGAIN = "Copy the folder again, or save the edit again."


def save_keys(path: Path, keys: Mapping[Site, Tensor]) -> None:
    """Writes the keys of one edit, in their number type.

    Args:
        path: the file.
        keys: site -> K (1, n, d_in), in the order of the edits.

    Raises:
        UnwritableError: naming the file, which is as it was.
    """
    tensors = {site.key: of_site[0].contiguous().cpu() for site, of_site in keys.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_keys(path: Path, model: EditableModel) -> dict[Site, Tensor]:
    """Reads what `save_keys` wrote, onto the model's device.

    Raises:
        ModelError: the file is missing or damaged, or of maps that the model has not.
    """
    file = TensorFile.of(path, remedy=_AGAIN)
    sites = file.sites(file.shapes)
    widths = {site.key: linear_shape(model.linear(site))[0] for site in sites.values()}
    file.check_shapes({key: (None, width) for key, width in widths.items()})
    tensors = file.read(device=model.device)
    return {site: tensors[name][None] for name, site in sites.items()}
