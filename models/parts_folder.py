"""What is small in a LLaVA around a local language model: adapter, vision tower, projectors.

    adapter.safetensors                LoRA (Hu et al. 2021), by peft's names: W + alpha / r * B A
    tower.safetensors                  vision tower, its configuration and that of its pictures
    tower_<alignment>.safetensors      the same where an alignment has trained it further
    projector_<alignment>.safetensors  LLaVA's two-layer projector, one for each alignment
    manifest.json                      how they were made, and the sha256 of every file

All weights are stored in half precision and read as float32. The language model is not among them:
`models.language_model` opens it, and `models.llava_assembly` puts both together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from errors import ModelError, some_of
from models.folder import MANIFEST, check_manifest, sha256
from models.tensor_file import TensorFile
from results.files import replacing_folder

State = Mapping[str, Tensor]
ADAPTER, TOWER, PROJECTOR, SUFFIX = "adapter", "tower", "projector_", ".safetensors"
_SAID = "tmke"  # one key: the order of several is another one in every file that safetensors writes
_A, _B = ".lora_A", ".lora_B"
_REMAKE = (
    "Fetch the folder again (git checkout -- FOLDER where it shipped), or make it anew: "
    "python pretrain.py model=smollm_llava"
)
_OTHER = (
    f"Give the language model that the parts name in {MANIFEST}, or train parts for this one: "
    "python pretrain.py model=smollm_llava language_model.path=PATH"
)


@dataclass(frozen=True)
class Adapter:
    """A LoRA, as peft names it.

    Attributes:
        tensors: `base_model.model.<linear map>.lora_A.weight` (r, d_in) and `lora_B` (d_out, r).
        alpha: of alpha / r, the factor of B A.
    """

    tensors: State
    alpha: float

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name of a linear map -> A and B.

        Raises:
            ModelError: a half of a pair is missing, or something is no half of one.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            half = _A if _A in name else _B
            place, mark, _ = name.removeprefix("base_model.model.").partition(half)
            if mark:
                found.setdefault(place, {})[half] = tensor
        whole = {place: (two[_A], two[_B]) for place, two in found.items() if {_A, _B} <= set(two)}
        if 2 * len(whole) != len(self.tensors) or not whole:
            odd = [name for name in self.tensors if not any(p in name for p in whole)]
            raise ModelError(
                f"an adapter is made of pairs of lora_A and lora_B, and {some_of(odd) or 'nothing'}"
                f" is in this one. {_REMAKE}."
            )
        return whole


@dataclass(frozen=True)
class Tower:
    """A vision tower.

    Attributes:
        config: of a vision model of transformers; `model_type` is CLIP's where it says none.
        state: its weights, by the names that the model itself gives them.
        images: what the image processor does (its `to_dict()`).
    """

    config: Mapping[str, Any]
    state: State
    images: Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """All of a parts folder.

    Attributes:
        tower: the common one.
        projectors: by alignment.
        adapter: of the language model; None leaves it as it is.
        own_towers: by alignment, where it has another tower than the common one.
        manifest: how they were made.
    """

    tower: Tower
    projectors: Mapping[str, State]
    adapter: Adapter | None = None
    own_towers: Mapping[str, Tower] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def tower_of(self, alignment: str) -> Tower:
        """The vision tower that an alignment sees through."""
        return self.own_towers.get(alignment, self.tower)

    def projector_of(self, alignment: str) -> State:
        """The projector of an alignment.

        Raises:
            ModelError: there is none.
        """
        if alignment not in self.projectors:
            raise ModelError(
                f"these parts have no projector of alignment {alignment!r}; there are: "
                f"{', '.join(sorted(self.projectors)) or 'none'}. Choose one of them, or train it: "
                f"python pretrain.py model=smollm_llava pretrain.alignment={alignment}."
            )
        return self.projectors[alignment]


def write_parts(folder: Path, parts: Parts, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes a parts folder, whole or not at all.

    Args:
        folder: new, empty, or an earlier one where `overwrite` is set.
        parts: in any number type; stored in half precision.
        overwrite: whether an earlier one gives way.

    Returns:
        The manifest, with the sha256 of every file.

    Raises:
        ModelError: the folder is taken, or a weight is not finite in half precision.
        UnwritableError: naming the folder, which is as it was.
    """
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ModelError(f"{folder} is not empty; give another folder for the parts.")
    towers = {TOWER: parts.tower}
    towers |= {f"{TOWER}_{name}": tower for name, tower in parts.own_towers.items()}
    with replacing_folder(folder) as temporary:
        if parts.adapter is not None:
            _store(temporary, ADAPTER, parts.adapter.tensors, {"alpha": parts.adapter.alpha})
        for name, tower in towers.items():
            said = {"config": dict(tower.config), "images": dict(tower.images)}
            _store(temporary, name, tower.state, said)
        for name, state in parts.projectors.items():
            _store(temporary, f"{PROJECTOR}{name}", state, {})
        hashes = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        manifest = {**parts.manifest, "sha256": hashes}
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def read_parts(folder: Path) -> Parts:
    """Reads a parts folder, every file compared with the manifest's hash.

    Returns:
        The parts, all weights in float32.

    Raises:
        ModelError: there is no such folder, or a file is missing, damaged or was replaced.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelError(
            f"{folder} holds no parts of a model: {MANIFEST} is not there. {_REMAKE}, which writes "
            "them into RUN/parts."
        )
    check_manifest(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        stored = {name: _restore(folder / name) for name in manifest["sha256"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} cannot be read as parts of a model: {error}. {_REMAKE}.") from (
            error
        )
    found = {name.removesuffix(SUFFIX): content for name, content in stored.items()}
    if TOWER not in found:
        raise ModelError(f"{folder} has no {TOWER}{SUFFIX}. {_REMAKE}.")
    adapter = found.get(ADAPTER)
    return Parts(
        tower=_tower(found[TOWER], folder),
        projectors={
            name.removeprefix(PROJECTOR): content[0]
            for name, content in found.items()
            if name.startswith(PROJECTOR)
        },
        adapter=adapter and Adapter(adapter[0], float(adapter[1].get("alpha", 0))),
        own_towers={
            name.removeprefix(f"{TOWER}_"): _tower(content, folder)
            for name, content in found.items()
            if name.startswith(f"{TOWER}_")
        },
        manifest=manifest,
    )


@torch.no_grad()
def merge(model: nn.Module, adapter: Adapter) -> None:
    """Adds an adapter to the weights of a float32 model, in place: W + alpha / r * B A.

    Raises:
        ModelError: as `check_adapter`.
    """
    check_adapter(model, adapter)
    for place, (a, b) in adapter.pairs().items():
        weight = model.get_submodule(place).get_parameter("weight")
        delta = b.to(weight.device, torch.float32) @ a.to(weight.device, torch.float32)
        weight.add_(delta * (adapter.alpha / len(a)))


def check_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Compares an adapter with a model, which may be one without weights (torch's meta device).

    Raises:
        ModelError: it is of another model: a linear map is not there or has another shape.
    """
    modules = dict(model.named_modules())
    for place, (a, b) in adapter.pairs().items():
        weight = getattr(modules.get(place), "weight", None)
        shape = (b.shape[0], a.shape[1])
        if weight is None or tuple(weight.shape) != shape:
            there = "is not there" if weight is None else f"is {tuple(weight.shape)}"
            raise ModelError(
                f"the adapter was trained for another language model: its {place} is {shape}, and "
                f"in this one it {there}. {_OTHER}."
            )


def check_projector(projector: State, width: int) -> None:
    """Compares what a projector gives with the width of a language model.

    Raises:
        ModelError: it was trained for another one.
    """
    given = tuple(projector.get("linear_2.weight", torch.empty(0)).shape)
    if given[:1] != (width,):
        raise ModelError(
            f"the projector was trained for another language model: its linear_2 is {given}, and "
            f"this one has a width of {width}. {_OTHER}."
        )


def _store(folder: Path, name: str, state: State, said: Mapping[str, Any]) -> None:
    halves = {key: tensor.detach().to("cpu", torch.float16) for key, tensor in state.items()}
    bad = [key for key, tensor in halves.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise ModelError(
            f"{name}: {some_of(bad)} is not finite in half precision, so nothing was saved. The "
            "training diverged: lower its learning rate."
        )
    path = folder / f"{name}{SUFFIX}"
    save_file(
        {key: tensor.contiguous() for key, tensor in sorted(halves.items())},
        path,
        metadata={_SAID: json.dumps(said, sort_keys=True)},
    )


def _restore(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file in float32, and what is said of them."""
    file = TensorFile.of(path, remedy=f"{_REMAKE}.")
    said = json.loads(file.facts.get(_SAID, "{}"))
    return {name: tensor.float() for name, tensor in file.read().items()}, said


def _tower(content: tuple[dict[str, Tensor], dict[str, Any]], folder: Path) -> Tower:
    state, said = content
    try:
        return Tower(said["config"], state, said["images"])
    except KeyError as error:
        raise ModelError(
            f"{folder}: the vision tower there does not say its {error}. {_REMAKE}."
        ) from error
