"""The tests of the vectors on files of other sizes, seeds, precisions and models.

The files come from slow references that share no code with the project, in the format of the
vectors, so nothing in the tests of `mend_transform*`, `mend_edit*` and `ft*` is bound to the files
that ship.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.builders import text_model
from tests.parity import (
    slow_mend,
    slow_rome,
    test_ft,
    test_mend_edit,
    test_mend_transform,
    test_metrics_mend,
    test_rome,
    test_serac,
    vectors,
)

pytestmark = pytest.mark.parity
FT_STEPS = 12


def base(kind: str, layers: int, seed: int) -> PreTrainedModel:
    model = text_model(kind, layers=layers, seed=seed).hf
    model.config._attn_implementation = "eager"
    return model.requires_grad_(True)


@pytest.mark.parametrize(
    ("x", "d", "rank", "modes", "dtype"),
    [(5, 9, 3, 2, torch.float64), (12, 12, 40, 4, torch.float32), (16, 7, 7, 2, torch.float32)],
)
def test_transforms(
    tmp_path: Path, x: int, d: int, rank: int, modes: int, dtype: torch.dtype
) -> None:
    path = slow_mend.transform_file(
        tmp_path / "made.npz", seed=x, x=x, d=d, rank=rank, modes=modes, dtype=dtype
    )
    golden = test_mend_transform.Golden(path)
    for case in test_mend_transform.CASES:
        test_mend_transform.test_every_variant(golden, case)
    test_mend_transform.test_fresh_network_is_the_identity(golden)
    test_mend_transform.test_training_calls_grow_the_statistics(golden)


@pytest.mark.parametrize(
    ("kind", "depth", "layers", "rank", "hidden", "dtype"),
    [
        ("gpt2", 4, 2, 5, 2, torch.float64),
        ("llama", 3, 3, 200, 0, torch.float64),
        ("gpt2", 2, 2, 8, 1, torch.float32),
        ("llama", 2, 2, 8, 1, torch.float32),
    ],
)
def test_edits(
    tmp_path: Path, kind: str, depth: int, layers: int, rank: int, hidden: int, dtype: torch.dtype
) -> None:
    path = slow_mend.edit_file(
        tmp_path / "made.npz", base(kind, depth, rank), seed=rank, dtype=dtype, layers=layers,
        rank=rank, hidden=hidden,
    )  # fmt: skip

    def case() -> test_mend_edit.Case:
        return test_mend_edit.Case(path)

    for phase in test_mend_edit.PHASES:
        test_mend_edit.test_gradient_factors(case(), phase)
        test_mend_edit.test_edit_and_edited_model(case(), phase)
        test_mend_edit.test_losses_and_logged_scalars(case(), phase)
        test_mend_edit.test_statistics(case(), phase)
    test_mend_edit.test_editor_gradients(case())


@pytest.mark.parametrize(
    ("kind", "part", "bound"),
    [("gpt2", "h.0.mlp.c_proj", 2e-3), ("llama", "layers.1.mlp.down_proj", 5e-3)],
)
def test_fine_tuning(tmp_path: Path, kind: str, part: str, bound: float) -> None:
    path = ft_file(tmp_path / "made.npz", base(kind, 2, 3), part, bound)
    for case in ("unconstr", "constr"):
        test_ft.test_trajectory(path, case)


def ft_file(path: Path, hf: PreTrainedModel, part: str, bound: float) -> Path:
    """An ft file: torch's Adam on the weights themselves, clipped after each step or not."""
    ids, target = torch.randint(4, 90, (1, 11)), torch.randint(4, 90, (1, 3))
    weights = {name: w for name, w in hf.named_parameters() if part in name}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    mask = torch.ones_like(ids)
    arrays: dict[str, np.ndarray] = {f"model.{k}": w.numpy() for k, w in hf.state_dict().items()}
    arrays = {name: value.copy() for name, value in arrays.items()}
    for name, value in (("input_ids", ids), ("attention_mask", mask), ("target_ids", target)):
        arrays[name] = value.numpy()
    for case, limit in (("unconstr", False), ("constr", bound)):
        options = {
            "num_steps": FT_STEPS, "lr": 5e-3, "weight_decay": 0.0, "norm_constraint": limit,
        }  # fmt: skip
        optimiser = torch.optim.Adam(weights.values(), lr=5e-3)
        losses = []
        for _ in range(FT_STEPS):
            loss = ft_loss(hf, ids, target)
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for name, weight in weights.items() if limit else ():
                    weight.copy_(weight.clamp(before[name] - limit, before[name] + limit))
        arrays[f"{case}.losses"] = np.array(losses)
        arrays[f"{case}.hparams_json"] = np.array(json.dumps(options))
        with torch.no_grad():
            for name, weight in weights.items():
                arrays[f"{case}.delta.{name}"] = (weight - before[name]).numpy()
                weight.copy_(before[name])
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def ft_loss(hf: PreTrainedModel, ids: Tensor, target: Tensor) -> Tensor:
    return -hf(input_ids=ids).logits[0, -1].log_softmax(-1)[target[0]].mean()


def in_single_precision(path: Path, folder: Path) -> Path:
    """A file as its authors' code writes it in float32, with numbers alone still Python's own."""
    arrays = vectors.load(path)
    single = {
        name: value.astype(np.float32) if value.dtype == np.float64 and value.ndim else value
        for name, value in arrays.items()
    }
    np.savez(folder / path.name, **single)  # type: ignore[arg-type]
    return folder / path.name


@pytest.mark.parametrize("path", vectors.parameters("serac*.npz", without="serac_sampler*.npz"))
def test_serac_in_single_precision(path: Path, tmp_path: Path) -> None:
    case = test_serac.Case(in_single_precision(path, tmp_path))
    for name in test_serac.VARIANTS:
        test_serac.test_similarity_and_scope(case, name)
    test_serac.test_cross_attention(case)
    for suffix in ("", "_zero"):
        test_serac.test_balanced_cross_entropy(case, suffix)
    test_serac.test_balanced_cross_entropy_without_positives(case)
    test_serac.test_mixtures(case)
    for all_negatives in (False, True):
        test_serac.test_a_supervised_step(case, all_negatives)
    test_serac.test_metrics(case)


@pytest.mark.parametrize("path", vectors.parameters("metrics_mend*.npz"))
def test_metrics_in_single_precision(path: Path, tmp_path: Path) -> None:
    arrays = vectors.below(vectors.load(in_single_precision(path, tmp_path)), "")
    for shift in (0, 1):
        test_metrics_mend.test_answer_scores(arrays, shift)
    test_metrics_mend.test_binary_scores(arrays)
    test_metrics_mend.test_locality_divergence(arrays)
    test_metrics_mend.test_binary_locality_divergence(arrays)


@pytest.mark.parametrize("path", vectors.parameters("mend_transform*.npz"))
def test_transforms_in_single_precision(path: Path, tmp_path: Path) -> None:
    golden = test_mend_transform.Golden(in_single_precision(path, tmp_path))
    for case in test_mend_transform.CASES:
        test_mend_transform.test_every_variant(golden, case)
    test_mend_transform.test_fresh_network_is_the_identity(golden)
    test_mend_transform.test_training_calls_grow_the_statistics(golden)


@pytest.mark.parametrize("path", vectors.parameters("mend_edit*.npz"))
@pytest.mark.parametrize("phase", test_mend_edit.PHASES)
def test_edits_in_single_precision(path: Path, phase: str, tmp_path: Path) -> None:
    single = in_single_precision(path, tmp_path)
    test_mend_edit.test_gradient_factors(test_mend_edit.Case(single), phase)
    test_mend_edit.test_edit_and_edited_model(test_mend_edit.Case(single), phase)
    test_mend_edit.test_losses_and_logged_scalars(test_mend_edit.Case(single), phase)
    test_mend_edit.test_statistics(test_mend_edit.Case(single), phase)
    if phase == "train":
        test_mend_edit.test_editor_gradients(test_mend_edit.Case(single))


@pytest.mark.parametrize("side", ["right", "left"])
def test_second_moment_of_texts_that_are_cut(tmp_path: Path, side: str) -> None:
    """The file's rows are longer than its `maxlen`, and than what the model reads."""
    arrays = slow_rome.moment_file(maxlen=9, width=40, side=side)
    np.savez(tmp_path / "moment.npz", **arrays)  # type: ignore[arg-type]
    test_rome.test_second_moment(tmp_path / "moment.npz")
