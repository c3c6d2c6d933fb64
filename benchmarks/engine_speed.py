"""How much the batched single-edit engine saves: a ratio, both sides measured in one run.

    python -m benchmarks.engine_speed [EDITS]

The obvious way edits a copy of the whole model, one record at a time, and asks every probe by a
whole forward pass in a batch of one. The engine makes the same FT edits as per-row deltas over a
shared prefix, 32 at a time. Both run FT of the last layer with the same number of steps on
llava_tiny and the default world; the answers are compared, so that the ratio is of equal work.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.scenarios import SCENARIOS
from datamodules.sources.folder import read_world
from datamodules.world import World, generate_world
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from models.editable import EditableModel
from models.loading import load_model
from models.processor import load_processor
from models.rows import EditBatch
from runner.assembly import make_encoder

MODEL = "models/pretrained/llava_tiny"
WORLD = Path("runs/worlds/size50-seed0")
STEPS, LR = 25, 2e-3
OPTIONS = FtOptions(
    name="ft", variant="as_run", steps=STEPS, optimizer="adam", lr=LR, layers=1, stop_loss=None,
    stop_when_argmax=False, norm_constraint=None, loss_at="answer",
)  # fmt: skip


def main(n_edits: int = 32) -> None:
    """Prints the ratio for each scenario."""
    generate_world(WORLD)
    model = load_model("llava", MODEL, dtype="float32")
    processor = load_processor("llava", MODEL)
    encoder = make_encoder(processor, "default")
    source = read_world(World.load(WORLD), name="world", filter_known="none")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {n_edits} edits")
    for name, scenario in SCENARIOS.items():
        data = EditDataModule(source, {"test": scenario}, eval_batch_size=n_edits, limit=n_edits)
        data.connect(encoder, ImageStore(processor.pixels))
        data.setup("test")
        (batch,) = list(data.test_dataloader())
        fast, answers = timed(engine, model, batch)
        slow, expected = timed(one_by_one, model, batch)
        same = (answers == expected).float().mean().item()
        print(
            f"{name:10s}  one by one {slow:6.2f} s  engine {fast:6.2f} s  ratio {slow / fast:5.1f}"
            f"  ({len(batch.rows)} rows, {100 * same:.2f} % of the answers equal)"
        )


def timed(
    function: Callable[[EditableModel, EditBatch], torch.Tensor],
    model: EditableModel,
    batch: EditBatch,
) -> tuple[float, torch.Tensor]:
    """Seconds of the second of two calls, and its result."""
    function(model, batch)
    started = time.perf_counter()
    result = function(model, batch)
    return time.perf_counter() - started, result


def engine(model: EditableModel, batch: EditBatch) -> torch.Tensor:
    """All edits side by side."""
    editor = FineTune(OPTIONS)
    at = batch.rows.answers()
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    with torch.no_grad():
        return edit.answer(model, batch.rows, state, at).argmax(-1)


def one_by_one(model: EditableModel, batch: EditBatch) -> torch.Tensor:
    """A copy of the model per edit, whole forward passes, one row at a time."""
    at = batch.rows.answers()
    answers = torch.empty_like(at.target)
    for edit, own in enumerate(batch.edit_rows.tolist()):
        edited = copy.deepcopy(model.hf)
        mlp = edited.model.language_model.layers[-1].mlp
        weights = [mlp.down_proj.weight, mlp.up_proj.weight]
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.Adam(weights, lr=LR)
        for _ in range(STEPS):
            logits, target, _ = ask(edited, batch, own)
            optimizer.zero_grad()
            cross_entropy(logits, target).backward()
            optimizer.step()
        with torch.no_grad():
            for row in (batch.rows.edit_index == edit).nonzero().flatten().tolist():
                logits, _, of_row = ask(edited, batch, row)
                answers[of_row] = logits.argmax(-1)
    return answers


def ask(
    hf: torch.nn.Module, batch: EditBatch, row: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and targets of one row's answer, and where they stand among all answers."""
    rows, of_row = batch.rows.select(torch.tensor([row])), batch.rows.answers().row == row
    real = rows.attention_mask[0]
    picture = {} if rows.pixel_values is None else {"pixel_values": rows.pixel_values}
    logits = hf(input_ids=rows.input_ids[:, real], **picture).logits[0]
    at = rows.answers()
    return logits[at.position], at.target, of_row


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
