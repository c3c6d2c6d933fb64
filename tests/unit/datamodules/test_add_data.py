"""A source is one file and one YAML file: the worked example of docs/add-data.md, as it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules import source
from datamodules.source import source_names, source_options
from errors import ConfigError
from tests.unit.datamodules.test_sources import RECORD, other

READ = """
import sys
from configs.check import load_config
from errors import TmkeError
try:
    source = load_config(sys.argv[1], ["data=jsonl", *sys.argv[2:]]).data.read()
except TmkeError as error:
    sys.exit(str(error))
print(source.name, *(f"{split}:{len(records)}" for split, records in source.splits.items()))
print(sorted({"torch", "datasets", "numpy"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the two files of the example, and nothing else changed."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in root.iterdir():
        if path.name in ("datamodules", "configs"):
            shutil.copytree(path, folder / path.name)
        elif path.suffix == ".py" or (path / "__init__.py").is_file():
            (folder / path.name).symlink_to(path)
    page = (root / "docs" / "add-data.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (values,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (folder / "datamodules" / "sources" / "jsonl.py").write_text(code)
    (folder / "configs" / "data" / "jsonl.yaml").write_text(values)
    return folder


def read(checkout: Path, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", READ, command, *words],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_lines(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_example_reads_records(checkout: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "test.jsonl", RECORD, other("Car A"))
    words = ("editor=none", f"data.root={tmp_path}")
    run = read(checkout, "evaluate", *words)
    assert run.stdout.splitlines() == ["jsonl train:0 val:0 test:2", "[]"], run.stderr
    assert "there is no key data.rot" in read(checkout, "evaluate", *words, "data.rot=1").stderr
    training = read(checkout, "train", "editor=mend", f"data.root={tmp_path}")
    assert "training needs a train.jsonl" in training.stderr
    write_lines(tmp_path / "test.jsonl", RECORD, RECORD | {"image": ""})
    assert re.search(
        r"line 2 of \S+test\.jsonl: image: ", read(checkout, "evaluate", *words).stderr
    )


def test_a_file_that_registers_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "cckeb, counterfact, countries, folder, hub, mcmke, mmedit, mmke, tmke, vlkeb, world"
    with pytest.raises(ConfigError, match=rf"data\.name=wrld: data is one of {names}, zsre"):
        source_options("wrld")
    (tmp_path / "empty.py").write_text("SOURCE = dict\n")
    monkeypatch.setattr(source, "_FOLDER", tmp_path)
    monkeypatch.setattr("datamodules.sources.__path__", [str(tmp_path)])
    assert source_names() == ["empty"]
    with pytest.raises(ConfigError, match=r"sources/empty\.py registers no source"):
        source_options("empty")
