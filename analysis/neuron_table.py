"""The numbers of knowledge neurons as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from reporting.labels import editor_label, model_label

EMPTY = "-"
COLUMNS = ("%", "95 % interval", "other subjects", "random", "n")


def neuron_table(found: Mapping[str, Any]) -> Table:
    """Overlaps, for edits that reach the picture or do not, and where updates land.

    A line without a value is left out.

    Args:
        found: the content of neurons.json.

    Returns:
        A rich table: comparison, mean in percent, 95 % interval, the same with questions about
        other subjects, for random sets of these sizes, and the number of edits.
    """
    table = Table(
        title=f"Knowledge neurons: {editor_label(found['editor'])} on "
        f"{model_label(found['model'])}, {found['scenario']} scenario",
        caption=f"{found['data']}, {found['n_edits']} edits, {found['settings']['steps']} steps, "
        f"threshold {found['settings']['threshold']}",
    )
    table.add_column("", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for section in (_overlaps(found), _transfer(found), _landing(found)):
        for name, judged in section:
            if judged["value"]["n"]:
                table.add_row(name, *_cells(judged))
        table.add_section()
    return table


def _overlaps(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for when, pairs in found["overlaps"].items():
        for pair, measures in pairs.items():
            yield f"Jaccard, {when}: {pair}", measures["jaccard"]


def _transfer(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, judged in found["transfer"].items():
        yield f"text-image before, if picture {name.replace('_', ' ')}", judged


def _landing(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for matrix, times in found["landing"].items():
        for when, questions in times.items():
            for question, judged in questions.items():
                yield f"Update of {matrix} on {question}'s, {when}", judged


def _cells(judged: Mapping[str, Any]) -> Iterator[str]:
    low, high = judged["value"]["ci95"]
    yield f"{judged['value']['mean']:.1f}"
    yield f"{low:.1f} to {high:.1f}"
    for level in ("unrelated", "chance"):
        mean = judged[level]["mean"]
        yield EMPTY if mean is None else f"{mean:.1f}"
    yield str(judged["value"]["n"])
