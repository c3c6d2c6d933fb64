"""What one row of a report shows: one run, or the runs that differ in nothing but their seeds.

A row is called by its editor. Where several rows of one model would be called alike, what differs
is added, FT (lr=0.0001); a label of the command line is used instead. No two rows of a table have
the same name (`reporting.naming`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from metrics.bootstrap import Estimate
from metrics.seeds import Measured, over_seeds
from reporting.labels import editor_label
from results.folder import SEQUENTIAL, RunResult

TRAINING = "training"  # in the settings: those of the training that made the checkpoint
CKPT = "ckpt"
# Seeds of a run besides its own: what a method draws, and what its training drew. `data.seed` is
# none of them: it decides which edits are asked, and those have to be the same.
SEEDS = ("seed", "editor.seed", "training.seed")
# Of a run's settings, what says where it ran, or follows from others; the checkpoint is added by
# what is known of it.
_NO_SETTINGS = (
    *("data", "image_root", "prompt_templates", "known_facts", "device"),
    *(CKPT, "ckpt_digest"),
)
# The only choices once, which older results do not say; of editors that have no such option too.
_CHOSEN_ONCE: Mapping[str, object] = {
    "editor.teach_end": False, "editor.matrices": ["mlp_in", "mlp_out"],
    "editor.breadth_first": False, "editor.minibatch": 100,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        name: how it is called; no other row of its scenario, protocol and model is called so.
        runs: one a seed, by ascending seed; they agree in everything else.
        is_labelled: whether a label of the command line names it.
        differing: the settings that tell it from rows of the same editor and model, by key.
    """

    name: str
    runs: tuple[RunResult, ...]
    is_labelled: bool = False
    differing: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunResult) -> "Entry":
        """The row of a run that stands alone, called by its editor."""
        return cls(editor_label(run.editor), (run,))

    @property
    def first(self) -> RunResult:
        """The run with the lowest seed; what the runs have in common is read from it."""
        return self.runs[0]

    @property
    def editor(self) -> str:
        return self.first.editor

    @property
    def model(self) -> str:
        return self.first.model

    @property
    def scenario(self) -> str:
        return self.first.scenario

    @property
    def n_edits(self) -> int:
        return self.first.n_edits

    @property
    def folder(self) -> Path:
        return self.first.folder

    @property
    def protocol_name(self) -> str:
        return self.first.protocol_name

    @property
    def key(self) -> str:
        """The editor's option; with the name where that is another than the editor's."""
        is_plain = self.name == editor_label(self.editor)
        return self.editor if is_plain else f"{self.editor}/{self.name}"

    def fact(self, key: str) -> object:
        """As `RunResult.fact`; the runs agree in all but seeds."""
        return self.first.fact(key)

    @cached_property
    def metrics(self) -> dict[str, Measured]:
        """Named metrics in percent, in the order of the first run's file."""
        names = dict.fromkeys(name for run in self.runs for name in run.metrics)
        return {
            name: over_seeds([run.metrics[name] for run in self.runs if name in run.metrics])
            for name in names
        }

    @cached_property
    def variants(self) -> dict[str, Measured]:
        """What is told beside each metric, its gain and its parts; empty in earlier results."""
        names = dict.fromkeys(name for run in self.runs for name in run.variants)
        return {
            name: over_seeds([run.variants[name] for run in self.runs if name in run.variants])
            for name in names
        }

    def number(self, name: str) -> Measured | None:
        """What the runs cost by one attribute of theirs; None where one of them does not say."""
        values = [getattr(run, name) for run in self.runs]
        if any(value is None for value in values):
            return None
        return over_seeds([Estimate(value, value, value, 1) for value in values])

    @property
    def seeds(self) -> str:
        """The seeds of the runs in words: `seed 0`, or `training.seed 0, 1, 2`."""
        of_runs = [seeds_of(run) for run in self.runs]
        varying = [key for key in SEEDS if len({seeds.get(key) for seeds in of_runs}) > 1]
        return ", ".join(
            f"{key} {', '.join(str(seeds.get(key)) for seeds in of_runs)}"
            for key in varying or SEEDS[:1]
        )


def each_once(entries: Iterable[Entry]) -> list[Entry]:
    """The rows that some figures are of, each once, in the order in which they first come."""
    return list({id(entry): entry for entry in entries}.values())


def seeds_of(run: RunResult) -> dict[str, Any]:
    """The seeds that a run depends on, by key; those that it does not have are left out."""
    flat = _leaves(run.settings)
    return {"seed": run.seed} | {key: flat[key] for key in SEEDS[1:] if key in flat}


def settings_of(run: RunResult) -> dict[str, object]:
    """The settings that make a row: all that fixes a run's numbers but its seeds, by dotted key.

    A checkpoint counts by its training's settings and its file's name, so that trainings with
    several seeds are one row. Where the result does not hold them (it is of an older version),
    it counts by its content.
    """
    flat: dict[str, object] = {"data": run.data, "n_edits": run.n_edits}
    deciding = {key: value for key, value in run.settings.items() if key not in _NO_SETTINGS}
    flat |= {key: value for key, value in _leaves(deciding).items() if key not in SEEDS}
    flat["cluster"] = run.cluster
    if run.protocol_name == SEQUENTIAL:
        turn = (run.protocol or {}).get("turn", 1)  # older results: the only choice
        flat["protocol.turn"] = turn
    for key, once in _CHOSEN_ONCE.items():
        flat.setdefault(key, once)
    if isinstance(run.settings.get(TRAINING), dict):
        flat.setdefault("training.metrics.positions", "answer")  # older results: the only choice
        by = flat.get("training.data.filter_known")
        if isinstance(by, bool):  # older results
            flat["training.data.filter_known"] = "pictures" if by else "none"
    if run.settings.get(CKPT) is not None:
        known = isinstance(run.settings.get(TRAINING), dict)
        digest = run.settings.get("ckpt_digest") or run.settings[CKPT]
        flat[CKPT] = Path(str(run.settings[CKPT])).name if known else digest
    return flat


def differing_keys(runs: Iterable[RunResult]) -> list[str]:
    """The settings in which some runs differ, in the order of the first that has them."""
    of_runs = [settings_of(run) for run in runs]
    keys = dict.fromkeys(key for settings in of_runs for key in settings)
    return [key for key in keys if len({canonical(s.get(key)) for s in of_runs}) > 1]


def listed(names: Iterable[str]) -> str:
    """Names of rows in a sentence; semicolons between them where one of them holds a comma.

    >>> listed(["FT", "MEND"]), listed(["FT, slow", "MEND"])
    ('FT, MEND', 'FT, slow; MEND')
    """
    every = list(names)
    return ("; " if any("," in name for name in every) else ", ").join(every)


def canonical(value: object) -> str:
    """Equal for equal values, lists included."""
    return json.dumps(value, sort_keys=True, default=str)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key; None, which says as much as no such key, is left out."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
