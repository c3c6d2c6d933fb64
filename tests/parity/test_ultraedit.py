"""UltraEdit against its formulas, token by token: whole forwards in batches of one, dense weights.

The reference reads keys and value gradients with hooks, keeps those of all tokens that it ever saw,
builds every d_in x d_in matrix and overwrites the weights of a copy, turn after turn. Everything is
in float64, the inside of Llama's norms too.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from datamodules.order import cut
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from editors.turn import Turn
from editors.ultraedit.editor import LifelongEdit, UltraEdit
from models.editable import PrefixState
from models.multimodal import MultimodalModel
from models.rows import EditBatch
from reporting.labels import PAPER_SCENARIOS
from tests.builders import llava
from tests.editors import editor_options
from tests.parity.double_precision import in_float64
from tests.parity.test_slow_reference import (
    IMAGE_ID,
    TOKENIZER,
    Slow,
    datamodule,
    five_records,
    matrices,
)

pytestmark = pytest.mark.parity
Edited = tuple[dict[str, Any], Callable[[Any], list[nn.Linear]]]
TURNS = ((0, 2), (2, 4), (4, 5))  # first and last + 1 of five edits
OPTIONS = {"edit_lr": 1e-3, "ridge": 0.5, "shrinkage": 0.3}
EDITED: dict[str, Edited] = {  # what is edited, and those maps of a copy in the editor's order
    "last": ({"layers": 2}, lambda hf: matrices(hf, 2)),
    "by role": (
        {"sites": {"mlp_gate": [0, 2], "mlp_in": [1], "key": [1]}},
        lambda hf: [
            hf.model.language_model.layers[layer].get_submodule(name)
            for layer, name in (
                (0, "mlp.gate_proj"), (1, "mlp.up_proj"), (1, "self_attn.k_proj"),
                (2, "mlp.gate_proj"),
            )
        ],
    ),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    with in_float64():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return five_records(tmp_path_factory.mktemp("tmke"))


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return llava(vocabulary=len(TOKENIZER), image_token=IMAGE_ID, dtype=torch.float64)


class SlowUltraEdit:
    """UltraEdit on a copy of a model.

    Args:
        slow: asks it.
        scenario: says what teaches an edit.
        edited: the maps of a copy that are edited.
        whitening: whether gradients are whitened.
    """

    def __init__(
        self,
        slow: Slow,
        scenario: str,
        edited: Callable[[Any], list[nn.Linear]],
        *,
        whitening: bool,
    ) -> None:
        self.slow, self.scenario, self.whitening = slow, SCENARIOS[scenario], whitening
        self.edited = edited
        self.keys: dict[int, list[Tensor]] = defaultdict(list)
        self.gradients: dict[int, list[Tensor]] = defaultdict(list)

    def look(self, hf: PreTrainedModel, records: Sequence[Record]) -> dict[int, int]:
        """Keeps the tokens of some edits; number of a matrix -> how many they are."""
        edited = self.edited(hf)
        before = {number: len(self.keys[number]) for number in range(len(edited))}
        for record in records:
            prompts = self.scenario.edit(record)
            for prompt in prompts:
                self._read(hf, edited, prompt, 1 / len(prompts))
        return {number: len(self.keys[number]) - before[number] for number in range(len(edited))}

    def turn(self, hf: PreTrainedModel, records: Sequence[Record]) -> None:
        """Makes some edits together, and writes them into the copy."""
        counts = self.look(hf, records)
        for number, matrix in enumerate(self.edited(hf)):
            k, g = torch.stack(self.keys[number]), torch.stack(self.gradients[number])
            k_hat = (k - k.mean(0)) / (k.std(0) + 1e-7)
            g_hat = (g - g.mean(0)) / (g.std(0) + 1e-7)
            if self.whitening:
                shrinkage = OPTIONS["shrinkage"]
                correlations = torch.cov(g.T) / torch.outer(g.std(0) + 1e-7, g.std(0) + 1e-7)
                shrunk = (1 - shrinkage) * correlations + shrinkage * torch.eye(len(correlations))
                u, s, v = torch.linalg.svd(shrunk)
                g_hat = g_hat @ (u @ torch.diag(1 / s.sqrt()) @ v)
            new = range(len(k) - counts[number], len(k))
            changes = torch.stack(
                [-OPTIONS["edit_lr"] * k_hat[t].norm() ** 2 * g_hat[t] for t in new]
            )
            keys = torch.stack([k[t] for t in new])
            normal = keys.T @ keys + OPTIONS["ridge"] * torch.eye(keys.shape[1])
            with torch.no_grad():
                matrix.weight += (torch.linalg.inv(normal) @ keys.T @ changes).T

    def _read(
        self, hf: PreTrainedModel, edited: list[nn.Linear], prompt: object, share: float
    ) -> None:
        x: dict[int, Tensor] = {}
        y: dict[int, Tensor] = {}

        def keep(number: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                x[number] = args[0].detach().reshape(-1, args[0].shape[-1])
                output.retain_grad()
                y[number] = output

            return hook

        for matrix in edited:
            matrix.weight.requires_grad_(True)
        handles = [m.register_forward_hook(keep(n)) for n, m in enumerate(edited)]
        logits, target = self.slow.logits(hf, prompt)  # type: ignore[arg-type]
        (share * nn.functional.cross_entropy(logits, target)).backward()
        for handle in handles:
            handle.remove()
        answer = torch.tensor(self.slow.encode(prompt).answer)  # type: ignore[arg-type]
        for position in answer.nonzero().squeeze(1) - 1:
            for number in range(len(edited)):
                gradient = y[number].grad
                assert gradient is not None
                self.keys[number].append(x[number][position])
                gradient = gradient.reshape(-1, gradient.shape[-1])
                self.gradients[number].append(gradient[position])


def teaching(
    model: MultimodalModel, editor: UltraEdit, batches: Iterable[EditBatch]
) -> list[tuple[EditBatch, PrefixState]]:
    """Batches as a turn has them."""
    layer = editor.first_layer(model)
    parts = [batch.teaching() for batch in batches]
    return [(part, model.prefix(part.rows, layer, packed=True)) for part in parts]


@pytest.mark.parametrize(
    ("scenario", "edited", "whitening", "warm_up"),
    [*((name, "last", False, 2) for name in (*PAPER_SCENARIOS, "joint")),
     ("unimodal", "last", False, 0), ("joint", "last", True, 3), ("multimodal", "last", True, 0),
     ("joint", "by role", False, 2)],
)  # fmt: skip
def test_turns_equal_the_formulas(
    model: MultimodalModel,
    source: RecordSource,
    scenario: str,
    edited: str,
    whitening: bool,
    warm_up: int,
) -> None:
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    of, maps = EDITED[edited]
    options = editor_options("ultraedit", **OPTIONS, **of, whitening=whitening)
    editor, data = UltraEdit(options, model), datamodule(model, source, scenario, 2)
    warm = teaching(model, editor, data.batches("test", cut(range(warm_up), 2))) if warm_up else []
    editor = UltraEdit(options, model, editor.statistics(model, warm))
    records = list(source.records("test"))
    slow = SlowUltraEdit(Slow(model, source), scenario, maps, whitening=whitening)
    copied = copy.deepcopy(model.hf)
    slow.look(copied, records[:warm_up])
    edits: LifelongEdit | None = None
    for start, stop in TURNS:
        slow.turn(copied, records[start:stop])
        parts = [data.batch("test", [number]) for number in range(start, stop)]
        turn = Turn(stop - start, lambda parts=parts: teaching(model, editor, parts))  # type: ignore[misc]
        with model.deltas_in_place({} if edits is None else edits.deltas):
            edit = editor.edit_together(model, turn, edits)
        edits = edit.after(edits)
        pairs = zip(maps(model.hf), maps(copied), strict=True)
        expected = [(new.weight - old.weight).detach() for old, new in pairs]
        for site, change in zip(editor.sites, expected, strict=True):
            off = (edits.deltas[site].dense()[0] - change).abs().max()
            assert off < 1e-9 * change.abs().max(), (site, start)
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
