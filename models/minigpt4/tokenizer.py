"""Vicuna's tokenizer as one tokenizer.json that every later load follows to the letter.

transformers rebuilds a tokenizer of class LlamaTokenizer at each load and drops what tokenizer.json
says of spaces; from a folder with tokenizer.model alone, AutoTokenizer loses even `▁` and BOS. So
it is read as the file says, or converted from tokenizer.model to do as sentencepiece does, with
which MiniGPT-4 was trained; saved as a plain fast tokenizer; and compared with its source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, normalizers
from transformers import (
    AutoTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from errors import ModelError

_FAST, _SENTENCEPIECE, _OPTIONS = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
# Where kinds of tokenizers part: spaces, line ends, letters outside the vocabulary, the chat form.
_PROBES = (
    "Question: Who founded it? Short answer: Tama Duva",
    "###Human: <Img></Img> What is in the picture?  Two spaces. ###Assistant:",
    " a leading space",
    "two\nlines, Zürich 東京",
)
_BLANK = (
    "Early conversions of LLaMA wrote blank special tokens: put tokenizer_config.json and "
    "special_tokens_map.json of lmsys's repository of this Vicuna into the folder."
)


def read_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a Llama's folder, as a plain fast one.

    Args:
        folder: with tokenizer.json or tokenizer.model.
        vocabulary: rows of the embedding table.

    Raises:
        ModelError: there is none, it cannot be read, it has no BOS or EOS or more tokens than the
            model, or it does not put BOS in front.
    """
    if not any((folder / name).is_file() for name in (_FAST, _SENTENCEPIECE)):
        raise ModelError(f"--vicuna {folder} has neither {_FAST} nor {_SENTENCEPIECE}.")
    try:
        loaded = _load(folder)
        plain = PreTrainedTokenizerFast(
            tokenizer_object=loaded.backend_tokenizer,
            model_max_length=loaded.model_max_length,
            **{name: token for name, token in loaded.special_tokens_map.items() if token},
        )
    except Exception as error:  # RecursionError for blank special tokens, bare Exception for JSON
        raise ModelError(
            f"the tokenizer of --vicuna {folder} cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). {_BLANK}"
        ) from error
    _check(plain, folder, vocabulary)
    return plain


def check_saved(saved: Path, source: Path) -> None:
    """Compares a saved tokenizer with what it was made of, on text that tells kinds apart.

    Raises:
        ModelError: the two tokenise differently, or the saved one is slow.
    """
    tokenizer, encode = AutoTokenizer.from_pretrained(saved, local_files_only=True), _encode(source)
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer saved from {source} loads as a slow one.")
    for text in _PROBES:
        ours, theirs = tokenizer(text, add_special_tokens=False)["input_ids"], encode(text)
        if ours != theirs:
            raise ModelError(
                f"the tokenizer of {source} changes when it is saved: {text!r} becomes {ours} and "
                f"was {theirs}. Put a {_FAST} of this Vicuna into its folder, or another one."
            )


def _load(folder: Path) -> PreTrainedTokenizerBase:
    if (folder / _FAST).is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    options = {}
    if (folder / _OPTIONS).is_file():
        options = json.loads((folder / _OPTIONS).read_text(encoding="utf-8"))
    puts_bos = options.get("add_bos_token") is not False  # silence meant yes in transformers 4
    tokenizer = LlamaTokenizer.from_pretrained(
        folder, local_files_only=True, add_bos_token=puts_bos
    )
    # As sentencepiece and transformers 4.28: every stretch of text gets a space in front, one that
    # starts with a space too, and one after a special token.
    tokenizer.backend_tokenizer.pre_tokenizer = None
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def _check(tokenizer: PreTrainedTokenizerFast, folder: Path, vocabulary: int) -> None:
    known = tokenizer.get_vocab()
    for name in ("bos_token", "eos_token"):
        if getattr(tokenizer, name) not in known:
            raise ModelError(f"the tokenizer of --vicuna {folder} has no {name}. {_BLANK}")
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer of --vicuna {folder} has {len(tokenizer)} tokens, and the embedding "
            f"table {vocabulary} rows. Use the tokenizer of this Vicuna: one of another version, "
            "or a special token that is not in its vocabulary, adds to it."
        )
    first = tokenizer("a")["input_ids"][0]
    if first != tokenizer.bos_token_id:
        raise ModelError(
            f"the tokenizer of --vicuna {folder} puts {tokenizer.convert_ids_to_tokens(first)!r} "
            f"first, not its BOS {tokenizer.bos_token!r}, after which pictures stand. Use the "
            "tokenizer files of this Vicuna alone, without those of another model."
        )


def _encode(folder: Path) -> Callable[[str], list[int]]:
    """The source's own encoder, without special tokens."""
    if (folder / _FAST).is_file():
        fast = Tokenizer.from_file(str(folder / _FAST))
        return lambda text: fast.encode(text, add_special_tokens=False).ids
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / _SENTENCEPIECE))
    return pieces.encode
