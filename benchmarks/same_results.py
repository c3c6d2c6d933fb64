"""Do two versions of the code give the same results? Every command's output, to the last digit.

    python -m benchmarks.same_results make DIR [--models NAME...] [--editors NAME...] [--edits N]
    python -m benchmarks.same_results compare OLD NEW

`make` runs trainings, evaluations of every editor in every scenario, one of edits in sequence and
one of a batch, a report and the analyses, each with few edits and one thread, in this checkout:
once before a refactoring and once after it. `compare` reads the two folders, or two folders inside
them, prints what is equal and what is not, and ends with status 1 on any difference. Times, memory,
versions, paths and configurations may differ: they are no results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
MODELS = ("llava_tiny", "blip2_opt_tiny", "minigpt4_tiny")
LEARNED = ("mend", "serac")
EDITORS = (*LEARNED, "none", "ft", "ike", "lora", "rome")
SCENARIOS = "scenario=unimodal,transitive,multimodal"
TEXT_SCENARIOS = "scenario=unimodal,transitive"  # ROME is not defined for picture edits
TRACE, MOMENT, NEURONS = (
    ("-m", "analysis", name) for name in ("causal_trace", "second_moment", "knowledge_neurons")
)
# A result is made with one thread: the order of a sum depends on their number.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}

Command = Sequence[str]
Columns = dict[str, list[Any]]
"""What a file holds, by name: columns of a table, values of a tree, tensors, lines."""


# ---------------------------------------------------------------------------------------- make


def make(out: Path, models: Sequence[str], editors: Sequence[str], edits: int, jobs: int) -> None:
    """Runs every command; groups of commands side by side, the report when all have ended.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    sentence = "the company was founded in 1990 and is located in Lyon\n"
    (out / "corpus.txt").write_text("".join(f"{i} {sentence}" for i in range(1, 401)))
    with ThreadPoolExecutor(jobs) as pool:
        groups = [
            *(judged(out, model, editors, f"data.limit={edits}") for model in models),
            *further(out, models[0], edits),
        ]
        list(pool.map(run_all, groups))
    patterns = ("train-mend", "mend/?", "serac/?", "free/*", "rome/?")
    folders = [path for name in patterns for path in sorted((out / models[0]).glob(name))]
    if folders:
        run_all([["report.py", *map(str, folders), f"--output={out / 'report'}", "--overwrite"]])


def run_all(commands: Iterable[Command]) -> None:
    """Commands of this checkout, one after the other; one that fails shows what it printed."""
    for words in commands:
        command = list(words) if words[0] == "make" else [sys.executable, *words]
        print(*command, flush=True)
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | ENVIRONMENT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            print(done.stdout)
        done.check_returncode()


def judged(out: Path, model: str, editors: Sequence[str], *options: str) -> Iterator[Command]:
    """Trainings and evaluations of one model: learned editors, ROME, all others in one sweep."""
    to = out / model

    def evaluate(name: str, *words: str) -> Command:
        return ["evaluate.py", "-m", *common(to / name), *options, *words]

    for editor in LEARNED:
        if editor in editors:
            train = to / f"train-{editor}"
            yield ["train.py", *common(train), f"editor={editor}", f"model={model}"]
            yield evaluate(editor, f"ckpt={train}/checkpoints/best.ckpt", SCENARIOS)
    free = [editor for editor in editors if editor not in (*LEARNED, "rome")]
    if free:
        yield evaluate("free", f"editor={','.join(free)}", f"model={model}", SCENARIOS)
    if "rome" in editors:
        yield evaluate("rome", "editor=rome", f"model={model}", TEXT_SCENARIOS)


def common(folder: Path) -> Command:
    """Words that every command has."""
    return ["experiment=demo", f"output_dir={folder}", "overwrite=true"]


def further(out: Path, model: str, edits: int) -> Iterator[list[Command]]:
    """The demo, one run of every other protocol and metric, the analyses, a short pretraining."""
    # `-o`: the environment stands; make must not set it up anew.
    environment = f"VENV={sys.prefix}"
    yield [["make", "demo", f"DEMO={out / 'demo'}", environment, "-o", f"{sys.prefix}/.ready"]]
    limit, to_model = f"data.limit={edits}", f"model={model}"
    sequence = ["protocol=sequential", f"protocol.n=1,5,{edits}"]
    yield [["evaluate.py", *common(out / "sequential"), to_model, "editor=rome", *sequence]]
    batch = ["protocol=batch", f"protocol.n=1,{edits}"]
    yield [["evaluate.py", *common(out / "batch"), to_model, "editor=ft", *batch]]
    vlkeb = ["metrics=vlkeb_compat", "metrics.generation=true", "scenario=transitive"]
    yield [["evaluate.py", *common(out / "vlkeb"), to_model, "editor=ft", limit, *vlkeb]]
    yield [
        [*NEURONS, "editor=ft", to_model, "scenario=transitive", "experiment=demo", limit,
         "--output", str(out / "neurons"), "--overwrite"],
        [*TRACE, to_model, "data=world", "--facts", "50", "--output", str(out / "trace"),
         "--overwrite"],
        [*MOMENT, to_model, "--layer", "0", "--text", str(out / "corpus.txt"), "--samples", "200",
         "--cache", str(out / "moment")],
    ]  # fmt: skip
    yield [
        ["pretrain.py", to_model, "data=world", "gate=false", "threads=1",
         "trainer.accelerator=cpu", "pretrain.steps=20", "pretrain.context_warmup=10",
         f"output_dir={out / 'pretrain'}", "overwrite=true"],
    ]  # fmt: skip


# ------------------------------------------------------------------------------------- compare


def compare(old: Path, new: Path) -> dict[str, list[str]]:
    """File -> its differences, none where it is equal, for every result in either folder."""
    files = [{str(path.relative_to(root)): path for path in results(root)} for root in (old, new)]
    return {
        name: differences(*(f.get(name) for f in files)) for name in sorted({*files[0], *files[1]})
    }


def results(root: Path) -> list[Path]:
    """The files below a folder that hold results."""
    files = (path for path in root.rglob("*") if path.is_file() and "wandb" not in path.parts)
    return [path for path in files if reader_of(path)]


def differences(old: Path | None, new: Path | None) -> list[str]:
    """What differs between two files: each column with its first differing row."""
    if old is None or new is None:
        return [f"only in the {'new' if old is None else 'old'} folder"]
    before, after = read(old), read(new)
    lines = [f"{name}: only in the old file" for name in before if name not in after]
    lines += [f"{name}: only in the new file" for name in after if name not in before]
    for name in before:
        if name in after:
            rows = enumerate(zip_longest(before[name], after[name], fillvalue="(no row)"))
            different = [(row, *values) for row, values in rows if not same(*values)]
            if different:
                row, was, now = different[0]
                count = f"{len(different)} of {max(len(before[name]), len(after[name]))}"
                lines.append(f"{name}: row {row}: {was!r} -> {now!r} ({count} rows differ)")
    return lines


def same(old: Any, new: Any) -> bool:
    """Equal to the last digit; a missing value equals a missing one."""
    return bool(old == new) or (old != old and new != new)


def read(path: Path) -> Columns:
    """The results that a file holds."""
    reader = reader_of(path)
    assert reader is not None
    return reader(path)


def table(path: Path) -> Columns:
    """Columns of a table but the seconds."""
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    # A missing value is a NaN in every column, text columns too.
    return {
        str(name): frame[name].astype(object).where(frame[name].notna(), float("nan")).tolist()
        for name in frame
        if name != "seconds"
    }


def summary(path: Path) -> Columns:
    """The scores of a run and of its editor."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    parts = ("n_edits", "metrics", "editor_report", "trained_parameters", "curve", "when_made")
    return flat({name: tree.get(name) for name in parts})


def analysis(path: Path) -> Columns:
    """What an analysis measured, without what it was run with."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return flat(
        {name: value for name, value in tree.items() if name not in ("settings", "versions")}
    )


def checkpoint(path: Path) -> Columns:
    """Weights of an editor, state of its optimiser."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return flat({name: stored[name] for name in ("global_step", "state_dict", "optimizer_states")})


def tensors(path: Path) -> Columns:
    """Tensors of a safetensors file."""
    return flat(load_file(path))


def text(path: Path) -> Columns:
    """Lines."""
    return {"line": path.read_text(encoding="utf-8").splitlines()}


def report(path: Path) -> Columns:
    """Sections of a report that hold results, line by line."""
    sections: Columns = {}
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            lines = sections.setdefault(line, [])
        lines.append(line)
    no_results = ("## Cost", "## Training", "## Provenance")  # times, folders, versions
    return {name: lines for name, lines in sections.items() if name not in no_results}


def flat(tree: Any, name: str = "") -> Columns:
    """A tree's leaves by their paths; a tensor is a leaf of as many rows as it has elements."""
    if isinstance(tree, torch.Tensor):
        return {name: [str(tuple(tree.shape)), str(tree.dtype), *tree.flatten().tolist()]}
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        nested = [flat(value, f"{name}.{key}".lstrip(".")) for key, value in pairs]
        return {key: values for columns in nested for key, values in columns.items()}
    return {name: [tree]}


def reader_of(path: Path) -> Callable[[Path], Columns] | None:
    """By name, then by ending; cost.tex holds times."""
    by_name = {
        "summary.json": summary, "trace.json": analysis, "neurons.json": analysis,
        "metrics.csv": table, "report.md": report, "cost.tex": None,
    }  # fmt: skip
    by_ending = {".parquet": table, ".ckpt": checkpoint, ".safetensors": tensors, ".tex": text}
    return by_name[path.name] if path.name in by_name else by_ending.get(path.suffix)


def print_differences(found: dict[str, list[str]]) -> None:
    """Every file with its verdict, then each difference."""
    for name, lines in found.items():
        print(f"{name:<60} {f'{len(lines)} differ' if lines else 'equal'}")
    different = {name: lines for name, lines in found.items() if lines}
    for name, lines in different.items():
        print(f"\n{name}")
        for line in lines:
            print(f"  {line}")
    print(f"\n{len(found) - len(different)} of {len(found)} files are equal")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    maker = verbs.add_parser("make", help="run all commands into a folder")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--models", nargs="+", default=MODELS)
    maker.add_argument("--editors", nargs="+", default=EDITORS)
    maker.add_argument("--edits", type=int, default=20)
    maker.add_argument("--jobs", type=int, default=2, help="commands at a time (default 2)")
    comparer = verbs.add_parser("compare", help="compare two such folders")
    comparer.add_argument("old", type=Path)
    comparer.add_argument("new", type=Path)
    given = parser.parse_args(arguments)
    if given.verb == "make":
        make(given.folder, given.models, given.editors, given.edits, given.jobs)
        return 0
    for folder in (given.old, given.new):
        if not folder.is_dir():
            parser.error(f"no such folder: {folder}")
    differing = compare(given.old, given.new)
    if not differing:
        parser.error(f"no results in {given.old} and {given.new}")
    print_differences(differing)
    return int(any(differing.values()))


if __name__ == "__main__":
    sys.exit(main())
