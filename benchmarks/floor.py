"""What cannot be avoided: floating-point operations by part of the work, and bytes of memory.

Operations are counted from shapes alone: a product of (n, a) and (a, b) has 2 n a b; whatever else
a layer does is not counted, nor is padding, and nothing is counted twice that may be shared. A pass
backward through activations alone costs what the pass forward costs; gradients of weights, which
only editor networks have, cost it once more. Over the machine's rate for products this is the time
that no better loop could go below.

Adam on dense matrices does few operations on many bytes. Those of its state that have to go through
the processor at every step are counted too, and divided by the rate at which the machine moves as
many bytes as one edit's state has. The floor is the larger of the two times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from models.editable import EditableModel
from models.multimodal import MultimodalModel
from models.packing import Packing, pack
from models.rows import Rows

PARTS = ("vision", "prefix", "unedited", "capture", "edited", "editor", "head")
ADAM_BYTES = 24  # a step reads and writes a parameter and its two moments in float32
_STATE_BYTES = 12
_MATRIX = 2  # axes


class Rates(NamedTuple):
    """What a machine does a second: operations of matrix products, bytes read and written."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Floor:
    """What some edits cannot do without.

    Attributes:
        operations: part of the work -> how many.
        steps: of Adam, each over all of the parameters.
        parameters: dense ones of all edits together.
        edits: how many.
        held: bytes that stand beside the base model in any case, for all edits together: an
            editor's weights; in its training their gradients and Adam's moments.
    """

    operations: Mapping[str, float]
    steps: int = 0
    parameters: int = 0
    edits: int = 1
    held: int = 0

    @property
    def total(self) -> float:
        """Operations of all parts."""
        return sum(self.operations.values())

    @property
    def moved(self) -> int:
        """Bytes of Adam's state that are read or written."""
        return ADAM_BYTES * self.steps * self.parameters

    @property
    def state(self) -> int:
        """Bytes of one edit's parameters and moments: the least that is worked on at a time."""
        return _STATE_BYTES * self.parameters // self.edits

    def seconds(self, rates: Rates) -> tuple[float, float]:
        """Time of the operations, and of the bytes."""
        return self.total / rates.operations, self.moved / rates.bytes


@dataclass(frozen=True)
class Shape:
    """What decides the cost of a token in a decoder, and of a picture.

    Attributes:
        linear: weights of the linear maps of one decoder layer.
        mlp: of them, those of its MLP.
        width: d.
        vocabulary: V.
        layers: of the decoder.
        picture: operations of one picture in the tower and what stands behind it.
    """

    linear: int
    mlp: int
    width: int
    vocabulary: int
    layers: int
    picture: int = 0

    @classmethod
    def of(cls, model: EditableModel) -> Shape:
        """The shape of a base model, by its modules."""
        text = model.hf.config.get_text_config()
        layer = model.decoder.layers[0]
        token = torch.zeros(1, text.hidden_size, dtype=model.dtype, device=model.device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.decoder.mlp(layer, token)
        mlp = counter.get_total_flops() // 2
        vocabulary = len(model.decoder.head.get_parameter("weight"))
        picture = _picture(model)
        return cls(_weights(layer), mlp, text.hidden_size, vocabulary, model.n_layers, picture)

    @classmethod
    def of_lm(cls, lm: PreTrainedModel) -> Shape:
        """The shape of a small language model, by its configuration; its MLP is not told apart."""
        config = lm.config
        head = _weights(lm.get_output_embeddings())
        table = 0 if config.tie_word_embeddings else _weights(lm.get_input_embeddings())
        layers = config.num_hidden_layers
        linear = (_weights(lm) - head - table) // layers
        return cls(linear, 0, config.hidden_size, config.vocab_size, layers)

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

    @classmethod
    def of_rows(cls, rows: Rows) -> Tokens:
        """Those of rows, shared where rows of an edit begin alike."""
        return cls.of(pack(rows))

    @classmethod
    def behind(cls, first: torch.Tensor, last: torch.Tensor) -> Tokens:
        """Of rows the tokens from one up to another, which look at all before: (R,), (R,)."""
        count = last - first + 1
        pairs = (first + 1 + last + 1) * count // 2
        return cls(int(count.sum()), int(pairs.sum()))


def pictures(rows: Rows) -> int:
    """Distinct pictures of rows."""
    return 0 if rows.pixel_values is None else len(rows.pixel_values)


def _picture(model: EditableModel) -> int:
    """Operations of one picture; layers behind the one whose features are taken do not count."""
    if not isinstance(model, MultimodalModel):
        return 0
    vision = model.hf.config.vision_config
    side = vision.image_size
    # Products of the attention that a CPU fuses are not counted.
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, plain, torch.no_grad():
        model.picture_features(torch.zeros(1, 3, side, side, device=model.device))
    total: int = counter.get_total_flops()
    taken = getattr(model.hf.config, "vision_feature_layer", None)
    if not isinstance(taken, int):
        return total
    layers = vision.num_hidden_layers
    unused = range(taken if taken >= 0 else layers + 1 + taken, layers)
    counts = counter.get_flop_counts()
    return total - sum(_layer_flops(counts, number) for number in unused)


def _layer_flops(counts: Mapping[str, Mapping[object, int]], number: int) -> int:
    """Operations of a tower's layer, by its name."""
    found = [of for name, of in counts.items() if name.endswith(f".encoder.layers.{number}")]
    return sum(found[0].values()) if found else 0


def _weights(module: torch.nn.Module) -> int:
    """Numbers in the matrices of a module."""
    return sum(p.numel() for p in module.parameters() if p.ndim == _MATRIX)
