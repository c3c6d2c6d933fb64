"""The reference engine: what published code does for the same numbers, and no slower than it must.

A batch of one row, a whole forward pass for every question, the vision tower in each of them,
logits at every position, edited weights as dense matrices that a functional call puts in place, and
autograd over the edited parameters. It shares with the engine the base model's modules and the
editors' own networks; how rows, gradients and edits go through the base model is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import Blip2ForConditionalGeneration

from editors.ft.config import FtOptions
from models.deltas import Site
from models.editable import EditableModel
from models.factors import Factors
from models.hooks import forward_hooks
from models.rows import EditBatch, Rows

Weights = Mapping[str, Tensor]  # parameter of the transformers model -> what stands in its place


@dataclass(frozen=True)
class Row:
    """One row, without padding.

    Attributes:
        ids: (1, T) tokens.
        pixels: (1, C, H, W), or None for a text row.
        position: (n,) where its answer tokens are predicted.
        target: (n,) their ids.
    """

    ids: Tensor
    pixels: Tensor | None
    position: Tensor
    target: Tensor


def rows_of(batch: EditBatch) -> list[Row]:
    """The rows of a batch, one by one."""
    return [row_of(alone(batch.rows, number)) for number in range(len(batch.rows))]


def alone(rows: Rows, number: int) -> Rows:
    """One row of a table, without padding."""
    one = rows.select(torch.tensor([number], device=rows.input_ids.device))
    real = one.attention_mask[0]
    names = ("input_ids", "attention_mask", "answer_mask", "image_slots")
    return replace(one, **{name: getattr(one, name)[:, real] for name in names})


def row_of(one: Rows) -> Row:
    """A row that stands alone, as the reference asks it."""
    at = one.answers()
    return Row(one.input_ids, one.pixel_values, at.position, at.target)


class Whole(nn.Module):
    """A transformers model as it is called, with its pictures or without; BLIP-2 wants one."""

    def __init__(self, model: EditableModel) -> None:
        super().__init__()
        self.hf = model.hf
        speaks_alone = isinstance(model.hf, Blip2ForConditionalGeneration)
        # A tuple, so that parameters have one name each.
        self._in_text = (model.hf.language_model if speaks_alone else model.hf,)

    def forward(self, *, pixel_values: Tensor | None = None, **given: Any) -> Tensor:
        """Logits at all tokens, (R, T, V)."""
        if pixel_values is None:
            logits: Tensor = self._in_text[0](**given, use_cache=False).logits
        else:
            logits = self.hf(**given, pixel_values=pixel_values, use_cache=False).logits
        return logits


class Reference:
    """The base model, asked row by row.

    Args:
        model: its transformers model is used, and where its matrices are; no other method.

    Attributes:
        whole: the transformers model.
    """

    def __init__(self, model: EditableModel) -> None:
        self._model, self.whole = model, Whole(model)
        names = {id(module): name for name, module in self.whole.named_modules()}
        self._name = {
            site: f"{names[id(model.linear(site))]}.weight"
            for site in model.last_sites(model.n_layers)
        }

    def ask(self, row: Row, weights: Weights | None = None) -> Tensor:
        """Logits at the answer tokens of a row, (n, V), by a whole forward pass."""
        return self.everywhere(row, weights)[row.position].float()

    def everywhere(self, row: Row, weights: Weights | None = None) -> Tensor:
        """Logits at all tokens of a row, (T, V)."""
        pixels = None if row.pixels is None else row.pixels.to(self._model.dtype)
        given = {"input_ids": row.ids, "pixel_values": pixels}
        logits: Tensor = functional_call(self.whole, dict(weights or {}), (), given)
        return logits[0]

    def answers(self, rows: Sequence[Row], weights: Weights | None = None) -> Tensor:
        """The likeliest token at every answer token of some rows, (N,)."""
        with torch.no_grad():
            return torch.cat([self.ask(row, weights).argmax(-1) for row in rows])

    def weights(self, deltas: Mapping[Site, Tensor]) -> dict[str, Tensor]:
        """Dense edited weights: site -> (d_out, d_in) becomes parameter -> W + D."""
        dense = {}
        for site, delta in deltas.items():
            weight = self._model.linear(site).get_parameter("weight").detach()
            dense[self._name[site]] = (weight + delta).to(weight.dtype)
        return dense

    def capture(self, sites: Sequence[Site], row: Row) -> dict[Site, Factors]:
        """Inputs and output gradients of some matrices, whose weights' gradients are made too."""
        inputs, outputs = dict[Site, Tensor](), dict[Site, Tensor]()

        def keep(site: Site) -> Callable[..., None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                inputs[site], outputs[site] = args[0].detach(), output
                output.retain_grad()

            return hook

        leaves = {
            self._name[site]: self._model.linear(site).get_parameter("weight").detach().clone()
            for site in sites
        }
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        hooks = [(self._model.linear(site), keep(site)) for site in sites]
        with forward_hooks(hooks), torch.enable_grad():
            F.cross_entropy(self.ask(row, leaves), row.target).backward()
        factors = {}
        for site in sites:
            gradient = outputs[site].grad
            assert gradient is not None
            x, delta = (t.reshape(1, -1, t.shape[-1]) for t in (inputs[site], gradient))
            ones = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            factors[site] = Factors(x, delta, ones)
        return factors

    def fit(self, sites: Sequence[Site], row: Row, options: FtOptions) -> dict[str, Tensor]:
        """FT: descent on whole copies of some matrices, a whole forward pass a step."""
        leaves = {
            self._name[site]: self._model.linear(site).get_parameter("weight").detach().clone()
            for site in sites
        }
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        kind = torch.optim.AdamW if options.decoupled else torch.optim.Adam
        optimizer = kind(leaves.values(), lr=options.lr, weight_decay=options.weight_decay)
        for _ in range(options.steps):
            loss = F.cross_entropy(self.ask(row, leaves), row.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: leaf.detach() for name, leaf in leaves.items()}
