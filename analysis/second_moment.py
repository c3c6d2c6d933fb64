"""Estimates the second moment C = E[k k^T] that ROME may weigh its keys with.

    python -m analysis.second_moment model=llava --layer 5 --text corpus.txt

The text is a .txt or .md file (one document a line), or what the datasets library reads: .jsonl,
.json, .csv, .parquet with a text column, a folder of such files, or a dataset of the hub. Of more
than --samples documents a random sample is taken, as published, each cut to what the model reads at
once; padding does not count. The file's name says model, layer, data and sample count, and a file
that is there already is not made again. Use it with `editor.second_moment=FILE`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from analysis.command import configured, exit_code
from editors.rome.moments import save_second_moment, second_moment
from errors import ConfigError, DataError
from models.deltas import Site
from models.editable import EditableModel
from runner import assembly

PLAIN = (".txt", ".md")
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
CACHE = Path("runs/second_moments")
SAMPLE_SEED = 1  # of the published sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_intermixed_args(arguments)
    return exit_code(lambda: estimate(options))


def estimate(options: argparse.Namespace) -> None:
    """Reads the text, runs the model, writes the file and names it.

    Raises:
        ConfigError: an option is out of range.
        DataError: the text cannot be read.
        ModelError: the model or its layer is not there.
    """
    if options.samples < 1 or options.batch < 1 or options.layer < 0:
        raise ConfigError("--samples and --batch should be at least 1, --layer at least 0.")
    texts = read_texts(options.text, options.column, options.split)
    if len(texts) > options.samples:
        texts = random.Random(SAMPLE_SEED).sample(texts, options.samples)
    cfg, device = configured(options.words)
    processor = assembly.open_processor(cfg.model)
    model = assembly.open_model(cfg.model, device)
    site = Site(options.layer, "mlp_out")
    model.linear(site)
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    facts = {
        "model": model.fingerprint(),
        "layer": str(options.layer),
        "data": digest,
        "documents": str(len(texts)),
    }
    name = "_".join(f"{key}-{value}" for key, value in facts.items())
    path = options.cache / f"{cfg.model.name}_{name}.safetensors"
    if path.is_file():
        print(f"{path} is there already")
        return
    batches = tokenised(model, processor.tokenizer, texts, options.batch)
    moment, tokens = second_moment(model, site, batches)
    if not tokens:
        raise DataError(f"--text {options.text}: no token in {len(texts)} documents.")
    save_second_moment(path, moment, facts=facts | {"tokens": str(tokens)})
    print(f"{path}: {len(texts)} documents, {tokens} tokens, {moment.shape[0]} dimensions")


def read_texts(text: str | Path, column: str, split: str = "train") -> list[str]:
    """Documents of a file or dataset, blank ones left out.

    Args:
        text: a file, a folder, or `owner/name` or `owner/name:configuration` of the hub.
        column: of a table.
        split: of a dataset.

    Raises:
        DataError: it is missing, of an unknown kind, or has no such column.
    """
    path = Path(text).expanduser()
    if path.is_file() and path.suffix in PLAIN:
        lines = path.read_text(encoding="utf-8").splitlines()
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


def _read_table(text: str, column: str, split: str) -> list[str]:
    """A column of what the datasets library reads."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    path = Path(text).expanduser()
    name, _, configuration = text.partition(":")
    if not path.exists() and (name.count("/") != 1 or name.startswith((".", "~"))):
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


def tokenised(
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
            return_tensors="pt",
        ).to(model.device)
        yield tokens["input_ids"], tokens["attention_mask"].to(torch.bool)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.second_moment", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("words", nargs="*", metavar="model=NAME", help="configuration words")
    parser.add_argument("--layer", type=int, required=True, help="decoder layer, from 0")
    parser.add_argument(
        "--text", required=True, metavar="FILE", help="a file, a folder, or a dataset of the hub"
    )
    parser.add_argument("--column", default="text", help="of a table (default: text)")
    parser.add_argument("--split", default="train", help="of a dataset (default: train)")
    parser.add_argument("--samples", type=int, default=100_000, help="documents (default: 100000)")
    parser.add_argument("--batch", type=int, default=16, help="documents at once (default: 16)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder (default: {CACHE})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
