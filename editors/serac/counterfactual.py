"""SERAC's counterfactual model: a small LM that reads the edit before the question.

    {edit question} {new answer}
    [picture] {prompt of the question}

It shares the base model's vocabulary, so that both models' probabilities can be mixed token by
token. Pictures enter through a trained projection of the base model's own features; it starts at
zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from datamodules.tokenisation import PromptEncoder
from editors.encoders import encoder_folder
from editors.serac.config import AUTO, FRESH, CounterfactualOptions, Sizes
from editors.serac.scope import base_width, take_embeddings
from errors import ModelError
from models.editable import EditableModel
from models.rows import Answers, Rows, last_tokens

# Published choices, by the kind of the base's language model and the size of its vocabulary.
PUBLISHED = {("opt", 50272): "facebook/opt-125m", ("llama", 32000): "JackFram/llama-160m"}
AFTER_ENTRY = "\n"


class Counterfactual(nn.Module):
    """Answers as if the edit were true.

    Args:
        lm: a causal LM.
        vocabulary: width of the base model's logits.
        picture_width: d_base.
    """

    def __init__(self, lm: PreTrainedModel, vocabulary: int, picture_width: int) -> None:
        super().__init__()
        self.lm, self.vocabulary = lm, vocabulary
        width = int(lm.get_input_embeddings().weight.shape[1])
        self.pictures = nn.Linear(picture_width, width, bias=False)
        nn.init.zeros_(self.pictures.weight)

    def forward(
        self, encoder: PromptEncoder, entries: Sequence[str], rows: Rows, at: Answers
    ) -> Tensor:
        """Predicts answer tokens.

        Args:
            encoder: the run's prompt function.
            entries: per row, the edit as "question answer".
            rows: the base model's rows.
            at: answer tokens in their positions.

        Returns:
            (N, V) logits over the base model's vocabulary, in the order of `at`.

        Raises:
            ModelError: an answer's tokens depend on what stands before the question.
        """
        encoded = [
            encoder.encode(
                text.question,
                text.answer,
                picture=text.picture,
                plain=text.plain,
                before=f"{entry}{AFTER_ENTRY}",
            )
            for text, entry in zip(rows.texts, entries, strict=True)
        ]
        read = encoder.rows(
            encoded,
            rows.texts,
            edit_index=rows.edit_index.tolist(),
            image_index=rows.image_index.tolist(),
        ).to(rows.input_ids.device)
        position = at.position + (last_tokens(read) - last_tokens(rows))[at.row]
        if bool((read.input_ids[at.row, position + 1] != at.target).any()):
            raise ModelError(
                "an answer has other tokens after a memory entry than after the plain prompt, so "
                "the two models cannot be mixed. Choose another prompt form (data.prompt)."
            )
        read = replace(read, features=rows.features)
        output = self.lm(inputs_embeds=self._embed(read), attention_mask=read.attention_mask)
        logits = output.logits[at.row, position].float()
        missing = self.vocabulary - logits.shape[-1]
        if missing > 0:  # ids that only the base has, such as <image>
            logits = nn.functional.pad(logits, (0, missing), value=torch.finfo(logits.dtype).min)
        return logits[:, : self.vocabulary]

    def _embed(self, rows: Rows) -> Tensor:
        table = self.lm.get_input_embeddings()
        ids = rows.input_ids.masked_fill(rows.image_slots, 0)  # the slot's id may not be its own
        embedded = table(ids)
        # Always part of the graph: data-parallel training wants every parameter used.
        embedded = embedded + 0 * self.pictures.weight.sum()
        if rows.features is None:
            return embedded
        shown = self.pictures(rows.features.to(embedded.dtype))  # (P, S, d)
        chosen = shown[rows.image_index[rows.image_index >= 0]]
        return embedded.masked_scatter(rows.image_slots[..., None], chosen)


def build_counterfactual(options: CounterfactualOptions, model: EditableModel) -> Counterfactual:
    """The model that the options describe.

    Raises:
        ModelError: it is on no disk, or has another vocabulary than the base.
    """
    text = model.hf.config.get_text_config()
    picture_width = int(text.hidden_size)
    vocabulary = len(model.decoder.head.get_parameter("weight"))
    path = options.path
    if path == AUTO:
        path = published(str(text.model_type), vocabulary)
    if path == FRESH:
        lm: PreTrainedModel = LlamaForCausalLM(_fresh(options.sizes, model, vocabulary))
        take_embeddings(lm, model)
        return Counterfactual(lm, vocabulary, picture_width)
    folder = encoder_folder(path, key="editor.counterfactual.path")
    lm = AutoModelForCausalLM.from_pretrained(folder).float()
    theirs = int(lm.get_input_embeddings().weight.shape[0])
    if theirs > vocabulary or lm.config.model_type != text.model_type:
        raise ModelError(
            f"editor.counterfactual.path={path} is a {lm.config.model_type} model with "
            f"{theirs} token ids, and the base is a {text.model_type} model with {vocabulary}: "
            "their probabilities cannot be mixed. Give a model with the base's tokenizer."
        )
    return Counterfactual(lm, vocabulary, picture_width)


def published(kind: str, vocabulary: int) -> str:
    """The published counterfactual model of a base; `fresh` for a base of another vocabulary.

    LLaVA's vocabulary is LLaMA's with a few ids more.
    """
    for (name, size), path in PUBLISHED.items():
        if kind == name and size <= vocabulary < size + 1000:
            return path
    return FRESH


def _fresh(sizes: Sizes, model: EditableModel, vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=base_width(sizes, model, key="editor.counterfactual"),
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        initializer_range=sizes.init_std,
        max_position_embeddings=2048,
        tie_word_embeddings=True,  # copying is learned far sooner with tied embeddings
    )
