r"""Teaches a language model the form of the project's prompt by a small LoRA (Hu et al. 2021).

$W' = W + \frac{\alpha}{r} B A$ on linear maps of the layers. It learns the answers of facts
whose subjects are not for testing, in all wordings, with the end token; beside them text that the
unadapted model wrote holds the rest in place.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs.around import AdaptationOptions
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.world import World
from errors import DataError, ModelError
from models.language_model import LanguageModel
from models.parts_folder import Adapter
from pretraining.descent import descent
from pretraining.language.asking import head
from pretraining.language.facts import Fact, FactRows, teachable
from pretraining.language.own_text import sample
from pretraining.stages import Stages

ATTENTION = "self_attn"  # as all architectures that are accepted call it


class FactBatch(NamedTuple):
    """One step: rows (R, T) of facts, where they stand, what is learned, and own text (O, U)."""

    input_ids: Tensor
    attention_mask: Tensor
    answer_mask: Tensor
    own: Tensor


@dataclass(frozen=True)
class Drawn:
    """What a row of a step asks."""

    fact: Fact
    wording: int


class FactSampler(IterableDataset[FactBatch]):
    """Endless steps of fact rows: every fact once before any comes again, in random wordings.

    Args:
        world: of whose facts those of training and validation subjects are drawn.
        tokenizer: of the language model.
        own: its text (texts, tokens).
        options: sizes of a step.
        seed: of the draws.

    Raises:
        DataError: there is no fact to learn from.
    """

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerFast,
        own: Tensor,
        options: AdaptationOptions,
        seed: int,
    ) -> None:
        self.encoder = PromptEncoder(tokenizer, None)
        self.rows = FactRows(world, self.encoder, shots=0, seed=seed)
        self.own, self.options, self.seed = own, options, seed
        self.end = int(tokenizer.eos_token_id)
        self.facts = teachable(world)
        if not self.facts:
            raise DataError(
                f"{world.root}: no fact of a training or validation subject is there to learn the "
                "prompt's form from. Use a world with more entities."
            )

    def __iter__(self) -> Iterator[FactBatch]:
        for step, drawn in enumerate(self.steps()):
            yield self.batch(drawn, self._own_text(step))

    def steps(self) -> Iterator[list[Drawn]]:
        """What the rows of each step ask."""
        rng = random.Random(f"adaptation/{self.seed}")
        waiting: list[Fact] = []
        while True:
            while len(waiting) < self.options.rows:
                waiting += rng.sample(self.facts, len(self.facts))
            now, waiting = waiting[: self.options.rows], waiting[self.options.rows :]
            yield [Drawn(fact, rng.randrange(self.rows.wordings(fact[1]))) for fact in now]

    def batch(self, drawn: list[Drawn], own: Tensor) -> FactBatch:
        """Rows of facts, padded together, beside own text."""
        rows = [ended(self.rows.zero_shot(each.fact, each.wording), self.end) for each in drawn]
        padded = self.encoder.pad(rows)
        return FactBatch(padded.input_ids, padded.attention_mask.long(), padded.answer_mask, own)

    def _own_text(self, step: int) -> Tensor:
        if step % self.options.own_every:
            return self.own[:0]
        rng = random.Random(f"own/{self.seed}/{step}")
        return self.own[rng.sample(range(len(self.own)), self.options.own_rows)]


def ended(row: Encoded, end: int) -> Encoded:
    """A row whose answer is followed by the end token, which is learned with it."""
    last = max(i for i, is_answer in enumerate(row.answer) if is_answer) + 1
    cut = row._replace(
        ids=row.ids[:last],
        answer=row.answer[:last],
        slots=row.slots[:last],
        offsets=row.offsets[:last],
    )
    return cut.followed_by([end])


class AdaptationModule(LightningModule):
    """The adapter's losses and optimiser.

    Args:
        adapted: the language model with its adapter; nothing else of it learns.
        options: the recipe.
    """

    def __init__(self, adapted: PeftModel, options: AdaptationOptions) -> None:
        super().__init__()
        self.adapted, self.options = adapted, options
        self.model = adapted.get_base_model()

    def configure_optimizers(self) -> Any:
        """AdamW on the adapter, a linear warm-up and one cosine."""
        return descent((p for p in self.adapted.parameters() if p.requires_grad), self.options)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """One norm over the adapter."""
        learning = [p for p in self.adapted.parameters() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(learning, self.options.clip)

    def training_step(self, batch: FactBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the answers, and what holds the model's own text.

        Raises:
            ModelError: the loss is not finite.
        """
        answers = self._answers(batch)
        own = self._own(batch.own) if len(batch.own) else answers.new_zeros(())
        loss = answers + self.options.own_weight * own
        if not bool(loss.isfinite()):
            raise ModelError(
                f"the adaptation diverged at step {batch_idx}: its loss is {loss.item()}. Lower "
                f"recipe.adaptation.lr={self.options.lr}, or the precision is too low "
                "(trainer.precision=32-true)."
            )
        self.log("adaptation/answers", answers.detach(), prog_bar=True)
        if len(batch.own):
            self.log("adaptation/own_text", own.detach())
        return loss

    def _answers(self, batch: FactBatch) -> Tensor:
        hidden = self.model.base_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).last_hidden_state
        row, place = batch.answer_mask[:, 1:].nonzero(as_tuple=True)
        scores = head(self.model, hidden[row, place])  # of no other token: the head is dear
        return cross_entropy(scores.float(), batch.input_ids[row, place + 1])

    def _own(self, own: Tensor) -> Tensor:
        scores = self._scores(own)
        if self.options.own_loss == "cross_entropy":
            return cross_entropy(scores, own[:, 1:].flatten())
        with torch.no_grad(), self._unadapted():
            before = self._scores(own).log_softmax(-1)
        return kl_div(scores.log_softmax(-1), before, reduction="batchmean", log_target=True)

    def _scores(self, ids: Tensor) -> Tensor:
        """Of every next token: (O * (U - 1), V)."""
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return head(self.model, hidden[:, :-1]).flatten(0, 1).float()

    def _unadapted(self) -> AbstractContextManager[None]:
        unadapted: AbstractContextManager[None] = self.adapted.disable_adapter()
        return unadapted


def with_adapter(language: LanguageModel, options: AdaptationOptions, seed: int) -> PeftModel:
    """A model with a fresh adapter on all linear maps of its layers, which changes nothing yet.

    Args:
        language: its own linear maps are wrapped; `unload` takes the adapter out again.
        options: rank and alpha.
        seed: of the initial values, the same on every device.
    """
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=0.0,
        target_modules=_maps(language.model, options.maps),
    )
    device = language.model.device
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 reads what transformers renamed
        torch.manual_seed(seed)
        adapted = get_peft_model(language.model.cpu(), config)
    assert isinstance(adapted, PeftModel)
    return adapted.to(device)


def _maps(model: PreTrainedModel, maps: str) -> list[str]:
    """The names of the linear maps that get an adapter; the head is none of them.

    Raises:
        ModelError: there are none.
    """
    body = model.base_model
    names = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    chosen = [name for name in names if maps == "all" or ATTENTION in name.split(".")]
    if not chosen:
        raise ModelError(
            f"recipe.adaptation.maps={maps}: the language model ({model.config.model_type}) has no "
            f"linear maps below a module called {ATTENTION}. Use recipe.adaptation.maps=all."
        )
    return [f"{model.base_model_prefix}.{name}" for name in chosen]


def adapt(
    language: LanguageModel, world: World, options: AdaptationOptions, *, seed: int, stages: Stages
) -> Adapter:
    """Teaches the form of the prompt.

    Args:
        language: on the device of the stages; it is as it was afterwards.
        world: whose facts are learned from, but for those of test subjects.
        options: the recipe.
        seed: of initial values, own text and the order of the facts.
        stages: where it trains.

    Returns:
        The adapter in half precision's values, as float32 on the CPU.

    Raises:
        DataError: the world has nothing to learn from.
        ModelError: the training diverged.
    """
    own = sample(language, texts=options.own_texts, tokens=options.own_tokens, seed=seed)
    sampler = FactSampler(world, language.tokenizer, own, options, seed)
    adapted = with_adapter(language, options, seed)
    stages.fit(AdaptationModule(adapted, options), sampler, options.steps)
    learned = get_peft_model_state_dict(adapted)
    tensors = {name: value.detach().half().float().cpu() for name, value in learned.items()}
    adapted.unload()
    language.model.requires_grad_(False).eval()
    return Adapter(tensors, options.alpha)
