"""Floating-point operations that cannot be avoided, by part of the work.

Counted from shapes alone: a product of (n, a) and (a, b) has 2 n a b operations; whatever else a
layer does is not counted, nor is padding, and nothing is counted twice that may be shared. A pass
backward through activations alone costs what the pass forward costs; gradients of weights, which
only editor networks have, cost it once more. Divided by the machine's rate for products this is the
floor of the present plan: the time that no better loop could go below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.editable import EditableModel
from models.packing import Packing
from models.rows import Rows

_MATRIX = 2  # axes


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

    def passes(self, tokens: Tokens, layers: int) -> float:
        """Whole layers over some tokens."""
        return layers * (2 * self.linear * tokens.count + 4 * self.width * tokens.pairs)

    def upper(self, tokens: Tokens, answers: int, layers: int) -> float:
        """The last layers over some tokens, the very last MLP at answer tokens alone."""
        return self.passes(tokens, layers) - 2 * self.mlp * (tokens.count - answers)

    def head(self, answers: int) -> float:
        """The head at some tokens."""
        return 2.0 * self.width * self.vocabulary * answers


@dataclass(frozen=True)
class Tokens:
    """Tokens that have to be read.

    Attributes:
        count: how many, each once where rows of an edit share it.
        pairs: of a query and a key that it looks at.
    """

    count: int
    pairs: int

    @classmethod
    def of(cls, packing: Packing) -> Tokens:
        """Those of packed rows."""
        depth = packing.depth[packing.filled]
        return cls(len(depth), int((depth + 1).sum()))


def pictures(rows: Rows) -> int:
    """Distinct pictures of rows."""
    return 0 if rows.pixel_values is None else len(rows.pixel_values)


def _weights(module: torch.nn.Module) -> int:
    """Numbers in the matrices of a module."""
    return sum(p.numel() for p in module.parameters() if p.ndim == _MATRIX)
