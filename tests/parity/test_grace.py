"""GRACE against the obvious way: one row at a time, whole passes of transformers, a plain hook.

The reference shares no code with the engine: it finds the last prompt token in a row without
padding, keeps keys and values in lists, and replaces a linear map's output by a hook of its own.
Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from editors.grace.editor import Grace
from models.deltas import Site
from models.editable import EditableModel
from models.rows import EditBatch, Rows
from tests.builders import any_model, edit_batch
from tests.editors import grace
from tests.parity.double_precision import in_float64

pytestmark = pytest.mark.parity
EDITS = (1, 2, 4)
STEPS = 8


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    with in_float64():
        yield


def whole_pass(model: EditableModel, row: Rows, module: nn.Module, hook: Callable[..., Any]) -> Any:
    """Logits of one row, (T, V), with a hook on a map."""
    handle = module.register_forward_hook(hook)
    try:
        return model(row)[0]
    finally:
        handle.remove()


@dataclass(frozen=True)
class Slow:
    """One edit.

    Attributes:
        row: teaches it, without padding.
    """

    model: EditableModel
    editor: Grace
    row: Rows

    @property
    def module(self) -> nn.Module:
        return self.model.linear(self.editor.site)

    def covered(self, row: Rows) -> list[int]:
        """Where the value stands in a row."""
        end, length = last_of_prompt(row), row.input_ids.shape[1]
        return {
            "last": [end],
            "answer": list(range(end, length)),
            "prompt": list(range(end + 1)),
            "all": list(range(length)),
        }[self.editor.options.replace]

    def read(self, row: Rows) -> tuple[Tensor, Tensor]:
        """Input and output of the map at the last token of the prompt."""
        caught: list[Tensor] = []

        def look(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            caught.extend(t.reshape(row.input_ids.shape[1], -1) for t in (args[0], output))

        with torch.no_grad():
            whole_pass(self.model, row, self.module, look)
        return caught[0][last_of_prompt(row)], caught[1][last_of_prompt(row)]

    def logits(self, row: Rows, value: Tensor) -> Tensor:
        def put(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
            moved = output.reshape(row.input_ids.shape[1], -1).clone()
            for token in self.covered(row):
                moved[token] = value
            return moved.reshape(output.shape)

        logits: Tensor = whole_pass(self.model, row, self.module, put)
        return logits

    def fit(self, start: Tensor) -> Tensor:
        options = self.editor.options
        value = start.clone().requires_grad_(True)
        adam = torch.optim.Adam([value], lr=options.lr)
        answer = self.row.answer_mask[0].nonzero()[:, 0]
        target = self.row.input_ids[0, answer]
        for _ in range(options.steps):
            predicted = self.logits(self.row, value)[answer - 1]
            loss = F.cross_entropy(predicted, target)
            right = bool((predicted.argmax(-1) == target).all())
            if options.stop_loss is not None and loss < options.stop_loss and right:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
        return value.detach()


def last_of_prompt(row: Rows) -> int:
    return int(row.answer_mask[0].nonzero()[0, 0]) - 1


def bare(rows: Rows, number: int) -> Rows:
    """One row without padding."""
    one = rows.select(torch.tensor([number]))
    real = one.attention_mask[0].nonzero()[:, 0]
    return Rows(
        one.input_ids[:, real], one.attention_mask[:, real], one.answer_mask[:, real],
        one.image_slots[:, real], one.image_index, one.pixel_values, one.edit_index,
    )  # fmt: skip


def slow_answers(
    model: EditableModel, editor: Grace, batch: EditBatch, start: Tensor | None
) -> tuple[list[Tensor], Tensor, list[bool]]:
    """Values, logits of all answer tokens, and which rows lay within their edit's radius."""
    slow = [Slow(model, editor, bare(batch.rows, row)) for row in batch.edit_rows.tolist()]
    keys = [one.read(one.row) for one in slow]
    values = [
        one.fit(output if start is None else start)
        for one, (_, output) in zip(slow, keys, strict=True)
    ]
    logits, inside = [], []
    for number, edit in enumerate(batch.rows.edit_index.tolist()):
        row = bare(batch.rows, number)
        query, _ = slow[edit].read(row)
        inside.append(bool((query - keys[edit][0]).norm() <= editor.options.epsilon_init))
        with torch.no_grad():
            whole = slow[edit].logits(row, values[edit]) if inside[-1] else model(row)[0]
        answer = row.answer_mask[0].nonzero()[:, 0]
        logits.append(whole[answer - 1])
    return values, torch.cat(logits), inside


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("llava", {"layer": 1, "replace": "last", "epsilon_init": 3.0}),
    ("llava", {"layer": 1, "replace": "answer", "matrix": "mlp_in", "epsilon_init": 3.0}),
    ("llava", {"layer": 2, "replace": "answer", "epsilon_init": 1.5}),
    ("llava", {"layer": 2, "replace": "last", "matrix": "mlp_in", "epsilon_init": 4.0}),
    ("llava", {"layer": 0, "replace": "prompt", "epsilon_init": 3.0}),
    ("opt", {"layer": 1, "replace": "all", "epsilon_init": 1.0}),
    ("opt", {"layer": 2, "replace": "all", "matrix": "mlp_in", "epsilon_init": 5.0}),
    ("gpt2", {"layer": 1, "replace": "answer", "stop": 2.5, "epsilon_init": 1.0}),
]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(("kind", "changed"), SETTINGS)
def test_answers_are_those_of_whole_passes_with_a_hook(
    kind: str, changed: dict[str, Any], padding: str
) -> None:
    model = any_model(kind).double()
    batch = edit_batch(EDITS, pictures=kind == "llava", padding=padding)
    settings = {"start": "random", "lr": 0.3, "steps": STEPS} | changed
    stop = settings.pop("stop", None)
    editor = grace(**settings, stop_loss=stop, stop_when_argmax=stop is not None)
    start = editor._drawn(model).double()
    values, expected, inside = slow_answers(model, editor, batch, start)
    assert {True, False} == set(inside), inside
    # A whole pass of rows that are padded on the left has no positions for them.
    for packed in [False, True] if padding == "right" else [True]:
        state = model.prefix(batch.rows, editor.first_layer(model), packed=packed)
        edit = editor.edit(model, batch, state)
        torch.testing.assert_close(
            edit.codebook.entries.values, torch.stack(values), atol=1e-9, rtol=1e-9
        )
        with torch.no_grad():
            logits = edit.answer(model, batch.rows, state, batch.rows.answers())
            fires = edit.scope_probabilities(model, batch.rows, state)
        assert fires.bool().tolist() == inside
        torch.testing.assert_close(logits, expected, atol=1e-8, rtol=1e-8)


def test_a_value_may_begin_at_what_the_map_says() -> None:
    model, batch = any_model("llava").double(), edit_batch(EDITS, pictures=True)
    editor = grace(layer=1, start="output", steps=STEPS, lr=0.3, epsilon_init=2.0)
    values, _, _ = slow_answers(model, editor, batch, None)
    found = editor.edit(model, batch, model.prefix(batch.rows, 1)).codebook.entries.values
    torch.testing.assert_close(found, torch.stack(values), atol=1e-9, rtol=1e-9)


def test_keys_are_what_enters_the_map_at_the_last_token_of_the_prompt() -> None:
    model, batch = any_model("llava").double(), edit_batch(EDITS, pictures=True)
    editor = grace(layer=1, steps=1, epsilon_init=1.0)
    found = editor.edit(model, batch, model.prefix(batch.rows, 0, packed=True)).codebook
    for number, row in enumerate(batch.edit_rows.tolist()):
        slow = Slow(model, editor, bare(batch.rows, row))
        key, _ = slow.read(slow.row)
        torch.testing.assert_close(found.entries.keys[number], key, atol=1e-10, rtol=1e-10)
    assert editor.site == Site(1, "mlp_out")
