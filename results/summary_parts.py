"""Parts of `summary.json` as they are checked and read: estimates, curves, sources of records.

What is not well formed is added to a list of complaints, so that a reader hears of all at once.
"""

import math
from collections.abc import Mapping
from typing import Any

from metrics.bootstrap import Estimate
from metrics.concentration import Concentration

TEXT, NUMBER = (str,), (int, float)


def is_a(value: object, accepted: tuple[type, ...]) -> bool:
    """Type test that does not take True for a number and accepts no nan or infinity."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return False
    return isinstance(value, accepted)


def parse_metrics(key: str, raw: object, wrong: list[str]) -> dict[str, Estimate]:
    """Named metrics of the file; what is not well formed is added to `wrong`."""
    metrics: dict[str, Estimate] = {}
    for name, value in raw.items() if isinstance(raw, dict) else ():
        estimate = _parse_estimate(value)
        if estimate is None:
            wrong.append(f"{key}.{name} is {value!r}")
        else:
            metrics[name] = estimate
    return metrics


def wrong_records(raw: object) -> list[str]:
    """What is not well formed of where the records come from; nothing where it is not said."""
    if not isinstance(raw, dict):
        return []
    wrong = _wrong_texts("records", raw)
    for key in ("trained_on", "shown"):
        source = raw.get(key)
        if isinstance(source, dict):
            wrong += _wrong_texts(f"records.{key}", source)
        elif source is not None:
            wrong.append(f"records.{key} is {source!r}")
    for key in ("drawn", "naming"):
        counts = raw.get(key) or {}
        if not (isinstance(counts, dict) and all(is_a(n, (int,)) for n in counts.values())):
            wrong.append(f"records.{key} is {counts!r}")
    targets = raw.get("targets")
    if targets is not None and Concentration.read(targets) is None:
        wrong.append(f"records.targets is {targets!r}")
    return wrong


def _wrong_texts(key: str, source: Mapping[str, Any]) -> list[str]:
    names = [name for name in ("source", "origin", "licence") if not is_a(source.get(name), TEXT)]
    return [f"{key}.{name} is {source.get(name)!r}" for name in names]


def parse_curve(raw: object, wrong: list[str]) -> dict[int, dict[str, Estimate]] | None:
    """Points of a curve in their order, by number of edits in place."""
    if not isinstance(raw, dict):
        return None
    curve: dict[int, dict[str, Estimate]] = {}
    for key, point in raw.items():
        if not (isinstance(key, str) and key.isdecimal() and int(key) and isinstance(point, dict)):
            wrong.append(f"curve.{key} is {point!r} (expected: edits in place -> metrics)")
        else:
            curve[int(key)] = parse_metrics(f"curve.{key}", point, wrong)
    return dict(sorted(curve.items()))


def parse_not_taught(raw: object, wrong: list[str]) -> dict[int, list[int]] | None:
    """Edits that were not taught, by number of edits in place."""
    if not isinstance(raw, dict):
        return None
    not_taught: dict[int, list[int]] = {}
    for key, edits in raw.items():
        if not (_is_number(key) and isinstance(edits, dict) and all(map(_is_number, edits))):
            wrong.append(f"not_taught.{key} is {edits!r} (expected: edit -> edit in its place)")
        else:
            not_taught[int(key)] = [int(edit) for edit in edits]
    return not_taught


def _is_number(key: object) -> bool:
    return isinstance(key, str) and key.isdecimal()


def _parse_estimate(value: object) -> Estimate | None:
    """A metric of the file, or None if it is not well formed."""
    if not isinstance(value, dict):
        return None
    mean, interval, n = value.get("mean"), value.get("ci95"), value.get("n")
    if not is_a(n, (int,)) or not isinstance(interval, list) or len(interval) != 2:
        return None
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if interval == [None, None] and is_a(mean, NUMBER):  # all records are of one cluster
        return Estimate(float(mean), math.nan, math.nan, n)  # type: ignore[arg-type]
    if not all(is_a(number, NUMBER) for number in (mean, *interval)):
        return None
    if n == 1:  # results of before say that one record has an interval of no width
        return Estimate(float(mean), math.nan, math.nan, n)  # type: ignore[arg-type]
    return Estimate(float(mean), float(interval[0]), float(interval[1]), n)  # type: ignore[arg-type]
