"""Floating-point operations that cannot be avoided, by part of the work.

Counted from shapes alone: a product of (n, a) and (a, b) has 2 n a b operations; whatever else a
layer does is not counted, nor is padding, and nothing is counted twice that may be shared. A pass
backward through activations alone costs what the pass forward costs; gradients of weights, which
only editor networks have, cost it once more. Divided by the machine's rate for products this is the
floor of the present plan: the time that no better loop could go below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.editable import EditableModel
from models.rows import Answers, Rows

PARTS = ("vision", "prefix", "unedited suffix", "capture", "edited suffix", "editor", "head")


@dataclass(frozen=True)
class Shape:
    """What decides the cost of a token in a Llama with a CLIP tower.

    Attributes:
        linear: weights of the linear maps of one decoder layer.
        mlp: of them, those of its MLP.
        width: d.
        vocabulary: V.
        layers: of the decoder.
        picture: operations of one picture in the tower and the projector.
    """

    linear: int
    mlp: int
    width: int
    vocabulary: int
    layers: int
    picture: int

    @classmethod
    def of(cls, model: EditableModel) -> Shape:
        """The shape of a LLaVA, by its configuration and modules."""
        config = model.hf.config
        text, vision = config.get_text_config(), config.vision_config
        layer = model.decoder.layers[0]
        linear = _weights(layer)
        mlp = _weights(layer.get_submodule("mlp"))
        tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        wide, inner = vision.hidden_size, vision.intermediate_size
        block = 2 * (4 * wide * wide + 2 * wide * inner) + 4 * tokens * wide
        used = vision.num_hidden_layers + 1 + min(-1, config.vision_feature_layer)
        projector = 2 * (wide * text.hidden_size + text.hidden_size**2)
        patches = 2 * wide * 3 * vision.patch_size**2
        picture = tokens * (used * block + patches + projector)
        return cls(linear, mlp, text.hidden_size, text.vocab_size, text.num_hidden_layers, picture)

    def passes(self, lengths: Tensor, layers: int) -> float:
        """Whole layers over rows of some lengths (n,)."""
        tokens, pairs = float(lengths.sum()), float((lengths * lengths).sum())
        return layers * (2 * self.linear * tokens + 4 * self.width * pairs)

    def upper(self, lengths: Tensor, answers: int, layers: int) -> float:
        """The last layers of rows, the very last MLP at answer tokens alone."""
        spared = 2 * self.mlp * (float(lengths.sum()) - answers)
        return self.passes(lengths, layers) - spared

    def head(self, answers: int) -> float:
        """The head at some tokens."""
        return 2.0 * self.width * self.vocabulary * answers


def real_lengths(rows: Rows, of: Tensor | None = None) -> Tensor:
    """Tokens of rows without their padding, (n,)."""
    lengths = rows.attention_mask.sum(1)
    return lengths if of is None else lengths[of]


def n_answers(at: Answers, rows: Tensor) -> int:
    """Answer tokens of some rows."""
    return int(torch.isin(at.row, rows).sum())


def pictures(rows: Rows) -> int:
    """Distinct pictures of rows."""
    return 0 if rows.pixel_values is None else len(rows.pixel_values)


def _weights(module: torch.nn.Module) -> int:
    """Numbers in the matrices of a module."""
    matrices: Iterable[Tensor] = (p for p in module.parameters() if p.ndim == 2)
    return sum(matrix.numel() for matrix in matrices)
