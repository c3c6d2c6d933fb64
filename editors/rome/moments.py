"""C = E[k k^T], the uncentred second moment of a matrix's inputs over some text.

Meng et al. 2022, section 3.1, take 100,000 Wikipedia documents. The published code keeps one file
per (model name, layer), whatever the weights, the data and the sample; here a file's name and
content say all four.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from editors.rome.config import COMMAND
from errors import ModelError
from metrics.precision import device_with_float64, in_float64
from models.deltas import Site, linear_shape
from models.editable import EditableModel
from models.finite import number_type, remedy
from models.rows import text_rows
from models.tensor_file import TensorFile
from results.files import replacing

_MOMENT = "second_moment"


@torch.no_grad()
def second_moments(
    model: EditableModel, sites: Sequence[Site], batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[dict[Site, Tensor], int]:
    """Mean of k k^T over real tokens, added up in float64, of several matrices in one pass.

    Args:
        model: the base model.
        sites: the matrices whose inputs are the keys.
        batches: (R, T) token ids with their (R, T) bool attention masks.

    Returns:
        Each site's (d_in, d_in) in float64, and the number of tokens.

    Raises:
        ModelError: a key is not finite.
    """
    home = device_with_float64(model.device)
    widths = {site: linear_shape(model.linear(site))[0] for site in sorted(sites)}
    totals = {
        site: torch.zeros(width, width, dtype=torch.float64, device=home)
        for site, width in widths.items()
    }
    tokens = 0
    for ids, mask in batches:
        state = model.prefix(text_rows(ids, mask), min(sites).layer)
        row, position = mask.nonzero(as_tuple=True)
        for site, total in totals.items():
            state = model.advance(state, site.layer)
            keys, _ = model.read(state, site, row, position)
            keys = in_float64(keys)
            total.addmm_(keys.mT, keys)
        tokens += len(row)
    for site, total in totals.items():
        if not bool(total.isfinite().all()):
            raise ModelError(
                f"the inputs of {site.role} in layer {site.layer} hold values that are not finite "
                f"on this text; {number_type(model)}. {remedy(model)}"
            )
    return {site: total / max(1, tokens) for site, total in totals.items()}, tokens


def save_second_moment(path: Path, moment: Tensor, *, facts: dict[str, str]) -> None:
    """Writes C with what it was made from.

    Raises:
        UnwritableError: naming the file, which is as it was.
    """
    tensors = {_MOMENT: moment.contiguous().cpu()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=facts)


def load_second_moment(
    path: str, model: EditableModel, layer: int, *, option: str = "editor.second_moment"
) -> Tensor:
    """Reads C and makes sure that it belongs to this model and layer: (d_in, d_in), float64.

    Args:
        path: the file.
        model: the base model.
        layer: the one whose second MLP matrix is edited.
        option: the key that names the file, for messages.

    Raises:
        ModelError: the file is missing, damaged, or of another model, layer or width.
    """
    file = TensorFile.of(
        path,
        name=f"{option}={path}",
        remedy=f"Make one for this model and layer: {COMMAND.format(layer=layer)}",
    )
    file.check_facts(model=model.fingerprint(), layer=str(layer))
    d_in, _ = linear_shape(model.linear(Site(layer, "mlp_out")))
    file.check_shapes({_MOMENT: (d_in, d_in)})
    return file.read(device=device_with_float64(model.device))[_MOMENT]
