"""The notebook runs in a kernel of this environment, and its stored outputs are what it prints."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.commands import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

pytestmark = pytest.mark.e2e
NOTEBOOK = ROOT / "examples" / "edit_a_fact.ipynb"
NUMBER = re.compile(r"\d+(?:\.\d+)?")
VOLATILE = re.compile(r"/\S+|\d+(?:\.\d+)? s\b")  # paths and times
CLOSE = 2.5  # numbers differ from one processor to the next: percent are rounded


def outputs(notebook: object) -> Iterator[tuple[str, object]]:
    """What stands under each cell: streams as text, pictures as their kinds."""
    for cell in notebook.cells:  # type: ignore[attr-defined]
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                text = VOLATILE.sub("", re.sub(r"\s+", " ", output.text))
                yield output.name, (NUMBER.sub("", text), [float(n) for n in NUMBER.findall(text)])
            else:
                yield output.output_type, sorted(output.get("data", {}))


@pytest.mark.usefixtures("default_place")
def test_the_notebook_prints_what_it_shows() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    expected = list(outputs(stored))
    client = nbclient.NotebookClient(
        stored, timeout=500, coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )  # fmt: skip
    client.execute()
    printed = list(outputs(stored))
    assert [kind for kind, _ in printed] == [kind for kind, _ in expected]
    for (kind, new), (_, old) in zip(printed, expected, strict=True):
        if kind != "stdout":
            assert new == old
            continue
        assert new[0] == old[0]  # type: ignore[index]
        assert new[1] == pytest.approx(old[1], abs=CLOSE)  # type: ignore[index]
