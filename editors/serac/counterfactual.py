"""SERAC's counterfactual model: a small LM that reads the edit before the question.

    {edit question} {new answer}
    [picture] {prompt of the question}

It shares the base model's vocabulary, so that both models' probabilities can be mixed token by
token. Pictures enter through a trained projection of the base model's own features; it starts at
zero, and a model whose training never moved it is shown the question without its picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.row_length import check_length
from editors.encoders import encoder_folder
from editors.reread import reread
from editors.serac.config import AUTO, FRESH, CounterfactualOptions, Sizes
from editors.serac.published import published_counterfactual
from editors.serac.scope import base_width, kind_and_vocabulary, take_embeddings
from errors import ModelError
from models.budget import PASS_SHARE, MemoryBudget, layer_values
from models.editable import EditableModel
from models.head import at_tokens, in_single_precision
from models.packing import buckets_of, pack
from models.positions import max_positions
from models.roles import layer_kinds
from models.rows import Answers, Rows, RowText
from models.state import attention_mask, mask_dtype

AFTER_ENTRY = "\n"
READER = "the counterfactual model (editor.counterfactual)"
# Kinds whose tokens are told their positions and look at whatever a mask shows them.
PLAIN = frozenset(("llama", "opt", "qwen2"))


class Counterfactual(nn.Module):
    """Answers as if the edit were true.

    Args:
        vocabulary: width of the base model's logits.
        picture_width: d_base.
    """

    def __init__(self, lm: PreTrainedModel, vocabulary: int, picture_width: int) -> None:
        super().__init__()
        self.lm, self.vocabulary = lm, vocabulary
        width = int(lm.get_input_embeddings().weight.shape[1])
        self.pictures = nn.Linear(picture_width, width, bias=False)
        nn.init.zeros_(self.pictures.weight)

    @property
    def sees_pictures(self) -> bool:
        """Whether rows show their pictures: in training, and after one that had pictures.

        Adam moves a weight from zero at its first gradient, so the projection itself tells, in
        every checkpoint. Zero embeddings in a picture's place would not say nothing: attention is
        shared among all tokens.
        """
        return self.training or bool(self.pictures.weight.any())

    def reads(self, rows: Rows, at: Answers) -> Tensor:
        """Where it has answers: (N,) bool, false at a picture that it is not shown.

        Tokens before such a picture have no place of their own in its rows either.
        """
        if self.sees_pictures:
            return torch.ones_like(at.position, dtype=torch.bool)
        columns = torch.arange(1, rows.image_slots.shape[1] + 1, device=at.position.device)
        after = (rows.image_slots * columns).amax(1)  # (R,) first position behind the picture
        return at.position >= after[at.row]

    @property
    def max_positions(self) -> int:
        """Tokens that it reads at once; not the base model's number."""
        return max_positions(self.lm.config)

    @property
    def packed_mask(self) -> torch.dtype | None:
        """Number type of a mask over packed rows; None where it reads rows one by one."""
        config = self.lm.config
        if config.model_type not in PLAIN or not {*layer_kinds(config)} <= {"", "full_attention"}:
            return None
        return mask_dtype(config._attn_implementation, self.lm.dtype)

    @property
    def token_bytes(self) -> int:
        """Bytes that one layer at work holds for a token."""
        config = self.lm.config
        return (config.hidden_size + layer_values(config)) * torch.float32.itemsize

    def tokens_at_once(self, budget: MemoryBudget) -> int:
        """How many tokens it reads at once, as decoder passes share the budget."""
        return budget.fit(self.token_bytes, share=PASS_SHARE)

    def held_bytes(self, budget: MemoryBudget, rows: Rows) -> int:
        """Bytes of one layer at work on what is read at once.

        Args:
            budget: the base model's.
            rows: its rows; before each an entry is read that is taken to be as long again.
        """
        if self.packed_mask is None:
            lengths = rows.attention_mask.sum(1).amax().expand(len(rows))
        else:
            lengths = pack(rows).filled.sum(1)
        every, longest = 2 * int(lengths.sum()), 2 * int(lengths.amax())
        return min(every, max(longest, self.tokens_at_once(budget))) * self.token_bytes

    def encode(self, encoder: PromptEncoder, entry: str, text: RowText) -> Encoded:
        """A row as it reads it, the entry first.

        Raises:
            DataError: it is longer than what this model reads at once.
        """
        if not self.sees_pictures:
            text = text._replace(picture=False)
        return self._encode(encoder, entry, text)

    def _encode(self, encoder: PromptEncoder, entry: str, text: RowText) -> Encoded:
        row = encoder.encode(**text.tokens, before=f"{entry}{AFTER_ENTRY}")
        limit, what = self.max_positions, "its entry in SERAC's memory"
        check_length(row, limit, text.question, text.answer, before=what, reader=READER)
        return row

    def forward(
        self,
        encoder: PromptEncoder,
        entries: Sequence[str],
        rows: Rows,
        at: Answers,
        budget: MemoryBudget | None = None,
    ) -> Tensor:
        """Predicts answer tokens.

        Args:
            encoder: the run's prompt function.
            entries: per row, the edit as "question answer".
            rows: the base model's rows.
            at: answer tokens in their positions, which it `reads`.
            budget: no more tokens are read at once than have room in it; None: any number.

        Returns:
            (N, V) logits over the base model's vocabulary, in the order of `at`.

        Raises:
            DataError: a question with its entry is longer than what this model reads at once.
            ModelError: an answer's tokens depend on what stands before the question.
        """
        if not self.sees_pictures:
            rows = rows.without_pictures()
        encoded = [
            self._encode(encoder, entry, text)
            for text, entry in zip(rows.texts, entries, strict=True)
        ]
        longer, moved = reread(encoder, encoded, rows, at)
        longer = _by_entry(longer, entries)
        most = None if budget is None else self.tokens_at_once(budget)
        passes = self._padded if self.packed_mask is None else self._packed
        pieces, order = zip(*passes(longer, moved, most), strict=True)
        logits = pieces[0] if len(pieces) == 1 else torch.cat(pieces)[torch.cat(order).argsort()]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        missing = self.vocabulary - logits.shape[-1]
        if missing > 0:  # ids that only the base has, such as <image>
            logits = nn.functional.pad(logits, (0, missing), value=torch.finfo(logits.dtype).min)
        return logits[:, : self.vocabulary]

    def _packed(self, rows: Rows, at: Answers, most: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits of rows that share what they begin with, and the numbers of their tokens."""
        packing, dtype = pack(rows), self.packed_mask
        assert dtype is not None
        sequence, place = packing.where(at.row, at.position)
        for numbers, part, bucket in buckets_of(rows, packing, most):
            tokens = torch.isin(sequence, numbers).nonzero().squeeze(1)
            if len(tokens):
                which = torch.searchsorted(numbers, sequence[tokens])
                mask = attention_mask(part, dtype)
                yield self._read(bucket, mask, which, place[tokens], part.depth), tokens

    def _padded(self, rows: Rows, at: Answers, most: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The same of rows that are read as they are."""
        size = len(rows) if most is None else max(1, most // rows.input_ids.shape[1])
        for part in torch.arange(len(rows), device=at.row.device).split(size):
            tokens = torch.isin(at.row, part).nonzero().squeeze(1)
            if len(tokens):
                read, row = rows.select(part), at.row[tokens] - part[0]
                yield self._read(read, read.attention_mask, row, at.position[tokens]), tokens

    def _read(
        self,
        rows: Rows,
        mask: Tensor,
        row: Tensor,
        place: Tensor,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits at some tokens of rows, or of sequences: (n,), (n,) -> (n, V)."""
        head = self.lm.get_output_embeddings()
        told = {} if positions is None else {"position_ids": positions}
        with at_tokens(head, row, place), in_single_precision(head):
            output = self.lm(
                inputs_embeds=self._embed(rows), attention_mask=mask, use_cache=False, **told
            )
        logits: Tensor = output.logits
        return logits

    def _embed(self, rows: Rows) -> Tensor:
        table = self.lm.get_input_embeddings()
        # The ids of slots and padding may be the base's alone, as LLaVA's <image> and <pad> are.
        embedded = table(rows.input_ids.masked_fill(rows.image_slots | ~rows.attention_mask, 0))
        if not bool(rows.image_slots.any()):
            return embedded
        if rows.features is None:
            raise ValueError("EditableModel.encode_pictures(rows) comes first")
        pictures = self.pictures(rows.features.to(embedded.dtype)).to(embedded.dtype)  # (P, S, d)
        of_rows = pictures[rows.image_index[rows.image_index >= 0]]
        return embedded.masked_scatter(rows.image_slots[..., None], of_rows)


def _by_entry(rows: Rows, entries: Sequence[str]) -> Rows:
    """The rows with those of an edit apart that are told different entries.

    Edits in sequence are one edit to every row (`lightning_modules.sequential`), and all of its
    rows in text would stand in one sequence, however many there are.
    """
    numbers: dict[tuple[int, str], int] = {}
    told = zip(rows.edit_index.tolist(), entries, strict=True)
    groups = [numbers.setdefault(one, len(numbers)) for one in told]
    return replace(rows, edit_index=rows.edit_index.new_tensor(groups))


def build_counterfactual(
    options: CounterfactualOptions, model: EditableModel, tokenizer: PreTrainedTokenizerBase
) -> Counterfactual:
    """The model that the options describe.

    Raises:
        ModelError: it is on no disk, or has another vocabulary than the base.
    """
    picture_width = int(model.hf.config.get_text_config().hidden_size)
    kind, vocabulary = kind_and_vocabulary(model)
    path = published_counterfactual(kind, vocabulary) if options.path == AUTO else options.path
    if path == FRESH:
        lm: PreTrainedModel = LlamaForCausalLM(_fresh(options.sizes, model, vocabulary))
        take_embeddings(lm, model)
        return Counterfactual(lm, vocabulary, picture_width)
    folder = encoder_folder(path, key="editor.counterfactual.path")
    lm = AutoModelForCausalLM.from_pretrained(folder).float()
    if difference := _difference(folder, lm, tokenizer, vocabulary):
        raise ModelError(
            f"editor.counterfactual.path={path} has another vocabulary than the base model: "
            f"{difference}, so their probabilities cannot be mixed. Give a model with the base's "
            "tokenizer."
        )
    return Counterfactual(lm, vocabulary, picture_width)


def _difference(
    folder: Path, lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> str:
    """What keeps a model's token ids from being the base's; special tokens may differ."""
    size = int(lm.get_input_embeddings().weight.shape[0])
    if size > vocabulary:
        return f"it has {size} token ids, the base {vocabulary}"
    try:
        small = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        return f"its tokenizer, which might show the contrary, cannot be read ({error})"
    special = {
        token
        for either in (small, tokenizer)
        for token in (*either.all_special_tokens, *either.get_added_vocab())
    }
    vocabularies = (small.get_vocab(), tokenizer.get_vocab())
    if not vocabularies[0].keys() - special:  # transformers' stand-in for a file that is not there
        return "its tokenizer, which might show the contrary, is not there"
    for token in sorted({*vocabularies[0], *vocabularies[1]} - special):
        small_id, base_id = (ids.get(token) for ids in vocabularies)
        if small_id != base_id:
            return f"token {token!r} has the id {small_id} there and {base_id} in the base"
    return ""


def _fresh(sizes: Sizes, model: EditableModel, vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=base_width(sizes, model, key="editor.counterfactual"),
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        initializer_range=sizes.init_std,
        max_position_embeddings=2 * model.max_positions,  # an entry, and any row behind it
        tie_word_embeddings=True,  # copying is learned far sooner with tied embeddings
    )
