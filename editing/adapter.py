"""An edit of low rank as an adapter of peft: a LoRA whose B A is the delta.

    D = outputs^T inputs        A = inputs (r, d_in),  B = outputs^T (d_out, r),  alpha = r

A dense delta is cut to its numerical rank by its singular values (float64), those above eps of
float32 times the larger side and the largest of them, as for `torch.linalg.matrix_rank`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from configs.schema import ModelOptions
from editing.export import Exported, Say, finish, open_base, read_exportable
from errors import ModelError
from models.deltas import Delta, LowRankDelta
from models.families import family_of
from results.files import replacing_folder

INSTALL = "python -m pip install -c constraints.txt -e '.[smollm]'"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Factors:
    """The adapter of one matrix.

    Attributes:
        name: of the linear map.
        a: (r, d_in).
        b: (d_out, r).
        error: ||B A - D|| / ||D||, 0 where the delta came as factors.
    """

    name: str
    a: Tensor
    b: Tensor
    error: float

    @property
    def rank(self) -> int:
        return len(self.a)


def export_adapter(
    folder: Path,
    options: ModelOptions,
    output: Path,
    *,
    overwrite: bool = False,
    say: Say = print,
) -> Exported:
    """Writes an edit as the folder of an adapter, which `peft.PeftModel.from_pretrained` opens.

    Arguments and errors as in `editing.export.export_merged`.

    Raises:
        ModelError: peft is not installed; or a matrix has so high a rank that factors would be as
            many numbers as the matrix.
    """
    card = read_exportable(folder, "written as an adapter", output, overwrite=overwrite)
    config_of = _peft()
    base = open_base(folder, card, options)
    factors = [factorise(base.name(site), base.deltas[site]) for site in sorted(base.deltas)]
    factors = [one for one in factors if one.rank]
    if not factors:
        raise ModelError(f"the edit in {folder} changes no weight: there is no adapter to write.")
    maps = [base.model.linear(site) for site in base.deltas]
    first = max(one.rank for one in factors)
    others = {one.name: one.rank for one in factors if one.rank != first}
    config = config_of(
        r=first,
        lora_alpha=first,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(one.name for one in factors),
        fan_in_fan_out=all(isinstance(module, Conv1D) for module in maps),
        inference_mode=True,
        base_model_name_or_path=card.base.hub or card.base.name,
    )
    say(f"writing {output}")
    kind = family_of(base.model.family).hf.__name__

    def opening(name: str) -> tuple[str, ...]:
        call = f"PeftModel.from_pretrained(model, {name!r})"
        return (f"{call} puts it on {card.base.name} as {kind} opens it",)

    with replacing_folder(output, overwrite=overwrite) as temporary:
        save_file(_tensors(factors), temporary / WEIGHTS, {"format": "pt"})
        config.save_pretrained(temporary)
        ranks = [{"name": one.name, "rank": one.rank, "error": one.error} for one in factors]
        finish(temporary, base, adapter=ranks, opening=opening(output.name))
    notes = tuple(f"{one.name}: rank {one.rank}{_error(one)}" for one in factors)
    return Exported(output, (), (*notes, *opening(str(output))))


def factorise(name: str, delta: Delta) -> Factors:
    """A delta of one edit as two factors.

    Args:
        name: of the linear map.
        delta: E = 1.

    Raises:
        ModelError: its rank is so high that the factors would be as many numbers as the matrix.
    """
    if isinstance(delta, LowRankDelta):
        alive = (delta.inputs[0] != 0).any(-1) & (delta.outputs[0] != 0).any(-1)
        inputs, outputs = delta.inputs[0][alive], delta.outputs[0][alive]
        if len(inputs) * (inputs.shape[1] + outputs.shape[1]) < inputs.shape[1] * outputs.shape[1]:
            return Factors(name, inputs, outputs.mT, 0.0)
    dense = delta.dense()[0].double()
    u, values, v = torch.linalg.svd(dense, full_matrices=False)
    d_out, d_in = dense.shape
    least = values[:1] * max(d_out, d_in) * torch.finfo(torch.float32).eps
    rank = int((values > least).sum())
    if rank * (d_out + d_in) >= d_out * d_in:
        raise ModelError(
            f"{name}: the edit has rank {rank} there, so that an adapter would hold "
            f"{rank * (d_out + d_in):,} numbers for a matrix of {d_out * d_in:,}. Merge it instead "
            "(--format transformers); edits of lora, mend, malmen, rledit and rome have low rank."
        )
    root = values[:rank].sqrt()
    a, b = (root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float()
    error = (b.double() @ a.double() - dense).norm() / dense.norm().clamp(min=1e-300)
    return Factors(name, a, b, float(error))


def _tensors(factors: list[Factors]) -> dict[str, Tensor]:
    tensors = {}
    for one in factors:
        tensors[f"base_model.model.{one.name}.lora_A.weight"] = one.a.contiguous()
        tensors[f"base_model.model.{one.name}.lora_B.weight"] = one.b.contiguous()
    return tensors


def _error(one: Factors) -> str:
    return f", cut off {one.error:.1e} of the delta's norm" if one.error else ""


def _peft() -> Any:
    """The class of a LoRA's settings.

    Raises:
        ModelError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ModelError(
            f"--format peft needs the package peft, of the extra smollm: {INSTALL}"
        ) from error
    return LoraConfig
