"""The tokenizer of a local language model, with the begin token that its rows need.

A chat model's own first token may be a mark of its chat form: SmolLM2 has `<|im_start|>`, and texts
in its pretraining began with `<|endoftext|>` (perplexity of plain text: 9.5 with it, 10.9 without
any, 11.7 with `<|im_start|>`). A row here is plain text, so it begins as a text does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from errors import ModelError

CHAT_MARK, TEXT_MARK = "<|im_start|>", "<|endoftext|>"


def plain_tokenizer(
    loaded: PreTrainedTokenizerBase,
    config: Mapping[str, Any],
    *,
    begin: str | None,
    path: str,
    longest: int,
) -> PreTrainedTokenizerFast:
    """A tokenizer that follows its tokenizer.json alone and puts the begin token in front.

    Args:
        loaded: as transformers reads it.
        config: what config.json says (`bos_token_id`, `eos_token_id`), where the tokenizer does
            not say it itself.
        begin: the begin token, where it shall be another one than the model's own.
        path: of the language model, for messages.
        longest: tokens that the language model reads.

    Raises:
        ModelError: it has no begin or no end token, or is none of the fast ones.
    """
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer of the language model {path} ({type(loaded).__name__}) cannot be saved "
            "as a tokenizer.json. Put one beside it, as transformers' AutoTokenizer writes it."
        )
    vocabulary = loaded.get_vocab()
    first = begin or _own_begin(loaded, config, vocabulary)
    last = loaded.eos_token or _named(loaded, config.get("eos_token_id"))
    if first is None or first not in vocabulary:
        what = f"no token {begin!r}" if begin else "no begin token (bos_token)"
        likely = sorted(token for token in loaded.all_special_tokens if token in vocabulary)
        raise ModelError(
            f"the tokenizer of the language model {path} has {what}, and every row begins with "
            "one. Name the token that stands before a text in its pretraining: --begin-token TOKEN "
            "of `python -m models smollm`, language_model.begin_token=TOKEN of pretrain.py (its "
            f"special tokens: {', '.join(likely) or 'none'})."
        )
    if last is None:
        raise ModelError(
            f"the tokenizer of the language model {path} has no end token (eos_token), and every "
            "answer ends with one. Set eos_token in its tokenizer_config.json."
        )
    mark = (first, vocabulary[first])
    backend.post_processor = TemplateProcessing(
        single=[first, "$A"], pair=[first, "$A", "$B"], special_tokens=[mark]
    )
    return _fast(backend, longest, first, last, loaded.pad_token or last, loaded.unk_token)


def with_image_token(tokenizer: PreTrainedTokenizerFast, token: str) -> PreTrainedTokenizerFast:
    """A copy that knows an image token too; all others keep their ids."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return _fast(
        backend, tokenizer.model_max_length, tokenizer.bos_token, tokenizer.eos_token,
        tokenizer.pad_token, tokenizer.unk_token, extra_special_tokens={"image_token": token},
    )  # fmt: skip


def _fast(
    backend: Any,
    longest: int,
    begin: str,
    end: str,
    pad: str,
    unknown: str | None,
    **others: Any,
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        pad_token=pad,
        unk_token=unknown,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=longest,
        model_input_names=["input_ids", "attention_mask"],
        **others,
    )


def _own_begin(
    loaded: PreTrainedTokenizerBase, config: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> str | None:
    own = loaded.bos_token or _named(loaded, config.get("bos_token_id"))
    return TEXT_MARK if own == CHAT_MARK and TEXT_MARK in vocabulary else own


def _named(loaded: PreTrainedTokenizerBase, token: Any) -> str | None:
    """A token by its id; the first of several."""
    first = token[0] if isinstance(token, list) and token else token
    found = loaded.convert_ids_to_tokens(first) if isinstance(first, int) else None
    return found if isinstance(found, str) else None
