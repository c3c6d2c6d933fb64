"""SERAC's scope classifier: does an edit in the memory bear on a question?

It reads an entry as "question answer" and a query as the question alone: a query's gold answer is
never shown to it (published code tokenises it along and so leaks the target). Where pictures take
part, their pooled features are normalised (base models differ in their scale), projected and added
to the text's embedding; the projection starts at zero, so that one that was never trained says
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from editors.encoders import CutNotice, encoder_folder
from editors.serac.config import AUTO, FRESH, ScopeOptions, Sizes
from editors.serac.published import published_encoder
from editors.serac.similarity import log_similarity
from errors import ModelError
from models.editable import EditableModel

IN_SCOPE = 0  # class of the cross-attention classifier, as published
_LONGEST = 512  # positions of a fresh encoder


class Scope(nn.Module):
    """Log probability that an entry bears on a query.

    Args:
        options: mode, distance and the like.
        encoder: DistilBERT-type; a sequence classifier in cross-attention mode.
        picture_width: d_base.

    Raises:
        ModelError: `heads` does not divide the embedding.
    """

    def __init__(
        self,
        options: ScopeOptions,
        encoder: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        picture_width: int,
    ) -> None:
        super().__init__()
        self.options, self.encoder, self.tokenizer = options, encoder, tokenizer
        self._longest = longest_text(encoder, tokenizer)
        self._cut = CutNotice("editor.scope.encoder")
        width = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        if width % options.heads:
            raise ModelError(
                f"editor.scope.heads={options.heads} does not divide the encoder's width of "
                f"{width}, and the embedding is cut into so many equal parts."
            )
        log_scale = torch.tensor(options.scale).log()
        self.log_scale = nn.Parameter(log_scale, requires_grad=options.learn_scale)
        self.pictures: nn.Linear | None = None
        if options.image:
            self.pictures = nn.Linear(picture_width, width, bias=False)
            nn.init.zeros_(self.pictures.weight)

    @property
    def stamp(self) -> tuple[int, ...]:
        """Changes whenever a weight does, so that embeddings can be kept until then."""
        return (id(self), *(parameter._version for parameter in self.parameters()))

    def embed(self, texts: Sequence[str], pictures: Tensor | None = None) -> Tensor:
        """Embeddings of some texts: (n, d). A text that stands there more than once is read once.

        Args:
            texts: n of them.
            pictures: (n, d_base) pooled features, zero rows for texts without a picture; None where
                none has one.
        """
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        tokens = self._tokens(list(distinct))
        hidden = self.encoder(**tokens).last_hidden_state  # (n', T, d)
        if self.options.pooling == "cls":
            embedded = hidden[:, 0]
        else:
            mask = tokens["attention_mask"][..., None].to(hidden.dtype)
            embedded = (hidden * mask).sum(1) / mask.sum(1)
        embedded = embedded[[distinct[text] for text in texts]]
        if self.pictures is not None and pictures is not None:
            # Blank rows stay zero.
            normal = layer_norm(pictures.to(embedded), pictures.shape[-1:])
            embedded = embedded + self.pictures(normal)
        return embedded

    def compare(self, queries: Tensor, entries: Tensor) -> Tensor:
        """Log similarities of embeddings: (Q, d), (M, d) -> (Q, M)."""
        return log_similarity(
            queries,
            entries,
            distance=self.options.distance,
            bound=self.options.bound,
            heads=self.options.heads,
            scale=self.log_scale.exp(),
        )

    def read_pairs(self, queries: Sequence[str], entries: Sequence[str]) -> Tensor:
        """Log similarities of pairs read together, in cross-attention mode: n, n -> (n,)."""
        tokens = self._tokens(list(entries), list(queries))
        return self.encoder(**tokens).logits.log_softmax(-1)[:, IN_SCOPE]

    def _tokens(self, texts: list[str], seconds: list[str] | None = None) -> dict[str, Tensor]:
        device = next(self.encoder.parameters()).device
        if seconds is not None and self.tokenizer.sep_token is None:
            texts = [f"{first}\n{second}" for first, second in zip(texts, seconds, strict=True)]
            seconds = None
        tokens = self.tokenizer(
            texts,
            seconds,
            padding=True,
            truncation=True,
            max_length=self._longest,
            padding_side="right",
            split_special_tokens=True,  # a question that says [SEP] ends as any other
            return_tensors="pt",
        )
        self._cut.check_tokens(tokens, texts, len(texts), self._longest)
        tokens = tokens.to(device)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def longest_text(encoder: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that an encoder reads at once.

    RoBERTa's and MPNet's tables of positions begin behind the place of padding: of 514 rows 512 are
    left.
    """
    longest = int(tokenizer.model_max_length)
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            longest = min(longest, module.num_embeddings - before)
    return min(longest, int(getattr(encoder.config, "max_position_embeddings", longest)))


def build_scope(
    options: ScopeOptions, model: EditableModel, tokenizer: PreTrainedTokenizerBase
) -> Scope:
    """The classifier that the options describe.

    Raises:
        ModelError: the encoder is on no disk.
    """
    crossed = options.mode == "cross_attention"
    picture_width = int(model.hf.config.get_text_config().hidden_size)
    name = options.encoder
    if name == AUTO:
        name = published_encoder(*kind_and_vocabulary(model))
    if name == FRESH:
        config = _fresh(options.sizes, model, tokenizer)
        kind: Any = DistilBertForSequenceClassification if crossed else DistilBertModel
        fresh = kind(config)
        take_embeddings(fresh, model)
        return Scope(options, fresh, tokenizer, picture_width)
    folder = encoder_folder(name, key="editor.scope.encoder")
    if crossed:
        encoder = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    else:
        encoder = AutoModel.from_pretrained(folder)
    return Scope(options, encoder.float(), AutoTokenizer.from_pretrained(folder), picture_width)


def take_embeddings(fresh: PreTrainedModel, model: EditableModel) -> None:
    """Gives a fresh network the base model's token embeddings, and keeps them fixed.

    The base knows every token. Embeddings of its own would stay as they were drawn for names that
    the training edits never mention, and those could not be told apart afterwards.
    """
    words = fresh.get_input_embeddings()
    with torch.no_grad():
        words.weight.copy_(model.hf.get_input_embeddings().weight)
    words.weight.requires_grad_(False)


def kind_and_vocabulary(model: EditableModel) -> tuple[str, int]:
    """`model_type` of the language model, and width of its logits."""
    text = model.hf.config.get_text_config()
    return str(text.model_type), len(model.decoder.head.get_parameter("weight"))


def base_width(sizes: Sizes, model: EditableModel, *, key: str) -> int:
    """Width of a fresh network: its base's.

    Raises:
        ModelError: the heads do not divide it.
    """
    width = int(model.hf.config.get_text_config().hidden_size)
    if width % sizes.heads:
        raise ModelError(
            f"{key}.sizes.heads={sizes.heads} does not divide the base model's width of {width}."
        )
    return width


def _fresh(
    sizes: Sizes, model: EditableModel, tokenizer: PreTrainedTokenizerBase
) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=len(model.hf.get_input_embeddings().weight),
        dim=base_width(sizes, model, key="editor.scope"),
        n_layers=sizes.layers,
        n_heads=sizes.heads,
        hidden_dim=sizes.mlp_width,
        initializer_range=sizes.init_std,
        max_position_embeddings=_LONGEST,
        pad_token_id=tokenizer.pad_token_id or 0,
        num_labels=2,
    )
