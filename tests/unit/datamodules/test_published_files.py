"""Every published file that is there: loads whole, and is served with drawn pictures.

The files are no part of the project (tests/conftest.py says where they are looked for).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from datamodules.checking.check import check_data
from datamodules.collate import Collator, RowTable
from datamodules.images import ImageStore
from datamodules.scenarios import SCENARIOS
from tests.benchmark_files import asked, draw_pictures, options
from tests.unit.datamodules.test_datamodule import pixels, prompt_encoder

SERVED = 40  # records of a file that batches are made of
TEXT, PICTURES = ("unimodal",), ("multimodal",)
ALL = ("unimodal", "transitive", "multimodal")
LOCALITY = {"locality_t_far", "locality_i_far"}
SHOWN = {"reliability_s", "reliability_u", *LOCALITY}
FAR = {"reliability", "generality", "locality_far"}


class Case(NamedTuple):
    """A published file.

    Attributes:
        probes: that every record has, in the last of its scenarios.
        some: probe -> how many records have it.
        left_out: why records are left out -> how many.
    """

    name: str
    keys: Mapping[str, Any]
    n: int
    scenarios: tuple[str, ...]
    probes: set[str]
    some: Mapping[str, int] = {}
    left_out: Mapping[str, int] = {}


CASES = {
    "vlkeb": Case(
        "vlkeb", {"files": ["eval.json"]}, 3174, PICTURES,
        {*SHOWN, "generality_s", "generality_u"},
    ),
    "vlkeb-onehop": Case(
        "vlkeb", {"files": ["eval_edit_onehop_first300.json"]}, 300, PICTURES,
        {*SHOWN, "generality_s", "generality_u", "portability"},
    ),
    "cckeb": Case(
        "cckeb", {}, 264, ALL, SHOWN, {"stability_same": 165, "leak_same": 165},
        {"the files of VLKEB have no picture of": 376},
    ),
    "mmedit": Case(
        "mmedit", {"files": ["vqa_eval_first400.json"]}, 400, PICTURES,
        {*SHOWN, "generality_s", "generality_u"},
    ),
    "mmedit-caption": Case(
        "mmedit", {"files": ["caption_eval_edit_first200.json"], "task": "caption"}, 200, PICTURES,
        {*SHOWN, "generality_s", "generality_u"},
    ),
    "mcmke-text": Case(
        "mcmke", {"direction": "text"}, 120, ALL, {*SHOWN, "generality_s", "generality_u"},
        {"stability_same": 74, "stability_diff": 97, "leak_same": 74, "leak_diff": 97},
    ),
    "mcmke-picture": Case(
        "mcmke", {"direction": "picture"}, 120, ALL, {*SHOWN, "generality_s", "generality_u"},
        {"stability_same": 74, "stability_diff": 97, "leak_same": 74, "leak_diff": 97},
    ),
    "zsre-train": Case(
        "zsre", {"files": ["zsre_mend_train-1k.json"], "on_error": "skip"}, 998, TEXT, FAR,
        {"stability_same": 743, "leak_same": 743}, {"it breaks the zsRE schema: alt": 2},
    ),
    "zsre": Case(
        "zsre", {"files": ["eval_portability.json"]}, 1037, TEXT, {*FAR, "portability"},
        {"stability_same": 773, "leak_same": 773},
    ),
    "counterfact": Case(
        "counterfact", {}, 1919, TEXT, {"reliability", "generality", "locality_near"},
        {"stability_same": 1895, "leak_same": 1895},
    ),
    "tmke": Case(
        "tmke", {}, 60, ALL,
        {
            *SHOWN, "generality_s", "generality_u", "portability", "stability_same",
            "stability_diff", "leak_same", "leak_diff",
        },
    ),
}  # fmt: skip


# Case -> what a check finds in it besides pictures: kind -> how many of how many (docs/check.md).
FOUND: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "cckeb": {"not_joined": (376, 640), "absent_subjects": (16, 264)},
    "zsre-train": {"empty_texts": (2, 1000), "idle_edits": (17, 998)},
    "counterfact": {"several_answers": (7, 1919)},
    "tmke": {"dominant_targets": (14, 60)},
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_check_finds_in_a_published_file(shared: Path, name: str) -> None:
    case = CASES[name]
    if not (root := shared / "data" / case.name).is_dir():
        pytest.skip(f"{root} is not there")
    keys = dict(case.keys)
    if case.name == "cckeb":
        keys |= {"vlkeb_root": str(shared / "data" / "vlkeb"), "vlkeb_files": ["eval.json"]}
    report = check_data(options(case.name, root, **keys), are_opened=False)
    assert {f.kind: (f.count, f.of) for f in report.findings} == FOUND[name]
    assert report.splits["test"].records == case.n


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_published_file_loads_whole_and_is_served(
    shared: Path, tmp_path: Path, case: Case
) -> None:
    root = shared / "data" / case.name
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    keys = dict(case.keys)
    if case.name == "cckeb":
        keys["vlkeb_root"] = str(shared / "data" / "vlkeb")
    source = options(case.name, root, **keys).open()
    source = replace(source, image_root=tmp_path / "images")
    records = source.records("test")
    assert len(records) == case.n
    reasons = Counter(left_out.reason for left_out in source.left_out["test"])
    for reason, count in case.left_out.items():
        assert sum(n for text, n in reasons.items() if text.startswith(reason)) == count
    assert reasons.total() == sum(case.left_out.values())

    last = case.scenarios[-1]
    counts = Counter(probe for number in range(case.n) for probe in asked(source, last, number))
    assert counts == {**dict.fromkeys(case.probes, case.n), **case.some}

    few = replace(source, splits={"test": records[:SERVED]})
    make_table = partial(
        RowTable, prompt_encoder(), ImageStore(pixels), few.pictures,
        plain_locality=source.plain_locality, cloze=source.cloze,
    )  # fmt: skip
    for scenario in case.scenarios:
        draw_pictures(few, scenario)
        collate = Collator(make_table, SCENARIOS[scenario], reads=True)
        batch = collate(list(enumerate(few.records("test"))))
        assert len(batch) == min(SERVED, case.n)
        assert batch.rows.answer_mask.any(1).all()
        assert (batch.rows.pixel_values is None) == (scenario == "unimodal")
