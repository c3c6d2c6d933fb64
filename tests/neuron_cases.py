"""A model in which it is known which neurons answer, and edits that give the answer to others.

Its MLPs are silent but for two places. In layer 0 the neurons `TOLD` all write the direction of one
token, which is therefore every answer. An edit makes other neurons of layer 1 write the direction
of another token, more strongly. Neurons that write the same add in proportion to their activation,
which ReLU makes 0 or more, so a question's coarse set is known from the activations alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from editors.base import DeltaEdit
from models.blip2 import Blip2
from models.deltas import LowRankDelta, Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, Rows
from tests.builders import Prompt, blip2, rows_of

TOLD, ANSWER, SIZE = (1, 4, 7, 10, 13, 16, 19, 22), 40, 10.0
SITE = Site(1, "mlp_out")
QUESTIONS = ("text", "image", "same_type")
NAMES = tuple(f"{question}_{when}" for when in ("before", "after") for question in QUESTIONS)


@dataclass
class Given:
    """An editor whose edits are known beforehand, batch by batch."""

    edits: Sequence[object]
    name: str = "given"
    made: int = field(default=0)

    def first_layer(self, model: EditableModel) -> int:
        return 0

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> object:
        self.made += 1
        return self.edits[self.made - 1]


def telling_model() -> Blip2:
    model = blip2().double()
    for layer in range(model.n_layers):
        for parameter in model.linear(Site(layer, "mlp_out")).parameters():
            nn.init.zeros_(parameter)
    weight = model.linear(Site(0, "mlp_out")).get_parameter("weight")
    weight[:, list(TOLD)] = SIZE * direction(model, ANSWER)[:, None]
    return model


def telling_edit(model: EditableModel, neurons: Sequence[Sequence[int]]) -> DeltaEdit:
    """One edit per list of neurons, which then say token 50 + its number."""
    d_in, _ = linear_shape(model.linear(SITE))
    inputs = torch.zeros(len(neurons), 1, d_in).double()
    for edit, own in enumerate(neurons):
        inputs[edit, 0, list(own)] = 1.0
    said = [10 * SIZE * direction(model, 50 + edit) for edit in range(len(neurons))]
    return DeltaEdit({SITE: LowRankDelta(inputs, torch.stack(said)[:, None])})


def direction(model: EditableModel, token: int) -> Tensor:
    """What a token's logit reads, without the mean that the final norm takes away."""
    vector = model.decoder.head.get_parameter("weight")[token]
    return (vector - vector.mean()) / vector.std()


def known_batch(edits: int, *, wrong: Sequence[str] = ()) -> EditBatch:
    """Edits of other subjects, asked their three questions with the answers the model gives.

    Args:
        edits: how many.
        wrong: names of questions that have another answer in edit 0.
    """
    prompts: list[Prompt] = []
    probes: dict[str, list[int]] = {name: [] for name in NAMES}
    for edit in range(edits):
        for name in NAMES:
            question, when = name.rsplit("_", 1)
            answer = ANSWER if when == "before" else 50 + edit
            answer += 30 * (name in wrong and edit == 0)
            probes[name].append(len(prompts))
            prompts.append(asked(edit, question, answer))
    rows = {name: torch.tensor(numbers) for name, numbers in probes.items()}
    subjects = tuple(f"subject {edit}" for edit in range(edits))
    return EditBatch(rows_of(prompts), rows["text_after"], rows, tuple(range(edits)), subjects)


def asked(edit: int, question: str, answer: int) -> Prompt:
    """The same tokens whatever the answer, which is one token; the image question has a picture."""
    number = 3 * edit + QUESTIONS.index(question)
    draw = torch.Generator().manual_seed(number)
    tokens = torch.randint(4, 40, (6,), generator=draw).tolist()
    return Prompt((*tokens, answer), 1, edit, number if question == "image" else None)


def known_set(
    model: EditableModel, rows: Rows, row: int, site: Site, own: Sequence[int], threshold: float
) -> list[int]:
    """The coarse set of a row whose answer the neurons `own` of a layer give, by activations."""
    at = rows.answers()
    activations, _ = model.read(model.prefix(rows, 0), site, at.row, at.position)
    mine = {neuron: float(activations[row, neuron]) for neuron in own}
    width = activations.shape[1]
    floor = threshold * max(mine.values())
    return [site.layer * width + neuron for neuron, value in sorted(mine.items()) if value > floor]
