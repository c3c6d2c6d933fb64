"""The second moment C = E[k k^T] that ROME and MEMIT weigh keys with: its text, and its file.

The text is a .txt or .md file (one document a line), or what the datasets library reads: .jsonl,
.json, .csv, .parquet with a text column, a folder of such files, or a dataset of the hub; where
none is given, what the training records say is true. Of more than --samples documents a random
sample is taken, as published, each cut to what the model reads at once; padding does not count. Of
several layers the text is read once, and each has its own file. Its name says model, layer, data
and sample count, and a file that is there already is not made again. Use it with
`editor.second_moment=FILE` (ROME) or `editor.second_moments=FILES` (MEMIT).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.prompt_encoder import PromptEncoder
from datamodules.prompts import true_questions
from datamodules.records import Record
from editors.rome.moments import save_second_moment, second_moments
from errors import DataError
from models.deltas import Site
from models.editable import EditableModel

PLAIN = (".txt", ".md")
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
SAMPLE_SEED = 1  # of the published sample


def write_moments(
    model: EditableModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    name: str,
    layers: Sequence[int],
    batch_size: int,
    folder: Path,
) -> list[str]:
    """Runs the model over a text once and writes the moments of some layers, one file each.

    A file that is there already is not made again.

    Returns:
        One line about each file.

    Raises:
        DataError: the text has no token.
        ModelError: a layer is not there.
    """
    facts = {
        "model": model.fingerprint(),
        "layer": "",
        "data": hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12],
        "documents": str(len(texts)),
    }
    paths = {Site(layer, "mlp_out"): _path(folder, name, facts, layer) for layer in layers}
    for site in paths:
        model.linear(site)
    missing = [site for site, path in paths.items() if not path.is_file()]
    said = {path: f"{path} is there already" for path in paths.values()}
    if missing:
        batches = token_batches(model, tokenizer, texts, batch_size)
        moments, tokens = second_moments(model, missing, batches)
        if not tokens:
            raise DataError(f"--text: no token in {len(texts)} documents.")
        for site, moment in moments.items():
            path, written = paths[site], facts | {"layer": str(site.layer), "tokens": str(tokens)}
            save_second_moment(path, moment, facts=written)
            said[path] = (
                f"{path}: {len(texts)} documents, {tokens} tokens, {moment.shape[0]} dimensions"
            )
    return list(said.values())


def _path(folder: Path, name: str, facts: Mapping[str, str], layer: int) -> Path:
    of_layer = {**facts, "layer": str(layer)}
    said = "_".join(f"{key}-{value}" for key, value in of_layer.items())
    return folder / f"{name}_{said}.safetensors"


def fact_texts(records: Iterable[Record], encoder: PromptEncoder) -> list[str]:
    """What records ask in text of edits and paraphrases, with the true answers: each once.

    Raises:
        DataError: no record says in text what is true.
    """
    texts: dict[str, None] = {}
    for record in records:
        try:
            prompts = true_questions(record, pictures=False)
        except DataError:  # it says nothing true, or nothing in text
            continue
        for prompt in prompts:
            asked = encoder.prompt(prompt.question, plain=prompt.plain or prompt.cloze)
            texts[f"{asked} {prompt.answer}"] = None
    if not texts:
        raise DataError(
            "no training record says in text what is true, so that there is no text to read. Give "
            "one: --text FILE."
        )
    return list(texts)


def sample_texts(texts: list[str], size: int) -> list[str]:
    """The published random sample of more than `size` documents."""
    return random.Random(SAMPLE_SEED).sample(texts, size) if len(texts) > size else texts


def read_texts(text: str | Path, column: str, split: str = "train") -> list[str]:
    """Documents of a file or dataset, blank ones left out.

    Args:
        text: a file, a folder, or `owner/name` or `owner/name:configuration` of the hub.
        column: of a table.
        split: of a dataset.

    Raises:
        DataError: it is missing, of an unknown kind, or has no such column.
    """
    path = Path(text)
    if path.is_file() and path.suffix in PLAIN:
        lines = _read_lines(path)
    elif path.exists() and not path.is_dir() and path.suffix not in READERS:
        raise DataError(
            f"--text {path}: known are {', '.join([*PLAIN, *READERS])}, folders of the latter and "
            "datasets of the hub."
        )
    else:
        lines = _read_table(str(text), column, split)
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DataError(f"--text {path} holds no text.")
    return texts


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file, without its byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"--text {path} cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"--text {path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} stands at "
            f"{error.start}. It may be Latin-1, Windows-1252 or UTF-16: save it as UTF-8."
        ) from error


def _read_table(text: str, column: str, split: str) -> list[str]:
    """A column of what the datasets library reads."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    path = Path(text)
    name, _, configuration = text.partition(":")
    if not path.exists() and (name.count("/") != 1 or name.startswith(".")):
        raise DataError(f"--text {text}: there is no such file.")
    try:
        table: Any
        if path.is_dir():
            table = load_dataset(str(path), split=split)
        elif path.is_file():
            table = load_dataset(READERS[path.suffix], data_files=str(path), split="train")
        else:
            table = load_dataset(name, configuration or None, split=split)
    except (DatasetGenerationError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise DataError(
            f"--text {text} cannot be read: {error} Give a file, a folder, or a dataset of the hub "
            "that can be reached (HF_HUB_OFFLINE=1 allows only downloaded ones)."
        ) from error
    if column not in table.column_names:
        raise DataError(
            f"--text {text} has no column {column!r}; it has {', '.join(table.column_names)}. "
            "Name one with --column."
        )
    return [str(text) for text in table[column] if text is not None]


def token_batches(
    model: EditableModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (ids, mask), each document cut to the model's positions."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for start in range(0, len(texts), size):
        tokens = tokenizer(
            list(texts[start : start + size]),
            padding=True,
            truncation=True,
            max_length=model.max_positions,
            padding_side="right",
            split_special_tokens=True,  # a document that says `</s>` does not end there
            return_tensors="pt",
        ).to(model.device)
        yield tokens["input_ids"], tokens["attention_mask"].to(torch.bool)
