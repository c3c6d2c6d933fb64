"""How long a report over many results takes and how much memory: 45 folders, 1,000 edits each.

    python -m benchmarks.report_speed [EDITS]

Made-up results of 5 editors on 3 models in 3 scenarios, with every probe and measure of the
scenario, texts of real length, and pictures, are written into a temporary folder. Then
`python report.py` over all of them runs in a process of its own. The target is less than 60 s and
2 GB, page and gallery included.
"""

from __future__ import annotations

import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from metrics.bootstrap import Estimate, estimates
from metrics.headlines import PRE_VALUE, READ_BEFORE, headlines_of, variant_of
from reporting.labels import PAPER_SCENARIOS
from reporting.pairs import scores_by_record
from results.files import EDITS, PROBES
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA
from results.writing import write_summary

ROOT = Path(__file__).parents[1]
EDITORS = ("ft_as_run", "ike", "mend", "serac", "rome")
MODELS = ("blip2_opt_tiny", "minigpt4_tiny", "llava_tiny")
SETTINGS = {"prompt": "default", "positions": "answer", "locality_i": "top1", "generation": False}
PIXELS = 96
TARGET_SECONDS, TARGET_GB = 60, 2.0
_WORDS = (
    "architect", "author", "capital", "composer", "country", "director", "founder", "language",
    "material", "museum", "painter", "river", "sculptor", "style", "temple", "university",
)  # fmt: skip


def main(n_edits: int = 1000) -> None:
    """Write the folders, run the report and print what it took."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_pictures(root / "images", n_edits)
        started = time.perf_counter()
        folders = list(write_folders(root, n_edits))
        wrote = time.perf_counter() - started
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 2**20
        print(f"{len(folders)} folders of {n_edits} edits, {size:.0f} MiB ({wrote:.0f} s to write)")
        seconds, cpu, gigabytes = run_report(folders, root / "report")
        made = [path for path in (root / "report").rglob("*") if path.is_file()]
        page = root / "report" / "report.html"
        print(
            f"report: {seconds:.1f} s (target {TARGET_SECONDS}), {cpu:.1f} s of CPU; "
            f"{gigabytes:.2f} GB at most (target {TARGET_GB:g}); {len(made)} files, page "
            f"{page.stat().st_size / 2**20:.1f} MiB (Python {platform.python_version()})"
        )


def run_report(folders: list[Path], output: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and largest resident memory (GB) of `python report.py`."""
    command = [sys.executable, "report.py", *map(str, folders), "--output", str(output)]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e9


def write_folders(root: Path, n_edits: int) -> Iterator[Path]:
    """One result folder per editor, model and scenario."""
    for scenario in PAPER_SCENARIOS:
        write_probes(root / PROBES, scenario, n_edits)
        for number, model in enumerate(MODELS):
            for rank, editor in enumerate(EDITORS):
                folder = root / f"{editor}-{model}-{scenario}"
                folder.mkdir(parents=True)
                rng = np.random.default_rng([number, rank, PAPER_SCENARIOS.index(scenario)])
                write_run(folder, editor, model, scenario, n_edits, rng)
                (folder / PROBES).hardlink_to(root / PROBES)
                yield folder
        (root / PROBES).unlink()


def write_run(
    folder: Path, editor: str, model: str, scenario: str, n_edits: int, rng: np.random.Generator
) -> None:
    """edits.parquet with skill that differs between editors, and the summary that follows."""
    columns = sorted({(p, line.measure) for line in headlines_of(scenario) for p in line.probes})
    columns = [(probe, measure) for probe, measure in columns if not probe.endswith("hop")]
    parts = [_scores(probe, measure, n_edits, rng) for probe, measure in columns]
    long = pd.concat(parts, ignore_index=True)
    long["subject"] = [f"The {_WORDS[e % 16]} of {_WORDS[e % 7]} {e}" for e in long["edit_id"]]
    answers = np.array([f" {a} of {b}" for a in _WORDS for b in _WORDS], dtype=object)
    for name in ("pre_text", "post_text", "target"):
        long[name] = answers[rng.integers(0, len(answers), len(long))]
    long["seconds"] = 0.02
    long[[PRE_VALUE, *READ_BEFORE]] = None
    pq.write_table(
        pa.Table.from_pandas(long[EDIT_SCHEMA.names], schema=EDIT_SCHEMA, preserve_index=False),
        folder / EDITS,
        compression="zstd",
    )
    settings = SETTINGS | {
        "data_digest": "d0",
        "model_digest": model,
        "probe_digest": "p0",
        "image_root": str(folder.parent / "images"),
    }
    write_summary(
        folder,
        {
            "editor": editor,
            "model": model,
            "scenario": scenario,
            "data": "world",
            "n_edits": n_edits,
            "seed": 0,
            "protocol": {"name": "single"},
            "settings": settings,
            "versions": {"torch": "none"},
            "metrics": _metrics(long, scenario),
            "seconds_per_edit": 0.02,
            "answer_seconds_per_edit": 0.1,
            "peak_memory_bytes": 2**30,
            "trained_parameters": 0,
        },
    )


def write_probes(path: Path, scenario: str, n_edits: int) -> None:
    """probes.parquet: what was asked, of which picture."""
    probes = sorted({probe for line in headlines_of(scenario) for probe in line.probes})
    rows = [
        {
            "edit_id": edit,
            "probe": probe,
            "question": f"Who is the {_WORDS[edit % 16]} of the {_WORDS[edit % 11]} in the image?",
            "image": None if scenario == "unimodal" else f"{edit:04d}/{probe[-1]}.png",
            "hops": None,
            "mark": None,
            "drawn": False,
        }
        for edit in range(n_edits)
        for probe in probes
        if not probe.endswith("hop")
    ]
    rows += [
        {
            "edit_id": edit,
            "probe": "edit",
            "question": f"Who is the {_WORDS[edit % 16]} of it?",
            "relation": _WORDS[edit % 16],
            "target": f"{_WORDS[edit % 5]} of {_WORDS[edit % 16]}",
        }
        for edit in range(n_edits)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROBE_SCHEMA), path)


def write_pictures(root: Path, n_edits: int) -> None:
    """A picture per subject and last letter of a probe, noise in blocks."""
    scenario = PAPER_SCENARIOS[1]
    last = {probe[-1] for line in headlines_of(scenario) for probe in line.probes}
    rng = np.random.default_rng(0)
    for edit in range(n_edits):
        (root / f"{edit:04d}").mkdir(parents=True)
        blocks = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize((PIXELS, PIXELS))
        for letter in last:
            picture.save(root / f"{edit:04d}" / f"{letter}.png")


def _scores(probe: str, measure: str, n_edits: int, rng: np.random.Generator) -> pd.DataFrame:
    """Values in quarters; two in five records have no one-hop question."""
    values = rng.binomial(4, rng.uniform(0.2, 0.99), n_edits) / 4
    if probe.startswith("portability"):
        values = np.where(np.arange(n_edits) % 5 < 3, values, math.nan)
    return pd.DataFrame(
        {"edit_id": np.arange(n_edits), "probe": probe, "metric": measure, "value": values}
    )


def _metrics(long: pd.DataFrame, scenario: str) -> dict[str, Estimate]:
    scores = scores_by_record(long, headlines_of(scenario, **variant_of(SETTINGS)))
    metrics = estimates([scores[name].dropna().to_numpy() for name in scores])
    return dict(zip(map(str, scores), metrics, strict=True))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
