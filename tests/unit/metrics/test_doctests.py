"""The examples in the docstrings of the metrics and of the report are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "metrics.functional",
        "metrics.bootstrap",
        "metrics.chain",
        "metrics.name_first",
        "datamodules.name_first",
        "metrics.collection",
        "metrics.concentration",
        "metrics.headlines",
        "metrics.seeds",
        "analysis.overlap",
        "analysis.shortcut",
        "metrics.text",
        "reporting.entries",
        "reporting.labels",
        "reporting.naming",
    ],
)
def test_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0
