"""Tokens that the base model reads for an edit of TMKE: Llama's tokenizer, LLaVA's pictures.

    python -m benchmarks.tokens [--edits N] [--batch B]

`rows`: every row padded to the longest of its batch, as rows are tokenised. `packed`: sequences in
which rows of an edit share what they begin with, padded to the longest of their bucket: what a pass
reads. `shared`: their tokens without padding. No model is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoTokenizer

from benchmarks import mid_size
from configs.check import load_config
from configs.schema import TrainConfig
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.scenarios import SCENARIOS, Scenario
from models.packing import pack
from models.rows import EditBatch
from runner.training import scenario_of

SLOTS = 576


def scenarios() -> dict[str, Scenario]:
    """What is counted: all scenarios, and MEND's training in text and with pictures."""
    counted = dict(SCENARIOS)
    for name in ("unimodal", "multimodal"):
        words = ["editor=mend", "model=llava_tiny", f"scenario={name}", "output_dir=unused"]
        cfg = load_config("train", words)
        assert isinstance(cfg, TrainConfig)
        counted[f"training, {name}"] = scenario_of(cfg)
    return counted


def count(batches: list[EditBatch]) -> tuple[int, int, int]:
    """Tokens of padded rows, of packed sequences with their padding, and without it."""
    rows = packed = shared = 0
    for batch in batches:
        packing = pack(batch.rows)
        rows += batch.rows.input_ids.numel()
        packed += sum(packing.part(numbers).filled.numel() for numbers in packing.buckets())
        shared += int(packing.filled.sum())
    return rows, packed, shared


def main() -> None:
    """Prints a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edits", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    folder = mid_size.shared_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizers/llama")
    image = tokenizer.convert_tokens_to_ids("<image>")
    encoder = PromptEncoder(tokenizer, PictureLayout(SLOTS, image))
    print(f"tokens an edit, {arguments.edits} edits in batches of {arguments.batch}")
    print(f"{'':22s} {'rows':>8s} {'packed':>8s} {'shared':>8s}   packed / shared")
    with TemporaryDirectory() as pictures:
        source = mid_size.read_records(folder, Path(pictures))
        for name, scenario in scenarios().items():
            batches = mid_size.make_batches(
                source, encoder, scenario, arguments.edits, arguments.batch
            )
            rows, packed, shared = (n / arguments.edits for n in count(batches))
            print(f"{name:22s} {rows:8,.0f} {packed:8,.0f} {shared:8,.0f}   {packed / shared:.3f}")


if __name__ == "__main__":
    main()
