"""Questions about pictures, and what a language model answers once a projector has spoken.

    BOS, image slots, "Question: Which country does the image show? Short answer: Angola", end token

Rows are those of the benchmark (`datamodules.prompt_encoder`), so a picture is asked in training as
it is later in an evaluation. The slots are filled as LLaVA fills them, without LLaVA around the
language model: any causal language model of transformers will do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs.around import NamingOptions
from datamodules.prompt_encoder import Encoded, Padded, PictureLayout, PromptEncoder
from datamodules.world import World
from pretraining.vision.views import ViewBank

# The first is World.identity_question's.
NAMING_WORDINGS = (
    "What is the name of the {noun} in the image?",
    "Which {noun} does the image show?",
    "Which {noun} is in the image?",
    "What {noun} is shown in the image?",
    "What is the {noun} in the image called?",
    "Which {noun} can be seen in the image?",
)
ROWS_AT_ONCE = 64


class Asked(NamedTuple):
    """Rows with a picture each. R rows, T tokens.

    Attributes:
        rows: tokens, padded on the right; `answer_mask` marks what is learned or judged.
        features: (R, N, Dv) what the tower makes of the pictures.
    """

    rows: Padded
    features: Tensor


class Questioner:
    """Writes the rows of a world's questions about pictures.

    Args:
        world: whose names, facts and wordings.
        tokenizer: puts the begin token in front by itself.
        slots: image tokens of a picture.
    """

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast, slots: int) -> None:
        self.world, self.end = world, int(tokenizer.eos_token_id)
        # What stands in the slots is never looked up, so any token will do.
        layout = PictureLayout(slots, int(tokenizer.pad_token_id))
        self.encoder = PromptEncoder(tokenizer, layout, padding_side="right")

    def name(self, entity: str, wording: int = 0, *, ends: bool = False) -> Encoded:
        """Asks for the name of a picture of `entity`; with `ends` the end token is answer too."""
        noun = self.world.noun(self.world.entities[entity].type)
        return self._row(NAMING_WORDINGS[wording].format(noun=noun), entity, ends)

    def fact(self, entity: str, relation: str, wording: int = 0, *, ends: bool = False) -> Encoded:
        """Asks for a fact of what a picture of `entity` shows."""
        question = self.world.question(relation, wording, self.world.in_image(entity))
        return self._row(question, self.world.facts[entity, relation], ends)

    def _row(self, question: str, answer: str, ends: bool) -> Encoded:
        row = self.encoder.encode(question, answer, picture=True)
        return row.followed_by([self.end]) if ends else row


def answer_scores(model: PreTrainedModel, projector: nn.Module, asked: Asked) -> Tensor:
    """Scores of all tokens where those of the answers are to be predicted, row by row: (K, V)."""
    rows = asked.rows
    embedded = model.get_input_embeddings()(rows.input_ids)
    tokens = projector(asked.features).to(embedded.dtype)
    embedded = embedded.masked_scatter(rows.image_slots[..., None], tokens)
    predicting = rows.answer_mask[:, 1:]
    first = int(predicting.any(0).nonzero()[0])
    # The head is a fifth of the work of a small model: only where an answer may stand.
    keep = torch.arange(first, predicting.shape[1], device=embedded.device)
    logits = model(
        inputs_embeds=embedded,
        attention_mask=rows.attention_mask.long(),
        use_cache=False,
        logits_to_keep=keep,
    ).logits
    return logits[predicting[:, first:]]


def answer_ids(asked: Asked) -> Tensor:
    """The tokens of the answers, in the order of `answer_scores`: (K,)."""
    return asked.rows.input_ids[asked.rows.answer_mask]


@torch.no_grad()
def answered_right(
    model: PreTrainedModel,
    projector: nn.Module,
    encoder: PromptEncoder,
    rows: Sequence[Encoded],
    features: Tensor,
    device: torch.device,
) -> list[bool]:
    """Whether every token of each answer is the most likely one.

    Args:
        model: frozen, on `device`, in evaluation mode.
        projector: tower features -> image tokens, on `device`.
        encoder: pads the rows.
        rows: one a question.
        features: (R, N, Dv) of the picture of each.
        device: where it is computed.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    right = [False] * len(rows)
    for start in range(0, len(order), ROWS_AT_ONCE):
        some = order[start : start + ROWS_AT_ONCE]
        asked = to_device(ask(encoder, [rows[index] for index in some], features[some]), device)
        missed = answer_scores(model, projector, asked).argmax(-1) != answer_ids(asked)
        of_row = asked.rows.answer_mask.nonzero()[:, 0]
        wrong = set(of_row[missed].tolist())
        for place, index in enumerate(some):
            right[index] = place not in wrong
    return right


class NameValidation:
    """Some views of each sort, asked for their names now and then.

    Args:
        questioner: writes the rows.
        bank: the pictures.
        features: (P, N, Dv) of the views as they are, in the order of `bank.views`.
        options: how many views of a sort, and the targets.
        seed: which.
    """

    def __init__(
        self,
        questioner: Questioner,
        bank: ViewBank,
        features: Tensor,
        options: NamingOptions,
        seed: int,
    ) -> None:
        rng = random.Random(f"validation/{seed}")
        self.questioner, self.bank, self.features, self.options = (
            questioner,
            bank,
            features,
            options,
        )
        self.views = {}
        for sort, unseen in (("seen", False), ("unseen", True)):
            places = bank.indices(unseen=unseen)
            self.views[sort] = rng.sample(places, min(len(places), options.validate_pictures))

    def __call__(
        self, model: PreTrainedModel, projector: nn.Module, device: torch.device
    ) -> dict[str, float]:
        """Percent named right of the seen and of the unseen views; a world may have no unseen."""
        percent = {}
        for sort, places in self.views.items():
            rows = [self.questioner.name(self.bank.views[place].entity) for place in places]
            if rows:
                right = answered_right(
                    model, projector, self.questioner.encoder, rows, self.features[places], device
                )
                percent[sort] = 100 * sum(right) / len(right)
        return percent

    def holds(self, percent: dict[str, float]) -> bool:
        """Whether both targets are reached."""
        targets = {"seen": self.options.seen_target, "unseen": self.options.unseen_target}
        return all(value >= targets[sort] for sort, value in percent.items())


def ask(encoder: PromptEncoder, rows: Sequence[Encoded], features: Tensor) -> Asked:
    """Rows and the features of their pictures as one batch."""
    return Asked(encoder.pad(rows), features)


def to_device(asked: Asked, device: torch.device) -> Asked:
    """The batch on a device."""
    rows: Any = (field.to(device) for field in asked.rows)
    return Asked(Padded(*rows), asked.features.to(device))
