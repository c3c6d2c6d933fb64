"""Where the engine's time goes: seconds of its parts, measured while a benchmark runs.

Functions that parts of the work go through are timed, each without what is timed inside it. What
none of them holds (packing, masks, losses, scores) is `other`. `data` is what makes the batch: text
to tokens and pictures to pixels, in this process and not ahead of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import torch

from benchmarks.cases import Case
from benchmarks.measure import one_turn, wait
from benchmarks.outcome import Line
from editors.ft.matrices import Matrices
from editors.ike import editor as ike
from editors.mend.editor import Mend
from editors.rome import editor as rome
from editors.serac.counterfactual import Counterfactual
from editors.serac.scope import Scope
from models.decoding import Decoding
from models.editable import EditableModel
from results.files import replacing

PARTS = ("data", "vision", "prefix", "suffix", "capture", "backward", "editor", "generation")
OTHER = "other"


class Clock:
    """Seconds of parts; a part inside another one is not counted twice.

    Attributes:
        seconds: by part.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device, self._open = device, list[str]()
        self._since = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted as a part's."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._inside(part):
                return function(*args, **kwargs)

        return call

    @contextmanager
    def _inside(self, part: str) -> Iterator[None]:
        self._count()
        # A gradient that is taken for an edit is part of the capture.
        self._open.append("capture" if "capture" in self._open else part)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        """Gives what has passed to the innermost part."""
        wait(self._device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def parts_of(case: Case) -> dict[str, float]:
    """Seconds of an edit by part, of a run of the engine with all edits side by side.

    Args:
        case: its engine has run before, so that what is done once is no part.
    """
    setting, device = case.setting, case.setting.device
    clock = Clock(device)
    with ExitStack() as stack:
        for owner, name, part in _functions(case.model):
            timed = clock.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        total = one_turn(case.engine, device)
    seconds = dict(clock.seconds)
    seconds[OTHER] = max(0.0, total - sum(seconds.values()))
    size = len(case.batch)
    seconds["data"] = one_turn(lambda: setting.batch(case.scenario, size), device)
    return {part: value / size for part, value in seconds.items()}


def draw(lines: Sequence[Line], path: Path) -> None:
    """Stacked bars of the parts' shares, a bar for each benchmark.

    Args:
        lines: with `parts`; others are left out.
        path: of the picture; its suffix says the format.

    Raises:
        UnwritableError: it cannot be written.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [line for line in lines if line.parts]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.42 * len(shown)), layout="constrained")
    left = [0.0] * len(shown)
    names = [f"{line.name} ({_units(line):.2f})" for line in shown]
    for number, part in enumerate((*PARTS, OTHER)):
        shares = [100 * line.parts.get(part, 0.0) / sum(line.parts.values()) for line in shown]
        color = "0.8" if part == OTHER else f"C{number}"
        axes.barh(names, shares, left=left, label=part, color=color)
        left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the time of an edit (in brackets: bare forward passes)")
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def _units(line: Line) -> float:
    return sum(line.parts.values()) / line.unit


def _functions(model: EditableModel) -> list[tuple[Any, str, str]]:
    """(owner, name, part) of what is timed."""
    passes: Mapping[str, str] = {
        "prefix": "prefix", "suffix": "suffix", "answer_state": "prefix",
        "finish_answers": "suffix", "capture": "capture", "read": "editor",
    }  # fmt: skip
    return [
        (type(model), "picture_features", "vision"),
        *((EditableModel, name, part) for name, part in passes.items()),
        (torch.autograd, "grad", "backward"),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.Adam, "step", "editor"),
        (Matrices, "step", "editor"),
        (Mend, "deltas", "editor"),
        (Counterfactual, "forward", "editor"),
        (Scope, "embed", "editor"),
        (rome, "rest", "prefix"),
        (ike, "answer_with_shared_prefix", "suffix"),
        (Decoding, "__init__", "generation"),
        (Decoding, "first", "generation"),
        (Decoding, "step", "generation"),
    ]
