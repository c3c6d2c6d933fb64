"""Base models in half precision, as on GPUs: what has to be computed in single precision is.

model.dtype=auto is bfloat16 on a GPU. Weights and activations then have 8 bits; edits, optimisers,
losses, divergences, statistics and solves have 24 or 53 all the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader

from editors.base import DeltaEdit, Edit, EditorInputs
from editors.mend.config import MendOptions
from editors.objective import Objective
from lightning_modules.editor_training import EditorTraining
from lightning_modules.mend import MendTraining
from lightning_modules.serac import SeracTraining
from models.blip2 import Blip2
from models.editable import EditableModel
from models.minigpt4 import MiniGPT4
from models.rows import EditBatch
from tests.all_editors import EDITORS
from tests.builders import MEND_OPTIONS, blip2, edit_batch, inputs, minigpt4
from tests.rome_cases import SHARPNESS
from tests.serac_cases import RECORDS, options, picture_model, worded_batch

HALF = (torch.bfloat16, torch.float16)
STEPS = 30
# Attention computes its softmax in the model's own type; nothing else has these.
LOSSES = ("_log_softmax", "nll_loss", "kl_div", "cross_entropy")
STEPPING = ("_fused_adam", "_foreach_", "addcdiv", "lu_solve", "lu_factor")


class WatchPrecision(TorchDispatchMode):
    """Refuses half precision where sums over a vocabulary, steps and solves are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        watched = [word for word in (*LOSSES, *STEPPING) if word in name]
        if watched:
            self.seen.update(watched)
            flat, _ = tree_flatten((args, kwargs))
            half = [t for t in flat if isinstance(t, Tensor) and t.dtype in HALF]
            assert not half, f"{name} in {half[0].dtype}"
        return func(*args, **(kwargs or {}))


def sure_model() -> EditableModel:
    """A random model that can be made sure of a token."""
    model = picture_model()
    nn.init.constant_(model.decoder.norm.get_parameter("weight"), SHARPNESS)
    return model


def likelihood(model: EditableModel, name: str, batch: EditBatch) -> tuple[Edit, Tensor, float]:
    """Edits, logits of all answers, and how likely the new ones are: a mean over tokens."""
    editor = EDITORS[name](model, STEPS)
    state = model.prefix(batch.rows, editor.first_layer(model))
    with WatchPrecision():
        edit = editor.edit(model, batch, state)
    for delta in getattr(edit, "deltas", {}).values():
        assert {t.dtype for t in vars(delta).values()} == {torch.float32}
    at = batch.rows.answers()
    with torch.no_grad():
        logits = edit.answer(model, batch.rows, state, at)
    of_edits = torch.isin(at.row, batch.edit_rows)
    p = logits.softmax(-1).gather(1, at.target[:, None])[of_edits]
    return edit, logits, float(p.mean())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.bfloat16) for name in EDITORS]
    + [(name, torch.float16) for name in ("ft", "rome_second_moment", "mend", "serac")],
)
def test_an_edit_takes_as_it_does_in_single_precision(name: str, dtype: torch.dtype) -> None:
    """Within 0.1 in the probability of the new answers: the weights have 2 to 3 digits."""
    batch = worded_batch([1, 2])
    plain, _, expected = likelihood(sure_model(), name, batch)
    edit, logits, found = likelihood(sure_model().to(dtype), name, batch)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())
    assert found == pytest.approx(expected, abs=0.1)
    if name in ("ft", "ft_two_layers", "lora"):
        assert found > 0.7  # and not merely equally little
    if name.startswith("rome"):  # one update in the middle makes so small a model sure of nothing
        assert isinstance(edit, DeltaEdit)
        assert isinstance(plain, DeltaEdit)
        for site, delta in edit.deltas.items():
            both = (delta.dense().flatten(1), plain.deltas[site].dense().flatten(1))
            assert bool((F.cosine_similarity(*both) > 0.95).all())


@pytest.mark.parametrize(("kind", "make"), [(Blip2, blip2), (MiniGPT4, minigpt4)])
def test_models_with_a_q_former_are_edited_on_pictures(
    kind: Callable[..., EditableModel], make: Callable[..., EditableModel]
) -> None:
    """The Q-Former is in float32 beside a tower and a language model in half precision."""
    model = kind(make().hf.bfloat16())
    nn.init.constant_(model.decoder.norm.get_parameter("weight"), SHARPNESS)
    batch = edit_batch([1, 2], pictures=True)
    batch = replace(batch, rows=model.encode_pictures(batch.rows))
    _, _, found = likelihood(model, "ft_two_layers", batch)
    assert found > 0.7


def mend_training(model: EditableModel) -> EditorTraining:
    chosen = MendOptions.model_validate(MEND_OPTIONS)
    return MendTraining(chosen, model, inputs(), objective(chosen))


def serac_training(model: EditableModel, **changed: Any) -> EditorTraining:
    chosen = options(**changed)
    given = EditorInputs(inputs().encoder, RECORDS)
    return SeracTraining(chosen, model, given, objective(chosen))


def supervised_training(model: EditableModel) -> EditorTraining:
    return serac_training(model, objective="supervised", negatives={"share": 1.0})


def objective(chosen: Any) -> Objective:
    return Objective("image_text", chosen.weights.model_dump())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("build", [mend_training, serac_training, supervised_training])
def test_an_editor_is_trained_in_single_precision(
    build: Callable[[EditableModel], EditorTraining], precision: Any, tmp_path: Path
) -> None:
    """The base is in bfloat16; under bf16-mixed products of the networks are too, nothing else."""
    module = build(picture_model().to(torch.bfloat16))
    batches = [worded_batch([number, number + 1], pictures=True) for number in (1, 4, 7)]
    served: DataLoader[EditBatch] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer = L.Trainer(
        max_steps=3, max_epochs=1, accelerator="cpu", precision=precision, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        default_root_dir=str(tmp_path), num_sanity_val_steps=0,
    )  # fmt: skip
    before = {name: value.clone() for name, value in module.editor.state_dict().items()}
    with warnings.catch_warnings(), WatchPrecision() as watch:
        warnings.simplefilter("ignore")
        trainer.fit(module, served, served)
    step = "_fused_adam" if precision == "32-true" else "_foreach_"
    assert {"_log_softmax", step} <= watch.seen
    after = module.editor.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert floats(module.editor) == {torch.float32}
    state = trainer.optimizers[0].state_dict()["state"].values()
    moments = {t.dtype for of_one in state for t in of_one.values() if isinstance(t, Tensor)}
    assert moments == {torch.float32}
    logged = trainer.callback_metrics
    assert {"train/loss", "val/loss", "val/reliability"} <= logged.keys()
    assert all(bool(torch.as_tensor(value).isfinite()) for value in logged.values())
    assert floats(module.model) == {torch.bfloat16}


def floats(module: nn.Module) -> set[torch.dtype]:
    """Number types of its weights and buffers; tables of rotary embeddings are in float32."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {t.dtype for name, t in named if t.is_floating_point() and "inv_freq" not in name}


def test_the_watch_sees_half_precision() -> None:
    logits = torch.zeros(2, 5, dtype=torch.bfloat16)
    with (
        pytest.raises(AssertionError, match=r"_log_softmax.* in torch\.bfloat16"),
        WatchPrecision(),
    ):
        F.cross_entropy(logits, torch.tensor([1, 2]))
