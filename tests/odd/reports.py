"""Odd result folders and words, through `report.py`."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.odd.harness import Case, Either, Expected, Refused, Runs
from tests.odd.paths import COMPOSED, DECOMPOSED

_NAMES = (
    "with blank", "a=b", "a,b", "[red]bold[/red]", "[/]", COMPOSED, DECOMPOSED, "2026_11_24", "~",
    "s3:", "it's", "$a$", "$\\bad{$", "a_b^c", "100%", "<script>alert(1)<", "a|b",
    "&amp;", "`x`", "fox 🦊", "line\nend", "caf\udce9", "*", "[a]", "#1", "x" * 150,
)  # fmt: skip
_LABELS = (
    *_NAMES[:24],
    "_hidden",
    " ",
    "x" * 400,
    "a\tb",
    "</table>",
    "\\textbf{x}",
    "{{ 7 * 7 }}",
)


def report_cases() -> list[Case]:
    """Names of runs, of the report and of labels; runs that are damaged; words that are wrong."""
    return [
        *(_named(name) for name in _NAMES),
        *(_into(name) for name in _NAMES[::3]),
        *(_labelled(label) for label in _LABELS),
        *(_damaged(what, change, expected) for what, change, expected in _DAMAGE),
        *(_worded(what, words, says) for what, words, says in _MISTAKES),
        *_places(),
    ]


_report = functools.partial(Case, script="report.py", risks_a_run=False, out="report")


def _shown(name: str) -> str:
    return repr(name.encode("utf-8", "surrogateescape"))[:60]


def _expected(name: str) -> Expected:
    if any(ord(letter) < 32 for letter in name) or "\udce9" in name:
        return Either(Runs(), Refused(("control|UTF-8",)))
    return Runs()


def _named(name: str) -> Case:
    words = (f"./{name}", "--output", "report")
    return _report(f"a run called {_shown(name)}", words, _expected(name), runs=(name,))


def _into(name: str) -> Case:
    words = ("run", "--output", f"./{name}")
    return _report(
        f"a report called {_shown(name)}", words, Runs(), runs=("run",), out=Path(name).parts[0]
    )


def _labelled(label: str) -> Case:
    words = ("--label", f"{label}=run", "--output", "report")
    either = Either(Runs(), Refused(("label",)))
    return _report(f"a label {_shown(label)}", words, either, runs=("run",))


def _text(name: str, content: str) -> Callable[[Path], None]:
    return lambda run: _write(run / name, content)


def _write(path: Path, content: str) -> None:
    path.write_text(content)


def _changed(key: str, value: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        summary = json.loads((run / "summary.json").read_text())
        summary[key] = value
        (run / "summary.json").write_text(json.dumps(summary))

    return change


def _half(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2])

    return change


def _gone(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


_SUMMARY, _EDITS = "summary.json", "edits.parquet"
_DAMAGE: tuple[tuple[str, Callable[[Path], object], Expected], ...] = (
    ("no summary", _gone(_SUMMARY), Refused(("run",))),
    ("an empty summary", _text(_SUMMARY, ""), Refused((_SUMMARY,))),
    ("a summary that is cut", _half(_SUMMARY), Refused((_SUMMARY,))),
    ("a summary that is a list", _text(_SUMMARY, "[]"), Refused((_SUMMARY,))),
    ("a summary that is null", _text(_SUMMARY, "null"), Refused((_SUMMARY,))),
    ("a summary that is an empty object", _text(_SUMMARY, "{}"), Refused((_SUMMARY,))),
    ("a summary in UTF-16", lambda run: (run / _SUMMARY).write_text("{}", encoding="utf-16"),
     Refused((_SUMMARY,))),
    ("a summary that is too deep", _text(_SUMMARY, "[" * 100_000), Refused((_SUMMARY,))),
    ("metrics that are a list", _changed("metrics", []), Refused((_SUMMARY,))),
    ("metrics that are null", _changed("metrics", None), Refused((_SUMMARY,))),
    ("a metric without a mean", _changed("metrics", {"Reliability": {}}), Refused((_SUMMARY,))),
    ("a mean that is NaN", _changed("metrics", {"Reliability": {"mean": float("nan"), "n": 3}}),
     Refused((_SUMMARY,))),
    ("an editor that is a number", _changed("editor", 3), Refused((_SUMMARY,))),
    ("a model that is missing", _changed("model", None), Refused((_SUMMARY,))),
    ("settings that are text", _changed("settings", "all"), Refused((_SUMMARY,))),
    ("no edits", _gone(_EDITS), Either(Runs(), Refused((_EDITS,)))),
    ("empty edits", _text(_EDITS, ""), Either(Runs(), Refused((_EDITS,)))),
    ("edits that are cut", _half(_EDITS), Either(Runs(), Refused((_EDITS,)))),
    ("edits that are text", _text(_EDITS, "edit_id,subject\n"), Either(Runs(), Refused((_EDITS,)))),
    ("edits of another table", lambda run: shutil.copy(run / "probes.parquet", run / _EDITS),
     Either(Runs(), Refused((_EDITS,)))),
    ("no probes", _gone("probes.parquet"), Either(Runs(), Refused(("probes.parquet",)))),
    ("probes that are cut", _half("probes.parquet"), Either(Runs(), Refused(("probes.parquet",)))),
    ("no config", _gone("config.yaml"), Either(Runs(), Refused(("config.yaml",)))),
    ("a config that is cut", _half("config.yaml"), Either(Runs(), Refused(("config.yaml",)))),
    ("a config that is no YAML", _text("config.yaml", "a: [b: {"),
     Either(Runs(), Refused(("config.yaml",)))),
    ("a closed summary", lambda run: (run / _SUMMARY).chmod(0), Refused((_SUMMARY,))),
    ("closed edits", lambda run: (run / _EDITS).chmod(0), Either(Runs(), Refused((_EDITS,)))),
    ("a read-only run", lambda run: run.chmod(0o555), Runs()),
    ("a closed run", lambda run: run.chmod(0), Refused(("run",))),
    ("curves that are no table", _text("metrics.csv", "\0\0\0"),
     Either(Runs(), Refused(("metrics.csv",)))),
)  # fmt: skip


def _damaged(what: str, change: Callable[[Path], object], expected: Expected) -> Case:
    words = ("run", "--output", "report")
    return _report(
        f"a run with {what}", words, expected, runs=("run",),
        change_runs=lambda folder: change(folder / "run"),
    )  # fmt: skip


_TO = ("--output", "report")
_MISTAKES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("no words", (), ("--output",)),
    ("no runs", _TO, ("RESULT_DIR",)),
    ("no output", ("run",), ("--output",)),
    ("an unknown flag", ("run", *_TO, "--fast"), ("--fast",)),
    ("a run that is missing", ("nowhere", *_TO), ("nowhere",)),
    ("a run that is missing, in brackets", ("[/red]", *_TO), (r"\[/red\]",)),
    ("a pattern of nothing", ("runs/*", *_TO), (r"runs/\*",)),
    ("a run that is a file", ("data/records.json", *_TO), ("records.json",)),
    ("a run that is no run", ("data", *_TO), ("data",)),
    ("an empty name", ("", *_TO), ("",)),
    ("a label without a folder", ("--label", "a", *_TO), ("label",)),
    ("a label of nothing", ("--label", "a=", *_TO), ("label",)),
    ("a label without a name", ("--label", "=run", *_TO), ("label",)),
    ("a label of a missing folder", ("--label", "a=nowhere", *_TO), ("nowhere",)),
    ("300 letters", ("x" * 300, *_TO), ("x{100}",)),
    ("an output that is a file", ("run", "--output", "data/records.json"), ("records.json",)),
    ("an output in a file", ("run", "--output", "data/records.json/r"), ("records.json",)),
    ("an output of 300 letters", ("run", "--output", "x" * 300), ("x{100}",)),
    ("an output in /proc", ("run", "--output", "/proc/r"), ("/proc/r",)),
)


def _worded(what: str, words: tuple[str, ...], says: tuple[str, ...]) -> Case:
    return _report(what, words, Refused(says), runs=("run",))


def _places() -> list[Case]:
    closed = Refused(("closed",))
    into = ("run", "--output", "closed")
    return [
        _report("an output that is read-only", into, closed, runs=("run",), prepare=_folder(0o555)),
        _report("an output that is closed", into, closed, runs=("run",), prepare=_folder(0)),
        _report("an output that may not be made", ("run", "--output", "closed/r"), closed,
                runs=("run",), prepare=_folder(0o555)),
        _report("the same run twice", ("run", "run", *_TO), Runs(), runs=("run",)),
        _report("the same run in two spellings", ("run", "./run/", *_TO), Runs(), runs=("run",)),
        _report("an output with files of others", ("run", "--output", "data"), Runs(),
                runs=("run",), out="data"),
        _report("... with --overwrite", ("run", "--output", "data", "--overwrite"), Runs(),
                runs=("run",), out="data"),
        _report("an output that is the run", ("run", "--output", "run"), Runs(), runs=("run",),
                out="run"),
        _report("an output that is deep", ("run", "--output", "report/a/b"), Runs(), runs=("run",)),
    ]  # fmt: skip


def _folder(mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "closed").mkdir(mode=mode)
