"""One editor of each kind over a small model in words, for tests that ask the same of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from editors.base import Editor
from editors.ike.retrieval import Retriever, Sentences
from editors.mend.editor import build as build_mend
from editors.none.editor import Unedited
from editors.ultraedit.editor import UltraEdit
from models.editable import EditableModel
from models.rows import EditBatch
from models.sites import ATTENTION_ROLES
from tests.builders import inputs
from tests.editors import editor_options, fine_tune, grace, ike, lora, memit, rome
from tests.ike_cases import ENCODER, TRAINING
from tests.malmen_cases import malmen
from tests.rome_cases import PREFIXES
from tests.serac_cases import stirred, worded_batch

Build = Callable[..., Editor]  # (model, steps=of an optimisation)


def _moment(model: EditableModel) -> Tensor:
    """C of some keys, half of whose directions have next to nothing."""
    width = model.hf.config.get_text_config().intermediate_size
    draw = torch.Generator().manual_seed(3)
    keys = torch.randn(4 * width, width, generator=draw, dtype=torch.float64)
    keys[:, ::2] *= 0.1
    return keys.mT @ keys / len(keys)


def _rome(model: EditableModel, steps: int, *, moment: bool = False) -> Editor:
    return rome(
        inputs().encoder, PREFIXES, _moment(model) if moment else None,
        layer=1, steps=steps, contexts=[],
    )  # fmt: skip


def _memit(model: EditableModel, steps: int, **changed: Any) -> Editor:
    layers = [0, 1]
    return memit(
        inputs().encoder, PREFIXES, dict.fromkeys(layers, _moment(model)),
        layers=layers, steps=steps, contexts=[], clamp=4.0, weight_decay=1e-3, **changed,
    )  # fmt: skip


def _mend(model: EditableModel, **changed: Any) -> Editor:
    """Networks that move what they get, and statistics of three edits."""
    torch.manual_seed(4)
    small = {"layers": 2, "rank": 8, "sign": "descent", "edit_lr": 0.1, "v_init_std": 0.1}
    chosen = editor_options("mend", **small | changed)
    editor = build_mend(chosen, model, inputs())
    for name, parameter in editor.named_parameters():
        if name.endswith(".u"):
            moved = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
            parameter.data += 0.05 * moved.to(parameter.device)
    batch = worded_batch([4, 5, 6]).to(model.device)
    editor.train()
    editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    return editor.eval()  # type: ignore[return-value]


def _malmen(model: EditableModel) -> Editor:
    """Networks that move what they get, and statistics of three edits; a unit of ridge."""
    editor = malmen(model, edit_lr=1e-2, ridge=1.0).to(model.device, torch.float32)
    batch = worded_batch([4, 5, 6]).to(model.device)
    editor.train()
    editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    return editor.eval()  # type: ignore[return-value]


def _ultraedit(model: EditableModel, **changed: Any) -> Editor:
    """Warm statistics of three edits."""
    cold = UltraEdit(editor_options("ultraedit", layers=2, edit_lr=2e-2, **changed), model)
    batch = worded_batch([4, 5, 6]).to(model.device).teaching()
    state = model.prefix(batch.rows, cold.first_layer(model))
    return UltraEdit(cold.options, model, cold.statistics(model, [(batch, state)]))


def _ike(model: EditableModel) -> Editor:
    sentences = Sentences(ENCODER, model.device)
    return ike(inputs().encoder, Retriever(sentences, TRAINING), sentences=sentences, k=2)


def _ft(steps: int, **changed: Any) -> Editor:
    return fine_tune(**{"layers": 1, "lr": 2e-2, "steps": steps, **changed})


EDITORS: dict[str, Build] = {
    "none": lambda _, __: Unedited(),
    "ft": lambda _, steps: _ft(steps),
    "ft_two_layers": lambda _, steps: _ft(steps, layers=2, weight_decay=1e-3, stop_loss=0.05),
    "ft_l": lambda _, steps: _ft(steps, norm_constraint=0.2, loss_at="prompt_last"),
    "ft_attention": lambda _, steps: _ft(steps, matrices=["key", "value"]),
    "lora": lambda _, steps: lora(layers=2, rank=2, alpha=4, steps=steps, lr=2e-2),
    "grace": lambda _, steps: grace(
        layer=1, replace="answer", epsilon_init=0.3, steps=steps, lr=0.5, start="output"
    ),
    "rome": _rome,
    "rome_second_moment": lambda model, steps: _rome(model, steps, moment=True),
    "memit": _memit,
    "alphaedit": partial(_memit, null_space=True, threshold=0.1, ridge=0.1),
    "mend": lambda model, _: _mend(model),
    "mend_attention": lambda model, _: _mend(model, matrices=[*ATTENTION_ROLES]),
    "malmen": lambda model, _: _malmen(model),
    "ultraedit": lambda model, _: _ultraedit(model),
    "ike": lambda model, _: _ike(model),
    "serac": lambda model, _: stirred(model, combine="soft"),
    "serac_hard": lambda model, _: stirred(model, combine="hard", scope={"threshold": 1e-6}),
}


def answers(model: EditableModel, editor: Editor, batch: EditBatch) -> Tensor:
    """Logits of all answer tokens of a batch, each row under its own edit: (N, V)."""
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    with torch.no_grad():
        return edit.answer(model, batch.rows, state, batch.rows.answers())
